"""A price per unit of cost in the alphas' loss, which moves until the expected network meets the budget.

DLW-NAS adds expected cost to the loss by a fixed weight; here that is the dual variable of the budget: it rises while
the expectation exceeds the budget and falls below it, never under zero (dual ascent). All depths pay the same price, so
that each spends until its last unit earns what the others' do. Shallow to deep, what later cells will spend is not
known: it is forecast as the same share of their range that the cells so far spend of theirs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.search.budget import INPUTS_PER_NODE, Budget
from lfr_darts_jax.search.plans import Stage
from lfr_darts_jax.search.state import SearchPosition
from lfr_darts_jax.search_space.cell_spec import LAYER, CellSpec


class Prices(NamedTuple):
  """What a stage's expected network costs, in budgets: everything below is divided by the limits.

  Attributes:
    chosen: `[operations]`, one for what can be derived, zero for `none`.
    mixed: by cell of the supernet that is mixed, `[budgets, edges, operations]`, each edge as often as it is derived.
    known: `[budgets]`, of what is not mixed there: what every network has, and the cells searched before.
    known_range: `[2, budgets]`, the least and the most that these and the mixed cells can cost.
    later_range: `[2, budgets]`, of the cells still to be searched.
    rate: by how much a price moves per step and per budget that is spent too much.
  """

  chosen: np.ndarray
  mixed: Mapping[str, np.ndarray]
  known: np.ndarray
  known_range: np.ndarray
  later_range: np.ndarray
  rate: float

  def spent(self, mixtures: Mapping[str, jax.Array]) -> jax.Array:
    """`[budgets]`, what the mixed cells are expected to cost."""
    return sum((expected(cost, mixtures[n], self.chosen) for n, cost in self.mixed.items()), jnp.zeros(len(self.known)))

  def moved(self, prices: jax.Array, mixtures: Mapping[str, jax.Array]) -> jax.Array:
    """The prices after a step, `[budgets]`."""
    known = self.known + self.spent(mixtures)
    (least, most), (low, high) = self.known_range, self.later_range
    share = (known - least) / np.maximum(most - least, 1e-12)
    return jnp.maximum(prices + self.rate * (known + low + share * (high - low) - 1), 0)


def expected(costs: np.ndarray, mixture: jax.Array | np.ndarray, chosen: np.ndarray) -> jax.Array:
  """`[budgets]`, expected cost of a cell, its operations drawn by their weights.

  Args:
    costs: `[budgets, edges, operations]`, each edge as often as it is derived.
    mixture: `[edges, operations]`.
    chosen: see `Prices`.
  """
  weights = mixture * chosen
  total = jnp.sum(weights, axis=-1, keepdims=True)
  return jnp.sum(weights / jnp.where(total > 0, total, 1) * costs, axis=(1, 2))


def make(budget: Budget, cells: tuple[CellSpec, ...], stage: Stage, position: SearchPosition, rate: float) -> Prices:
  """The prices of a stage.

  Args:
    budget: of the search.
    cells: the plan's, with all candidates.
    stage: the stage.
    position: where the search stands.
    rate: see `Prices`.
  """
  limits, zero = np.array([*budget.limits.values()]), np.zeros(len(budget.limits))
  costs = {c.name: _as_derived(c, np.array([o.cells[c.name] for o in budget.costs.values()])) for c in cells}
  costs = {name: cost / limits[:, None, None] for name, cost in costs.items()}
  here = {*stage.searched, *stage.settled}
  before = [name for name in position.strengths if name not in here]
  chosen = budget.chosen
  known = np.array([own.fixed for own in budget.costs.values()]) / limits
  fixed = np.stack([known, known])
  known = known + sum((np.asarray(expected(costs[n], np.array(position.strengths[n]), chosen)) for n in before), zero)
  bound = lambda name: np.stack([of(costs[name][:, :, chosen > 0], axis=2).sum(axis=1) for of in (np.min, np.max)])
  bounds = lambda names: sum((bound(name) for name in names), np.zeros((2, len(limits))))
  later = [name for name in costs if name not in here and name not in before]
  mixed = {name: costs[name] for name in sorted(here)}
  return Prices(chosen, mixed, known, fixed + bounds([*before, *here]), bounds(later), rate)


def _as_derived(cell: CellSpec, costs: np.ndarray) -> np.ndarray:
  """Costs `[budgets, edges, operations]`, weighted by how many of a node's edges are derived."""
  targets = [target for (_, target), left in zip(cell.edges, cell.candidates, strict=True) if left]
  derived = 1 if cell.kind == LAYER else INPUTS_PER_NODE
  share = [min(1, derived / max(targets.count(target), 1)) for _, target in cell.edges]
  return costs * np.array(share)[None, :, None]
