"""What a work directory tells of its run, finished or not; read without its data set."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from lfr_darts_jax.errors import UsageError, short
from lfr_darts_jax.report import misclassified
from lfr_darts_jax.runtime import json_io, metrics, workdir as workdirs
from lfr_darts_jax.runtime.metrics import OUTCOME, PRUNED, STRENGTHS, Entry
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search import diagnostics, multi_seed, plans
from lfr_darts_jax.search_space import formats, spaces
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import result as results

SCALARS = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")


@dataclasses.dataclass(frozen=True)
class Scalars:
  """Values over the steps of a phase: `steps` `[n]`, and by name `[n]` each, nan where a step has none."""

  steps: np.ndarray
  values: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class AlphaHistory:
  """How the alphas of one cell developed.

  Attributes:
    steps: `[n]`.
    mixtures: `[n, edges, operations]`; zero for pruned operations.
    prunings: (step, operations kept per edge).
  """

  steps: np.ndarray
  mixtures: np.ndarray
  prunings: tuple[tuple[int, int], ...]

  @property
  def entropy(self) -> np.ndarray:
    """`[n]` mean over the edges, in nats."""
    mixtures = self.mixtures
    return -np.sum(mixtures * np.log(np.where(mixtures > 0, mixtures, 1)), axis=2).mean(axis=1)

  def strongest(self, column: int) -> np.ndarray:
    """`[n]` edges on which the operation has the largest weight."""
    return (self.mixtures.argmax(axis=2) == column).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class StageResult:
  """What a stage ended with for one cell: the cell, and the figures it was judged by."""

  cell: CellSpec
  entropy: float
  skip_connects: int | None
  validation_accuracy: float | None


@dataclasses.dataclass(frozen=True)
class Run:
  """A run as its work directory tells it.

  Attributes:
    workdir: the directory.
    config: its config.
    commands: the command lines that made it.
    plan: its plan, empty where nothing was searched yet.
    search: of every stage begun, its scalars.
    histories: by stage begun, then by cell.
    stage_results: by stage ended, then by cell.
    strengths: of every layer's choices, as the losses of random paths gave them; empty where nothing was so measured.
    findings: signs of collapse.
    training: scalars of the final training.
    genotype: the derived cells, None before the search is done.
    search_seconds: time of the search, None before it is done and where there was none.
    result: what `result.json` holds, None before the test.
    seeds: the outcomes of all its searches where it has several and they are done.
    misclassified: a sample of wrong test images, None before the test.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  commands: tuple[str, ...]
  plan: plans.Plan
  search: tuple[Scalars, ...]
  histories: tuple[dict[str, AlphaHistory], ...]
  stage_results: tuple[dict[str, StageResult], ...]
  strengths: dict[str, tuple[float, ...]]
  findings: tuple[diagnostics.Finding, ...]
  training: Scalars
  genotype: Genotype | None
  search_seconds: float | None
  result: results.Result | None
  seeds: tuple[multi_seed.Searched, ...]
  misclassified: misclassified.Sample | None

  @property
  def cells(self) -> tuple[CellSpec, ...]:
    """The cells derived so far, shallow to deep."""
    if self.genotype is not None:
      return self.genotype.cells
    latest = {name: result.cell for stage in self.stage_results for name, result in stage.items()}
    return tuple(cell for cell in latest.values() if cell.derived)

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
    searched = " and ".join(self.plan.stages[len(self.search) - 1].searched)
    return (
      f"in the search, iteration {len(self.search)} of {len(self.plan.stages)} ({searched}), "
      f"after {max(self.search[-1].steps, default=0)} updates"
    )


