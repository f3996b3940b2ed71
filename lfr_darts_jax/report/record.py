"""What a work directory tells of its run, finished or not; read without its data set."""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import metrics
from lfr_darts_jax import plans
from lfr_darts_jax import workdir as places
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.report import mistakes


@dataclasses.dataclass(frozen=True)
class Series:
  """Values over the updates of a phase: `steps` `[n]`, and by name `[n]` each, nan where a step has none."""

  steps: np.ndarray
  values: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Course:
  """How the alphas of one cell developed.

  Attributes:
    steps: `[n]` updates.
    weights: `[n, edges, operations]`, the softmax; zero for pruned operations.
    prunings: (update, operations kept per edge).
  """

  steps: np.ndarray
  weights: np.ndarray
  prunings: tuple[tuple[int, int], ...]

  @property
  def entropy(self) -> np.ndarray:
    """`[n]` mean over the edges, in nats."""
    weights = self.weights
    return -np.sum(weights * np.log(np.where(weights > 0, weights, 1)), axis=2).mean(axis=1)

  def strongest(self, column: int) -> np.ndarray:
    """`[n]` edges whose largest weight is the operation's."""
    return (self.weights.argmax(axis=2) == column).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What an iteration ended with for one cell: the cell, and the figures it was judged by."""

  cell: Cell
  entropy: float
  skip_connects: int
  validation_accuracy: float


@dataclasses.dataclass(frozen=True)
class Record:
  """A run as its work directory tells it.

  Attributes:
    workdir: the directory.
    config: its config.
    commands: the command lines that made it.
    plan: its plan.
    search: of every iteration begun, its scalars.
    courses: by iteration begun, then by cell.
    outcomes: by iteration ended, then by cell.
    training: scalars of the final training.
    genotype: the derived cells, None before the search is done.
    search_seconds: time of the search, None before it is done and where there was none.
    result: what `result.json` holds, None before the test.
    mistakes: a sample of wrong test images, None before the test.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict
  commands: tuple[str, ...]
  plan: plans.Plan
  search: tuple[Series, ...]
  courses: tuple[dict[str, Course], ...]
  outcomes: tuple[dict[str, Outcome], ...]
  training: Series
  genotype: genotypes.Genotype | None
  search_seconds: float | None
  result: dict[str, Any] | None
  mistakes: mistakes.Mistakes | None

  @property
  def cells(self) -> tuple[Cell, ...]:
    """The cells derived so far, shallow to deep."""
    if self.genotype is not None:
      return self.genotype.cells
    latest = {name: outcome.cell for outcomes in self.outcomes for name, outcome in outcomes.items()}
    return tuple(cell for name, cell in latest.items() if cell.derived)

  @property
  def status(self) -> str:
    """Where the run stands, in words."""
    if self.result is not None:
      return "done"
    if len(self.training.steps):
      return f"in the final training, after {self.training.steps[-1]} updates"
    if self.genotype is not None:
      return "a genotype, not trained yet"
    if not self.search:
      return "begun, nothing measured yet"
    searched = " and ".join(self.plan.iterations[len(self.search) - 1].searched)
    return (
      f"in the search, iteration {len(self.search)} of {len(self.plan.iterations)} ({searched}), "
      f"after {self.search[-1].steps[-1]} updates"
    )


def read(workdir: pathlib.Path) -> Record:
  """Reads a work directory, at any time.

  Raises:
    UsageError: where no run was begun in it.
  """
  if not (workdir / places.CONFIG).is_file():
    raise UsageError(f"workdir: {workdir} has no {places.CONFIG}; allowed is the directory of a run")
  config = schema.unflatten(json.loads((workdir / places.CONFIG).read_text()))
  plan = plans.make(config)
  entries = metrics.read(workdir)
  searched = [[e for e in entries if e["phase"] == "search" and e["iteration"] == i] for i in _iterations(entries)]
  by_name = {cell.name: cell for cell in plan.cells}
  genotype, commands = workdir / places.GENOTYPE, workdir / places.COMMANDS
  summary, result = (_json(workdir / name) for name in (places.SEARCH_SUMMARY, places.RESULT))
  return Record(
    workdir,
    config,
    tuple(commands.read_text().splitlines()) if commands.exists() else (),
    plan,
    tuple(_series(es) for es in searched),
    tuple({n: _course(es, n) for n in plan.iterations[i].searched} for i, es in enumerate(searched)),
    tuple(
      {n: _outcome(es[-1], by_name[n]) for n in plan.iterations[i].searched}
      for i, es in enumerate(searched)
      if f"entropy/{plan.iterations[i].searched[0]}" in es[-1]
    ),
    _series([e for e in entries if e["phase"] == "train"]),
    genotypes.parse(genotype.read_text()) if genotype.exists() else None,
    summary["search_seconds"] if summary else None,
    result,
    mistakes.load(workdir),
  )


def _json(path):
  return json.loads(path.read_text()) if path.exists() else None


def _iterations(entries):
  return sorted({e["iteration"] for e in entries if e["phase"] == "search"})


def _series(entries):
  measured = [e for e in entries if "train_loss" in e]
  names = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
  values = {n: np.array([e.get(n, np.nan) for e in measured], float) for n in names}
  return Series(np.array([e["step"] for e in measured], int), values)


def _course(entries, name):
  key = f"alphas/{name}"
  # The last entry of an iteration repeats the alphas of its last update.
  taken = [e for e in entries if key in e and f"entropy/{name}" not in e] or [e for e in entries if key in e]
  steps, weights = np.array([e["step"] for e in taken], int), np.array([e[key] for e in taken], float)
  return Course(steps, weights, tuple((e["step"], e["pruned_to"]) for e in entries if "pruned_to" in e))


def _outcome(entry, full):
  name = full.name
  cell = dataclasses.replace(full, candidates=tuple(map(tuple, entry[f"candidates/{name}"])))
  return Outcome(cell, entry[f"entropy/{name}"], entry[f"skip_connects/{name}"], entry["validation_accuracy"])
