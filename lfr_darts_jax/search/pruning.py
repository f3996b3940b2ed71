"""Which connections are weak: from mixtures to the candidates that survive, and to the derived cell."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

import chex
import jax
import ml_collections
import numpy as np

from lfr_darts_jax.search import plans, relaxation
from lfr_darts_jax.search.budget import INPUTS_PER_NODE, Budget
from lfr_darts_jax.search.state import SearchPosition, SearchState
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import NORMAL, CellSpec
from lfr_darts_jax.search_space.operation_names import NONE, SKIP_CONNECT


class Rule(NamedTuple):
  """How `prune.rule` prunes.

  Attributes:
    strengths: from a mixture `[edges, operations]` and a generator to how strong every candidate is, in that shape.
    keep: from the strengths of an edge's candidates `[n]` and how many to keep to the indices of those that survive.
  """

  strengths: Callable[[np.ndarray, np.random.Generator], np.ndarray]
  keep: Callable[[np.ndarray, int], Sequence[int]]


def strongest(strengths: np.ndarray, count: int) -> Sequence[int]:
  """The `count` largest; ties go to the earlier one, so that the result does not depend on the platform's sort."""
  return sorted(range(len(strengths)), key=lambda i: (-strengths[i], i))[:count]


def before_the_gap(strengths: np.ndarray, count: int) -> Sequence[int]:
  """The strongest, cut where alphas differ most: 2 to `count` of them (after Fast progressive DARTS, by its abstract).

  What it drops together is its granule; that these lie between gaps is our reading.

  Args:
    strengths: a softmax of alphas, whose logarithms differ as they do.
    count: how many to keep at most.
  """
  order = strongest(strengths, len(strengths))
  falls = -np.diff(np.log(np.maximum(strengths[list(order)], np.finfo(float).tiny)))
  cuts = range(2, min(count, len(order) - 1) + 1)
  return order[: max(cuts, key=lambda kept: falls[kept - 1])] if cuts and len(order) > count else order


RULES = {
  "softmax": Rule(lambda mixture, rng: np.asarray(mixture), strongest),
  "gap": Rule(lambda mixture, rng: np.asarray(mixture), before_the_gap),
  "random": Rule(lambda mixture, rng: rng.random(mixture.shape), strongest),
}


def prune_operations(
  cell: CellSpec, strength: np.ndarray, operations: Sequence[str], count: int, rule: str = "softmax"
) -> CellSpec:
  """Keeps the strongest operations of every edge.

  Args:
    cell: the cell.
    strength: `[edges, operations]`.
    operations: names of the columns.
    count: how many to keep, at least 2 (one would leave `none` alone on an edge: `derive` instead).
    rule: `prune.rule`.

  Returns:
    The cell with at most `count` operations per edge, in the order of the columns.
  """
  chex.assert_shape(strength, (len(cell.candidates), len(operations)))
  candidates = []
  for left, row in zip(cell.candidates, strength, strict=True):
    names = [name for name in operations if name in left]
    kept = RULES[rule].keep(np.array([row[operations.index(name)] for name in names]), count)
    candidates.append(tuple(names[i] for i in sorted(kept)))
  return dataclasses.replace(cell, candidates=tuple(candidates))


def derive(
  cell: CellSpec,
  strength: np.ndarray,
  operations: Sequence[str],
  max_skip_connects: int | None = None,
  inputs: int = INPUTS_PER_NODE,
  threshold: float = 0.0,
) -> CellSpec:
  """Derives the discrete cell: the strongest operation on the two strongest edges into every node (DARTS, section 2.4).

  `none` is never chosen, and an edge's strength is that of its strongest other operation.

  Args:
    cell: the cell.
    strength: `[edges, operations]`.
    operations: names of the columns.
    max_skip_connects: cap of `skip_connect`s; while there are more, the weakest is struck off its edge's candidates
      and the cell derived anew (P-DARTS, section 3.3).
    inputs: edges into a node, at most.
    threshold: strength that the edges of a node must reach, but for the strongest.

  Returns:
    The derived cell; a node has fewer edges only where it has fewer candidates, or weaker ones.
  """
  chex.assert_shape(strength, (len(cell.candidates), len(operations)))
  pairs = cell.edges
  left = [[name for name in names if name != NONE] for names in cell.candidates]
  value = lambda edge, name: strength[edge][operations.index(name)]
  while True:
    best = [max(names, key=lambda name: value(e, name)) if names else None for e, names in enumerate(left)]
    chosen: set[int] = set()
    for target in dict.fromkeys(target for _, target in pairs):
      into = [e for e, (_, t) in enumerate(pairs) if t == target and best[e]]
      ranked = sorted(into, key=lambda e: (-value(e, best[e]), e))[:inputs]
      chosen |= {e for e in ranked if e == ranked[0] or value(e, best[e]) >= threshold}
    skips = [e for e in chosen if best[e] == SKIP_CONNECT and len(left[e]) > 1]
    total = sum(best[e] == SKIP_CONNECT for e in chosen)
    if max_skip_connects is None or total <= max_skip_connects or not skips:
      kept = [(name,) if e in chosen and name else () for e, name in enumerate(best)]
      return dataclasses.replace(cell, candidates=tuple(kept))
    left[min(skips, key=lambda e: value(e, SKIP_CONNECT))].remove(SKIP_CONNECT)


