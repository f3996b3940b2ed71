"""The choice under a budget: the strongest network whose cost does not exceed it.

Strengths are summed as logarithms, which is what the search's own derivation maximises where there is no budget: the
strongest operation on the strongest edges of every node, or of every layer. Costs of a network are those of its
candidates and of what is always there, so that the best choice is a multiple-choice knapsack, solved exactly.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
from typing import NamedTuple

import ml_collections
import msgspec
import numpy as np

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models import cost
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import json_io, paths
from lfr_darts_jax.search.plans import Plan
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import LAYER, CellSpec
from lfr_darts_jax.search_space.operation_names import NONE

INPUTS_PER_NODE = 2  # DARTS derives two edges into every node.
LATENCY = "latency"
WEAKEST = 1e-12  # Strength of what was pruned, which a tight budget may call back.


@dataclasses.dataclass(frozen=True)
class Costs:
  """Costs of a final network by candidate.

  Attributes:
    fixed: of what every network of the space has.
    cells: by cell `[edges, operations]`, summed over its layers.
  """

  fixed: float
  cells: Mapping[str, np.ndarray]

  def of(self, cells: Sequence[CellSpec], operations: Sequence[str]) -> float:
    """Of a network of derived cells, by the plan's names."""
    return self.fixed + sum(float((self.cells[c.name] * c.mask(operations)).sum()) for c in cells)


class _Table(msgspec.Struct):
  """A file of costs, see `search.costs`: seconds of what is always there, and by cell `[edges][operations]`."""

  operations: list[str]
  fixed: float
  cells: dict[str, list[list[float]]]


def costs(config: ml_collections.ConfigDict, plan: Plan, unit: str) -> Costs:
  """What candidates cost in the final network of a plan, at its own width and depth.

  Args:
    config: the config.
    plan: the search.
    unit: "multiply_adds", "parameters", or "latency" in seconds by the file `search.costs`.

  Raises:
    UsageError: where the file can't be read or is not of this space.
  """
  whole = plan.genotype(plan.cells)
  if unit == LATENCY:
    fixed, by_cell = _read(config, whole.cells)
  else:
    network = final_network(config, whole)
    shape = image_shape(config)
    by_cell = cost.candidates(network, shape, unit)
    fixed = cost.describe(network, shape)[unit] - sum(int(rows.sum()) for rows in by_cell.values())
  # A cell of a plan may be several layers of a chain.
  names = plan.stages[-1].layout if plan.cells[0].kind == LAYER else [cell.name for cell in plan.cells]
  summed = {cell.name: np.zeros_like(by_cell[whole.cells[0].name]) for cell in plan.cells}
  for name, cell in zip(names, whole.cells, strict=True):
    summed[name] = summed[name] + by_cell[cell.name]
  return Costs(fixed, summed)


def _read(config: ml_collections.ConfigDict, cells: Sequence[CellSpec]) -> tuple[float, dict[str, np.ndarray]]:
  path, operations = paths.path(config.search.costs), spaces.operations(config)
  table = json_io.read_json(path, _Table, 10_000_000)
  for cell in cells:
    rows = table.cells.get(cell.name)
    if rows is None or len(rows) != len(cell.candidates) or any(len(row) != len(table.operations) for row in rows):
      raise UsageError(
        f"config.search.costs: {path}: {cell.name}: no {len(cell.candidates)} rows of {len(table.operations)} seconds; "
        "allowed is what benchmarks/latency.py writes for this config"
      )
  missing = [name for name in operations if name not in table.operations and name != NONE]
  if missing:
    raise UsageError(f"config.search.costs: {path} lacks {missing[0]}; it has {', '.join(table.operations)}")
  columns = [table.operations.index(name) if name != NONE else -1 for name in operations]
  pick = lambda row: [0.0 if column < 0 else row[column] for column in columns]
  return table.fixed, {cell.name: np.array([pick(row) for row in table.cells[cell.name]]) for cell in cells}


class Group(NamedTuple):
  """A choice of one out of several.

  Attributes:
    options: what is chosen among.
    values: `[options]`, what each adds to the sum.
    costs: `[options, budgets]`.
  """

  options: Sequence[tuple[tuple[int, int], ...]]
  values: np.ndarray
  costs: np.ndarray


def choose(groups: Sequence[Group], limits: np.ndarray) -> list[int] | None:
  """One option of every group, of the largest sum of values whose costs keep within the limits.

  A dynamic programme over the groups that keeps what no other partial choice beats in value and in all costs.

  Args:
    groups: what to choose from.
    limits: `[budgets]`.

  Returns:
    The index of the option of every group; None where no choice keeps within them.
  """
  least = [group.costs.min(axis=0) for group in groups]
  rest = np.cumsum([np.zeros_like(limits), *least[::-1]], axis=0)[::-1]  # Of the groups from each on, at least.
  values, spent, steps = np.zeros(1), np.zeros((1, len(limits))), []
  for i, group in enumerate(groups):
    new_values = (values[:, None] + group.values[None]).ravel()
    new_spent = (spent[:, None] + group.costs[None]).reshape(-1, len(limits))
    kept = np.flatnonzero((new_spent + rest[i + 1] <= limits).all(axis=1))
    if not len(kept):
      return None
    kept = kept[_undominated(new_values[kept], new_spent[kept])]
    steps.append(np.divmod(kept, len(group.values)))
    values, spent = new_values[kept], new_spent[kept]
  at, found = int(np.argmax(values)), []
  for before, option in reversed(steps):
    found.append(int(option[at]))
    at = int(before[at])
  return found[::-1]