def read(workdir: Path) -> Run:
  """Reads a work directory, at any time.

  Raises:
    UsageError: where no run was begun in it, or one of its files can't be read.
  """
  config = workdirs.load_config(workdir)
  entries = metrics.read(workdir)
  # A given genotype is held to no plan.
  plan = plans.make(config) if any(e["phase"] == "search" for e in entries) else plans.Plan((), ())
  begun = list(zip(plan.stages, _by_stage(entries, plan), strict=False))
  cells = {cell.name: cell for cell in plan.cells}
  ended = [(stage, e) for stage, own in begun for e in own if f"{OUTCOME}{stage.searched[0]}" in e]
  summary = multi_seed.read_summary(workdir)
  return Run(
    workdir,
    config,
    workdirs.commands(workdir),
    plan,
    tuple(_scalars(own) for _, own in begun),
    tuple({n: _history(own, cells[n], spaces.operations(config)) for n in stage.searched} for stage, own in begun),
    tuple({n: _stage_result(entry, cells[n]) for n in stage.searched} for stage, entry in ended),
    _strengths(entries, spaces.operations(config)),
    tuple(diagnostics.latest(entries)),
    _scalars([e for e in entries if e["phase"] == "train"]),
    formats.load(workdir / workdirs.GENOTYPE) if (workdir / workdirs.GENOTYPE).exists() else None,
    summary.search_seconds if summary else None,
    results.load(workdir, config),
    tuple(multi_seed.read(workdir)),
    misclassified.load(workdir, config),
  )


def _by_stage(entries: Sequence[Entry], plan: plans.Plan) -> list[list[Entry]]:
  """The entries of every stage begun."""
  search = [e for e in entries if e["phase"] == "search"]
  begun = sorted({e["iteration"] for e in search})
  if begun != list(range(min(len(begun), len(plan.stages)))):
    raise UsageError(
      f"{metrics.NAME}: search of iterations {short(begun)}; allowed are those from 0 to {len(plan.stages) - 1}, "
      "none left out"
    )
  return [[e for e in search if e["iteration"] == i] for i in begun]


def _value(entry: Entry, key: str, kind: Any = float) -> Any:
  at = f"{metrics.NAME}: {entry['phase']}, iteration {entry['iteration']}, step {entry['step']}: {key}"
  return json_io.convert(entry.get(key), kind, at)


def _scalars(entries: Sequence[Entry]) -> Scalars:
  measured = [e for e in entries if "train_loss" in e]
  values = {n: np.array([_value(e, n, float | None) for e in measured], float) for n in SCALARS}
  return Scalars(np.array([e["step"] for e in measured], int), values)


def _history(entries: Sequence[Entry], cell: CellSpec, operations: Sequence[str]) -> AlphaHistory:
  key = f"alphas/{cell.name}"
  # The last entry of a stage repeats the alphas of its last step.
  taken = [e for e in entries if key in e and f"{OUTCOME}{cell.name}" not in e] or [e for e in entries if key in e]
  found = [_value(e, key, list[list[float]]) for e in taken]
  if any(len(rows) != len(cell.candidates) or any(len(row) != len(operations) for row in rows) for rows in found):
    shape = f"{len(cell.candidates)}x{len(operations)}"
    raise UsageError(f"{metrics.NAME}: {key}: of another shape; allowed are {shape} numbers, as the config says")
  prunings = tuple((e["step"], _value(e, PRUNED, int)) for e in entries if PRUNED in e)
  mixtures = np.array(found, float).reshape(-1, len(cell.candidates), len(operations))
  return AlphaHistory(np.array([e["step"] for e in taken], int), mixtures, prunings)


def _strengths(entries: Sequence[Entry], operations: Sequence[str]) -> dict[str, tuple[float, ...]]:
  found = {}
  for entry in entries:
    for key in (key for key in entry if key.startswith(STRENGTHS)):
      (row,) = _value(entry, key, tuple[tuple[float, ...]])
      if len(row) != len(operations):
        raise UsageError(f"{metrics.NAME}: {key}: {short(row)}; allowed are {len(operations)} numbers, one per block")
      found[key.removeprefix(STRENGTHS)] = row
  return found


def _stage_result(entry: Entry, full: CellSpec) -> StageResult:
  name = full.name
  candidates = _value(entry, f"candidates/{name}", tuple[tuple[str, ...], ...])
  pairs = zip(candidates, full.candidates, strict=False)
  if len(candidates) != len(full.candidates) or not all(set(some) <= set(every) for some, every in pairs):
    raise UsageError(
      f"{metrics.NAME}: iteration {entry['iteration']}: candidates/{name}: {short(candidates)}; allowed are lists "
      f"of operations of the config, one for each of {len(full.candidates)} edges"
    )
  return StageResult(
    dataclasses.replace(full, candidates=candidates),
    _value(entry, f"{OUTCOME}{name}"),
    _value(entry, f"skip_connects/{name}", int | None),
    _value(entry, "validation_accuracy", float | None),
  )
