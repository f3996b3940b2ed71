"""What a search tells after every chunk: numbers gone wrong, metrics, signs of collapse, the line on the terminal."""

from collections.abc import Sequence
import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
import ml_collections
import msgspec

from lfr_darts_jax.runtime import session as sessions
from lfr_darts_jax.runtime.metrics import OUTCOME, PRUNED, STRENGTHS
from lfr_darts_jax.runtime.session import ChunkResult, Session
from lfr_darts_jax.search import diagnostics, plans
from lfr_darts_jax.search.bilevel import TRAIN, VALIDATION
from lfr_darts_jax.search.pruning import Pruner
from lfr_darts_jax.search.relaxation import entropy
from lfr_darts_jax.search.state import SearchPosition, SearchState
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import LAYER, CellSpec
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.search_space.operation_names import SKIP_CONNECT

SNAPSHOTS = 100  # Of the alphas in a stage, about; enough to draw their course.


def check(position: SearchPosition, result: ChunkResult) -> None:
  """Raises NotFinite where losses or alphas are not finite."""
  sessions.check_finite(result, {"alphas": result.state.alphas}, result.sums.loss)


def check_least_entropy(value: Any) -> None:
  """Raises ValueError where a checkpoint's shares of entropy are none."""
  msgspec.convert(value, dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]])


