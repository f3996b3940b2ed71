"""The points of a run at which it is killed."""

from collections.abc import Callable
import contextlib
import os
import pathlib
import re
import shutil
from typing import NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache

from lfr_darts_jax.report import misclassified, page
from lfr_darts_jax.runtime import metrics, workdir as workdirs
from lfr_darts_jax.runtime.checkpoint import Checkpoints
from lfr_darts_jax.runtime.progress import Progress
from lfr_darts_jax.search import bilevel, growth, stages
from lfr_darts_jax.search.hooks import SearchLogger
from lfr_darts_jax.training.train import TrainState
from tests.chaos.strike import Strike


class Point(NamedTuple):
  """One of them.

  Attributes:
    install: makes it the point of a strike.
    occurrences: a kill comes at one of so many first arrivals of a process.
    seconds: how long what happens there takes, about; None where it is over at once.
    torn: whether half of it can be done.
  """

  install: Callable[[Strike], None]
  occurrences: int = 1
  seconds: float | None = None
  torn: bool = False


def _wait(beginning: str, cold: bool = False) -> Callable[[Strike], None]:
  """The waits that the terminal announces so; `cold` ones find no compiled program in the cache."""

  def install(strike):
    original = Progress.waiting

    @contextlib.contextmanager
    def struck(progress, text):
      ready = _forget_compiled if cold else lambda: None
      with original(progress, text), strike.around(text.startswith(beginning), ready=ready):
        yield

    Progress.waiting = struck  # type: ignore[method-assign]

  return install


def _forget_compiled():
  jax.config.update("jax_enable_compilation_cache", False)
  # JAX asks once only whether there is a cache.
  compilation_cache.reset_cache()


def _file(name: str) -> Callable[[Strike], None]:
  """The move into place of a file that was written under a temporary name."""
  due = lambda source, target: pathlib.Path(target).name == name
  halve = lambda source, target: os.truncate(source, os.path.getsize(source) // 2)
  return lambda strike: strike.at(os, "replace", due, halve)


def _save(phase: str) -> Callable[[Strike], None]:
  return lambda strike: strike.at(Checkpoints, "save", lambda saved, *_: saved._directory.name == phase)


def _commit(phase: str) -> Callable[[Strike], None]:
  return lambda strike: strike.at(os, "rename", lambda source, target: _is_step(target, phase))


def _removal(phase: str) -> Callable[[Strike], None]:
  first = lambda path, *_: next(p for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()).unlink()
  doomed = lambda path, *_: re.fullmatch(r"\.\d+\.partial", path.name) is not None and path.parent.name == phase
  return lambda strike: strike.at(shutil, "rmtree", lambda path, *_: doomed(pathlib.Path(path)), first)


def _is_step(path, phase):
  path = pathlib.Path(path)
  return path.name.isdigit() and path.parent.name == phase


def _line(strike: Strike) -> None:
  def half(written, *_):
    with written._path.open("a") as file:
      file.write('{"phase": "sea')

  strike.at(metrics.Metrics, "write", tear=half)


def _pruning(strike: Strike) -> None:
  """A round's, not the derivation at the end of a stage."""
  due = lambda made, position, state, reduced: not all(cell.derived for cell in reduced.values())
  strike.at(stages.Stages, "narrow", due)


def _page(final: bool) -> Callable[[Strike], None]:
  return lambda strike: strike.at(page, "write", lambda workdir: (workdir / workdirs.RESULT).exists() == final)


def _training(strike: Strike) -> None:
  strike.at(jax.stages.Compiled, "__call__", lambda compiled, *args: isinstance(args[0], TrainState))


# In the order of a run.
POINTS = {
  "building a supernet": Point(_wait("building a supernet"), 2, 0.5),
  "compiling a supernet": Point(_wait("compiling a supernet", cold=True), 3, 4.0),
  "search update": Point(lambda strike: strike.at(bilevel.SearchSteps, "run"), 6, 0.05),
  "line of metrics": Point(_line, 10, torn=True),
  "search checkpoint": Point(_save(workdirs.SEARCH), 6, 0.2),
  "search checkpoint, rename": Point(_commit(workdirs.SEARCH), 6),
  "removing a search checkpoint": Point(_removal(workdirs.SEARCH), 4, torn=True),
  "pruning": Point(_pruning, 4),
  "pruning, written down": Point(lambda strike: strike.at(SearchLogger, "pruned"), 2),
  "testing the supernet": Point(_wait("testing the supernet"), 2, 0.3),
  "deriving a cell": Point(lambda strike: strike.at(growth, "drop_pruned"), 4),
  "derived cell, written down": Point(lambda strike: strike.at(SearchLogger, "outcome"), 2),
  "deepening": Point(lambda strike: strike.at(growth, "inherit"), 4),
  "genotype.json": Point(_file(workdirs.GENOTYPE), torn=True),
  "page of the search": Point(_page(final=False), 1, 1.5),
  "rewinding the metrics": Point(_file(metrics.NAME), torn=True),
  "compiling the training": Point(_wait("compiling the training", cold=True), 1, 6.0),
  "training update": Point(_training, 4, 0.1),
  "training checkpoint": Point(_save(workdirs.CHECKPOINTS), 4, 0.2),
  "training checkpoint, rename": Point(_commit(workdirs.CHECKPOINTS), 4),
  "removing a training checkpoint": Point(_removal(workdirs.CHECKPOINTS), 2, torn=True),
  "testing": Point(_wait("testing on"), 1, 0.3),
  "mistakes.npz": Point(_file(misclassified.NAME), torn=True),
  "result.json": Point(_file(workdirs.RESULT), torn=True),
  "page": Point(_page(final=True), 1, 1.5),
}