class Pruner:
  """Prunes and derives the cells of one search."""

  def __init__(self, config: ml_collections.ConfigDict, plan: plans.Plan, budget: Budget | None = None):
    """Takes the config, the plan, and what the network may cost, None for anything."""
    self._config, self._plan = config, plan
    self._operations = spaces.operations(config)
    self._relax = relaxation.make(config.search)
    self._budget = budget

  def mixtures(self, state: SearchState) -> dict[str, np.ndarray]:
    """Per cell with alphas `[edges, operations]`, without noise."""
    alphas, mask = jax.tree.map(np.asarray, (state.alphas, state.mask))
    return {name: np.asarray(self._relax(a, mask[name], relaxation.Moment())) for name, a in alphas.items()}

  def tested(self, state: SearchState) -> dict[str, np.ndarray]:
    """The mixtures that a supernet is tested with: where weights learn by single operations, the strongest alone."""
    mixtures = self.mixtures(state)
    if not relaxation.is_sparse(self._config.search):
      return mixtures
    best = lambda rows: np.eye(rows.shape[1], dtype=rows.dtype)[rows.argmax(axis=1)] * (rows.max(axis=1) > 0)[:, None]
    return {name: best(rows) for name, rows in mixtures.items()}

  def strengths(self, position: SearchPosition, state: SearchState) -> dict[str, np.ndarray]:
    """Per cell that the position's stage searches `[edges, operations]`: how strong candidates are, 0 for others."""
    rng = np.random.default_rng([self._config.seed, 3, position.stage, position.rounds])
    rule = RULES[self._config.prune.rule]
    mixtures, left = self.mixtures(state), {cell.name: cell.mask(self._operations) for cell in position.cells}
    searched = sorted(self._plan.stages[position.stage].searched)
    return {name: rule.strengths(mixtures[name], rng) * left[name] for name in searched}

  def prune(self, position: SearchPosition, state: SearchState, count: int) -> dict[str, CellSpec]:
    """The searched cells with at most `count` operations per edge."""
    strengths, rule = self.strengths(position, state), self._config.prune.rule
    return {
      cell.name: prune_operations(cell, strengths[cell.name], self._operations, count, rule)
      for cell in position.cells
      if cell.name in strengths
    }

  def derive(self, position: SearchPosition, state: SearchState) -> dict[str, CellSpec]:
    """The searched cells as they would be derived now."""
    return self._derived(position, self.strengths(position, state))

  def reduce(self, position: SearchPosition, state: SearchState) -> dict[str, CellSpec]:
    """The searched cells as their stage leaves them: with the operations per edge that it keeps, or derived."""
    keep = self._plan.stages[position.stage].keep
    return self.prune(position, state, keep) if keep and keep > 1 else self.derive(position, state)

  def _derived(self, position: SearchPosition, strengths: Mapping[str, np.ndarray]) -> dict[str, CellSpec]:
    cap, threshold = self._plan.max_skip_connects, self._config.prune.edge_threshold
    return {
      cell.name: derive(
        cell, strengths[cell.name], self._operations, cap if cell.kind == NORMAL else None, threshold=threshold
      )
      for cell in position.cells
      if cell.name in strengths
    }

  def remember(self, position: SearchPosition, state: SearchState) -> SearchPosition:
    """The position with the strengths of its stage's cells."""
    found = {name: tuple(map(tuple, rows.tolist())) for name, rows in self.strengths(position, state).items()}
    return dataclasses.replace(position, strengths=position.strengths | found)

  def choose(self, position: SearchPosition) -> tuple[CellSpec, ...]:
    """The derived cells at the end of a search."""
    strengths = {name: np.array(rows) for name, rows in position.strengths.items()}
    if self._budget:
      return self._budget.derive(strengths)
    undecided = {cell.name for cell in position.cells if not cell.derived}
    chosen = self._derived(position, {name: rows for name, rows in strengths.items() if name in undecided})
    return tuple(chosen.get(cell.name, cell) for cell in position.cells)