class SearchLogger:
  """Logs the metrics of one search, and looks for signs of collapse.

  Attributes:
    findings: the last diagnosis of every stage.
    least_entropy: per searched cell, the least share of this stage, see `diagnostics`.
  """

  def __init__(self, config: ml_collections.ConfigDict, plan: plans.Plan, total: int, pruner: Pruner, session: Session):
    """Opens the logger.

    Args:
      config: the config.
      plan: of the search.
      total: steps of every stage.
      pruner: tells mixtures and cells.
      session: where it writes and prints.
    """
    self._config, self._plan, self._total, self._pruner = config, plan, total, pruner
    self._session = session
    self.findings: list[diagnostics.Finding] = []
    self.least_entropy: dict[str, float] = {}
    self._told: set[tuple[int, str, str]] = set()

  def resume(self, position: SearchPosition, step: int, least_entropy: dict[str, float]) -> None:
    """Goes on from a step of a position's stage; what was logged beyond it is dropped.

    Raises:
      Collapsed: where the search has, and is not to go on.
    """
    event_step = position.stage * self._total + step
    entries = self._session.metrics.rewind("search", position.stage, step, event_step, position.rounds)
    self.findings, self.least_entropy = diagnostics.latest(entries), dict(least_entropy)
    self.stop_if_collapsed()

  def begin_stage(self) -> None:
    """Begins a stage."""
    self.least_entropy = {}

  @property
  def collapsed(self) -> bool:
    """Whether the search is to be stopped."""
    return self._config.search.stop_on_collapse and bool(self.findings)

  def stop_if_collapsed(self) -> None:
    """Raises Collapsed where the search is to be stopped."""
    diagnostics.stop_if_collapsed(self._config.search, self.findings)

  def log(self, position: SearchPosition, result: ChunkResult) -> None:
    """Writes what a chunk measured; from time to time, the mixtures and a diagnosis."""
    values: dict[str, Any] = self._averages(result)
    interval = -(-self._total // SNAPSHOTS)
    if result.start // interval != result.stop // interval:
      mixtures = self._pruner.mixtures(result.state)
      values |= {f"alphas/{name}": mixture for name, mixture in mixtures.items()}
      if result.sums.batches[VALIDATION]:
        values |= self._diagnose(position, result.state)
    self._write(position.stage, result.stop, values)

  def show(self, position: SearchPosition, result: ChunkResult) -> None:
    """Shows where the search stands."""
    stages, epochs = len(self._plan.stages), self._config.search.epochs
    averages = self._averages(result)
    figures = [
      f"{split} loss {averages[f'{split}_loss']:.3f} accuracy {averages[f'{split}_accuracy']:.3f}"
      for split in ("train", "validation")
      if f"{split}_loss" in averages
    ]
    images = result.sums.batches.sum() * self._config.search.batch_size
    searched = "+".join(self._plan.stages[position.stage].searched)
    where = (
      f"search {position.stage + 1}/{stages} {searched} | epoch {-(-result.stop * epochs // self._total)}/{epochs}"
    )
    left = (stages - position.stage) * self._total - result.stop
    figures.append(f"{images / result.seconds:.0f} images/s")
    self._session.progress.advance(result.stop - result.start, result.seconds, left, where, " | ".join(figures))

  def pruned(self, stage: int, step: int, count: int, cells: Sequence[CellSpec]) -> None:
    """Writes a round of pruning: operations kept per edge, and which."""
    self._write(stage, step, {PRUNED: count, **_candidates(cells)})

  def outcome(
    self, position: SearchPosition, state: SearchState, reduced: Sequence[CellSpec], accuracy: float | None
  ) -> None:
    """Writes and says what a stage ended with.

    Args:
      position, state: at the end of its steps.
      reduced: the cells that it searched, reduced to what it keeps.
      accuracy: of the supernet on the images that move the alphas, from 0 to 1; None where it was not tested.
    """
    values: dict[str, Any] = {} if accuracy is None else {"validation_accuracy": accuracy}
    lines, stage = [], self._plan.stages[position.stage]
    mixtures = self._pruner.mixtures(state)
    for cell in reduced:
      uncertainty = float(entropy(jnp.asarray(mixtures[cell.name])).mean())
      values |= {
        f"alphas/{cell.name}": mixtures[cell.name],
        **_candidates([cell]),
        f"{OUTCOME}{cell.name}": uncertainty,
      }
      # Of alphas that never move nothing is told, unless they are what the cell is derived by.
      decides = stage.keep is not None or stage.moves(self._total)
      told = [str(cell), f"entropy {uncertainty:.3f}"] if decides else [f"{cell.name}: weights trained"]
      if cell.kind != LAYER:
        values[f"skip_connects/{cell.name}"] = cell.count(SKIP_CONNECT)
        told.append(f"{cell.count(SKIP_CONNECT)} skip_connects")
      if accuracy is not None:
        told.append(f"validation accuracy {100 * accuracy:.1f} %")
      lines.append(" | ".join(told))
    values |= self._diagnose(position, state, ended=True, lines=lines)
    self._write(position.stage, self._total, values)

  def measured(self, position: SearchPosition) -> None:
    """Writes and says the strengths that the losses of random paths gave, see `measured`."""
    operations = spaces.operations(self._config)
    self._write(position.stage, self._total, {f"{STRENGTHS}{name}": rows for name, rows in position.strengths.items()})
    for name, (row,) in position.strengths.items():
      told = ", ".join(f"{operation} {strength:.3f}" for operation, strength in zip(operations, row, strict=True))
      self._session.progress.say(f"{name}: strengths by loss: {told}")

  def chosen(self, genotype: Genotype) -> None:
    """Says the network where its choice fell at the end of the search, and no stage has told it."""
    if self._plan.stages[-1].keep is not None and not self._config.search.budget:
      return
    layers = [cell.candidates[0][0] for cell in genotype.cells if cell.kind == LAYER]
    cells = "\n".join(map(str, genotype.cells))
    self._session.progress.say(f"chosen: {' '.join(layers)}" if layers else f"chosen:\n{cells}")

  def _diagnose(
    self, position: SearchPosition, state: SearchState, ended: bool = False, lines: Sequence[str] = ()
  ) -> dict[str, Any]:
    """Replaces the findings of a stage, says lines and what is new, and returns what to write."""
    mixtures, findings = self._pruner.mixtures(state), []
    operations = spaces.operations(self._config)
    moved = self._plan.stages[position.stage].moves(self._total)  # Alphas that never move are no sign of anything.
    for cell, derived in zip(self._searched(position), self._pruner.derive(position, state).values(), strict=True):
      share = diagnostics.entropy_share(cell, mixtures[cell.name], operations)
      least = self.least_entropy[cell.name] = min(share, self.least_entropy.get(cell.name, 1.0))
      if moved:
        findings += diagnostics.diagnose(position.stage, derived, least, self._config.search, ended)
    self.findings = [f for f in self.findings if f.iteration != position.stage] + findings
    new = [f for f in findings if (f.iteration, f.cell, f.criterion) not in self._told]
    self._told |= {(f.iteration, f.cell, f.criterion) for f in new}
    for text in ["\n".join(lines)] * bool(lines) + [f"{f.text} ({f.source})" for f in new]:
      self._session.progress.say(text)
    return {"collapse": [dataclasses.asdict(finding) for finding in findings]}

  def _searched(self, position: SearchPosition) -> list[CellSpec]:
    return [cell for cell in position.cells if cell.name in self._plan.stages[position.stage].searched]

  def _averages(self, result: ChunkResult) -> dict[str, float]:
    loss, accuracy, count, gradients = result.sums
    values: dict[str, float] = {}
    for name, split in (("train", TRAIN), ("validation", VALIDATION)):
      if count[split]:
        values |= {f"{name}_loss": loss[split] / count[split], f"{name}_accuracy": accuracy[split] / count[split]}
    if count[VALIDATION]:
      values |= {f"alpha_gradient/{name}": norm / count[VALIDATION] for name, norm in gradients.items()}
    return values

  def _write(self, stage: int, step: int, values: dict[str, Any]) -> None:
    self._session.metrics.write("search", stage, step, values, stage * self._total + step)


def _candidates(cells: Sequence[CellSpec]) -> dict[str, Any]:
  return {f"candidates/{cell.name}": [list(names) for names in cell.candidates] for cell in cells}
