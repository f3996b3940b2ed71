"""What a search tells while it goes on: scalars, alphas and prunings to the metrics, lines to the terminal."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from lfr_darts_jax import bilevel
from lfr_darts_jax import collapse
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.metrics import OUTCOME
from lfr_darts_jax.metrics import Metrics
from lfr_darts_jax.progress import Progress
from lfr_darts_jax.relaxation import entropy

SNAPSHOTS = 100  # Of the alphas in an iteration, about; enough to draw their course.


class Journal:
  """Writes down the course of one search.

  Attributes:
    findings: the last judgement of every iteration, see `collapse`.
  """

  def __init__(self, metrics: Metrics, progress: Progress, updates: int):
    """Opens the journal.

    Args:
      metrics: where scalars go.
      progress: the line on the terminal.
      updates: in every iteration.
    """
    self._metrics, self._progress, self._updates = metrics, progress, updates
    self.findings: list[collapse.Finding] = []
    self._told: set[tuple[int, str, str]] = set()

  def resume(self, entries: Iterable[Mapping[str, Any]]) -> None:
    """Goes on after what an earlier process wrote down: the entries that `Metrics.rewind` left."""
    self.findings = collapse.latest(entries)

  def shows_alphas(self, start: int, stop: int) -> bool:
    """Whether the alphas are due after updates `start` to `stop`."""
    interval = -(-self._updates // SNAPSHOTS)
    return start // interval != stop // interval

  def dispatch(
    self,
    iteration: int,
    step: int,
    sums: bilevel.Sums,
    weights: Mapping[str, np.ndarray],
    findings: list[collapse.Finding] | None = None,
  ) -> str:
    """Writes what a dispatch measured.

    Args:
      iteration: of the search, from 0.
      step: updates of it that are done.
      sums: of the dispatch.
      weights: per searched cell the softmax of its alphas `[edges, operations]`; empty where they are not due.
      findings: signs of collapse in these alphas, None where they are not judged.

    Returns:
      The figures, for the terminal.
    """
    loss, accuracy, count, gradients = sums
    values: dict[str, Any] = {}
    texts = []
    for name, half in (("train", bilevel.WEIGHTS), ("validation", bilevel.ALPHAS)):
      if count[half]:
        values |= {f"{name}_loss": loss[half] / count[half], f"{name}_accuracy": accuracy[half] / count[half]}
        texts.append(f"{name} loss {values[f'{name}_loss']:.3f} accuracy {values[f'{name}_accuracy']:.3f}")
    if count[bilevel.ALPHAS]:
      values |= {f"alpha_gradient/{name}": norm / count[bilevel.ALPHAS] for name, norm in gradients.items()}
    values |= {f"alphas/{name}": w for name, w in weights.items()}
    if findings is not None:
      values |= self._judged(iteration, findings)
    self._write(iteration, step, values)
    return " | ".join(texts)

  def pruned(self, iteration: int, step: int, keep: int, cells: Iterable[Cell]) -> None:
    """Writes a round of pruning: operations kept per edge, and which."""
    self._write(iteration, step, {"pruned_to": keep, **_candidates(cells)})

  def outcome(
    self,
    iteration: int,
    cells: Iterable[Cell],
    weights: Mapping[str, np.ndarray],
    accuracy: float,
    findings: list[collapse.Finding],
  ) -> None:
    """Writes and says what an iteration ended with.

    Args:
      iteration: of the search, from 0.
      cells: those it searched, reduced to what it keeps.
      weights: per cell the softmax of its alphas `[edges, operations]` before that.
      accuracy: of the supernet on the half that moves the alphas, from 0 to 1.
      findings: signs of collapse.
    """
    values: dict[str, Any] = {"validation_accuracy": accuracy}
    lines = []
    for cell in cells:
      uncertainty = float(entropy(jnp.asarray(weights[cell.name])).mean())
      identities = cell.count("skip_connect")
      values |= {
        f"alphas/{cell.name}": weights[cell.name],
        **_candidates([cell]),
        f"{OUTCOME}{cell.name}": uncertainty,
        f"skip_connects/{cell.name}": identities,
      }
      lines.append(
        f"{cell} | entropy {uncertainty:.3f} | {identities} skip_connects | validation accuracy {100 * accuracy:.1f} %"
      )
    self._progress.say("\n".join(lines))
    self._write(iteration, self._updates, values | self._judged(iteration, findings))

  def _judged(self, iteration, findings):
    """Replaces the iteration's findings, says those that are new in it, and returns what to write down."""
    self.findings = [f for f in self.findings if f.iteration != iteration] + findings
    for finding in findings:
      key = (iteration, finding.cell, finding.criterion)
      if key not in self._told:
        self._told.add(key)
        self._progress.say(f"{finding.text} ({finding.source})")
    return {"collapse": [dataclasses.asdict(finding) for finding in findings]}

  def _write(self, iteration, step, values):
    self._metrics.write("search", iteration, step, values, iteration * self._updates + step)


def _candidates(cells):
  return {f"candidates/{cell.name}": [list(operations) for operations in cell.candidates] for cell in cells}
