"""What a work directory tells of its run, finished or not; read without its data set."""

import dataclasses
from typing import Any

import ml_collections
import numpy as np

from lfr_darts_jax import collapse
from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import kept
from lfr_darts_jax import metrics
from lfr_darts_jax import plans
from lfr_darts_jax import reading
from lfr_darts_jax import seeds
from lfr_darts_jax import workdir as places
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.report import mistakes
from lfr_darts_jax.storage import Path


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
    findings: signs of collapse.
    training: scalars of the final training.
    genotype: the derived cells, None before the search is done.
    search_seconds: time of the search, None before it is done and where there was none.
    result: what `result.json` holds, None before the test.
    seeds: the outcomes of all its searches where it has several and they are done.
    mistakes: a sample of wrong test images, None before the test.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  commands: tuple[str, ...]
  plan: plans.Plan
  search: tuple[Series, ...]
  courses: tuple[dict[str, Course], ...]
  outcomes: tuple[dict[str, Outcome], ...]
  findings: tuple[collapse.Finding, ...]
  training: Series
  genotype: genotypes.Genotype | None
  search_seconds: float | None
  result: dict[str, Any] | None
  seeds: tuple[seeds.Searched, ...]
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
      f"after {max(self.search[-1].steps, default=0)} updates"
    )


def read(workdir: Path) -> Record:
  """Reads a work directory, at any time.

  Raises:
    UsageError: where no run was begun in it, or one of its files can't be read.
  """
  config = kept.config(workdir)
  plan = plans.make(config)
  entries = metrics.read(workdir)
  searched = _by_iteration(entries, plan)
  by_name = {cell.name: cell for cell in plan.cells}
  return Record(
    workdir,
    config,
    places.commands(workdir),
    plan,
    tuple(_series(es) for es in searched),
    tuple(
      {n: _course(es, by_name[n], config.search.operations) for n in plan.iterations[i].searched}
      for i, es in enumerate(searched)
    ),
    tuple(
      {n: _outcome(es[-1], by_name[n]) for n in plan.iterations[i].searched}
      for i, es in enumerate(searched)
      if f"entropy/{plan.iterations[i].searched[0]}" in es[-1]
    ),
    tuple(collapse.latest(entries)),
    _series([e for e in entries if e["phase"] == "train"]),
    kept.genotype(workdir),
    kept.search_seconds(workdir),
    kept.result(workdir, config),
    tuple(seeds.read(workdir)),
    mistakes.load(workdir, config),
  )


def _by_iteration(entries, plan):
  """The entries of every iteration begun."""
  search = [e for e in entries if e["phase"] == "search"]
  begun = sorted({e["iteration"] for e in search})
  if begun != list(range(min(len(begun), len(plan.iterations)))):
    raise UsageError(
      f"{metrics.NAME}: search of iterations {short(begun)}; allowed are those from 0 to {len(plan.iterations) - 1}, "
      "none left out"
    )
  return [[e for e in search if e["iteration"] == i] for i in begun]


def _value(entry, key, shape=(), integers=False):
  at = f"{metrics.NAME}: {entry['phase']}, iteration {entry['iteration']}, step {entry['step']}: {key}"
  return reading.numbers(entry.get(key), at, shape, integers=integers)


def _series(entries):
  measured = [e for e in entries if "train_loss" in e]
  names = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
  values = {n: np.array([_value(e, n) if n in e else np.nan for e in measured], float) for n in names}
  return Series(np.array([e["step"] for e in measured], int), values)


def _course(entries, cell, operations):
  key = f"alphas/{cell.name}"
  # The last entry of an iteration repeats the alphas of its last update.
  taken = [e for e in entries if key in e and f"entropy/{cell.name}" not in e] or [e for e in entries if key in e]
  shape = len(cell.candidates), len(operations)
  steps, weights = np.array([e["step"] for e in taken], int), np.array([_value(e, key, shape) for e in taken], float)
  prunings = tuple((e["step"], int(_value(e, "pruned_to", integers=True))) for e in entries if "pruned_to" in e)
  return Course(steps, weights, prunings)


def _outcome(entry, full):
  name = full.name
  kept_operations = entry.get(f"candidates/{name}")
  try:
    candidates = tuple(map(tuple, kept_operations))
    known = all(set(some) <= set(every) for some, every in zip(candidates, full.candidates, strict=True))
  except (TypeError, ValueError):  # No lists, no names, or another number of edges.
    known = False
  if not known:
    raise UsageError(
      f"{metrics.NAME}: iteration {entry['iteration']}: candidates/{name}: {short(kept_operations)}; allowed are lists "
      f"of operations of the config, one for each of {len(full.candidates)} edges"
    )
  return Outcome(
    dataclasses.replace(full, candidates=candidates),
    float(_value(entry, f"entropy/{name}")),
    int(_value(entry, f"skip_connects/{name}", integers=True)),
    float(_value(entry, "validation_accuracy")),
  )