def _undominated(values: np.ndarray, costs: np.ndarray) -> np.ndarray:
  """Indices of what nothing else matches in value and in all costs; of equals the first."""
  order = np.lexsort((np.arange(len(values)), *costs.T[::-1], -values))
  if costs.shape[1] == 1:
    cheapest = np.minimum.accumulate(np.concatenate([[np.inf], costs[order, 0]]))[:-1]
    return order[costs[order, 0] < cheapest]
  kept: list[int] = []
  for index in order:
    if not kept or not (costs[kept] <= costs[index]).all(axis=1).any():
      kept.append(int(index))
  return np.array(kept)


def groups(cell: CellSpec, strengths: np.ndarray, operations: Sequence[str], costs: np.ndarray) -> list[Group]:
  """The choices that a cell consists of: the operation of a layer, or two edges and their operations of every node.

  Args:
    cell: with all its candidates.
    strengths: `[edges, operations]`.
    operations: names of the columns.
    costs: `[budgets, edges, operations]`.

  Returns:
    By target state; an option is (edge, column) of what it chooses.
  """
  made = []
  for target in dict.fromkeys(target for _, target in cell.edges):
    into = [
      [(row, operations.index(name)) for name in cell.candidates[row] if name != NONE]
      for row, edge in enumerate(cell.edges)
      if edge[1] == target
    ]
    into = [choices for choices in into if choices]
    count = min(1 if cell.kind == LAYER else INPUTS_PER_NODE, len(into))
    options = [option for some in itertools.combinations(into, count) for option in itertools.product(*some)]
    log = np.log(np.maximum(strengths, WEAKEST))
    values = np.array([sum(log[at] for at in option) for option in options])
    spent = np.array([sum(costs[(slice(None), *at)] for at in option) for option in options])
    kept = _undominated(values, spent)
    made.append(Group([options[i] for i in kept], values[kept], spent[kept]))
  return made


def make(config: ml_collections.ConfigDict, plan: Plan) -> "Budget | None":
  """What `search.budget` allows a network of a plan to cost, None where that is anything; raises as `Budget`."""
  return Budget(config, plan) if config.search.budget else None


class Budget:
  """What a network of a plan may cost.

  Attributes:
    limits: by unit.
    costs: by unit.
    chosen: `[operations]`, one for what can be derived, zero for `none`.
  """

  def __init__(self, config: ml_collections.ConfigDict, plan: Plan):
    """Counts the costs of `search.budget`.

    Raises:
      UsageError: where no network of the space keeps within it.
    """
    self._plan, self._operations = plan, spaces.operations(config)
    self.chosen = np.array([name != NONE for name in self._operations], float)
    self.limits = {unit: float(limit) for unit, limit in config.search.budget}
    self.costs = {unit: costs(config, plan, unit) for unit in self.limits}
    even = {cell.name: np.ones((len(cell.candidates), len(self._operations))) for cell in plan.cells}
    for unit, limit in self.limits.items():
      least = self._least(unit, even)
      if least > limit:
        raise UsageError(
          f"config.search.budget: {unit} {limit:,.12g}; the smallest network of this space has {least:,.12g}"
        )
    if len(self.limits) > 1 and self._picks(even, self.limits) is None:
      told = ", ".join(f"{unit} {limit:,.12g}" for unit, limit in self.limits.items())
      raise UsageError(f"config.search.budget: {told}; no network of this space keeps within all of them")

  def derive(self, strengths: Mapping[str, np.ndarray]) -> tuple[CellSpec, ...]:
    """The plan's cells, derived: the strongest choice within the budget.

    Args:
      strengths: by cell `[edges, operations]`; of what was pruned 0.
    """
    picks = self._picks(strengths, self.limits)
    assert picks is not None
    chosen = []
    for cell in self._plan.cells:
      left: list[tuple[str, ...]] = [()] * len(cell.candidates)
      for row, column in picks[cell.name]:
        left[row] = (self._operations[column],)
      chosen.append(dataclasses.replace(cell, candidates=tuple(left)))
    return tuple(chosen)

  def _least(self, unit: str, even: Mapping[str, np.ndarray]) -> float:
    """Cost of the cheapest network."""
    every = [g for cell in self._plan.cells for g in self._groups(cell, even[cell.name], [unit])]
    return self.costs[unit].fixed + sum(float(group.costs.min()) for group in every)

  def _groups(self, cell: CellSpec, strengths: np.ndarray, units: Sequence[str]) -> list[Group]:
    return groups(cell, strengths, self._operations, np.array([self.costs[u].cells[cell.name] for u in units]))

  def _picks(
    self, strengths: Mapping[str, np.ndarray], limits: Mapping[str, float]
  ) -> dict[str, list[tuple[int, int]]] | None:
    every = [(cell.name, g) for cell in self._plan.cells for g in self._groups(cell, strengths[cell.name], [*limits])]
    found = choose([g for _, g in every], np.array([limits[u] - self.costs[u].fixed for u in limits]))
    if found is None:
      return None
    picks: dict[str, list[tuple[int, int]]] = {cell.name: [] for cell in self._plan.cells}
    for (name, group), index in zip(every, found, strict=True):
      picks[name] += group.options[index]
    return picks
