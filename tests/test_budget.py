"""The choice under a budget: exact against enumeration, within it, and without one what is derived anyway."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from configs import mobile
from lfr_darts_jax import config as schema, pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search import budget, plans, pruning
from lfr_darts_jax.search.budget import Budget, Group, choose
from lfr_darts_jax.search_space import spaces

OPERATIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")


def chain_config(**search):
  config = mobile.get_config("macro,laptop")
  config.search.update(search)
  return config


def cells_config(**search):
  config = schema.get_config("digits")
  config.search.update({"nodes": 2, "operations": OPERATIONS, **search})
  config.network.update(channels=4, layers=5)
  config.plan.name = "darts"
  return config


def drawn(plan, operations, seed):
  rng = np.random.default_rng(seed)
  return {cell.name: rng.random((len(cell.candidates), len(operations))) for cell in plan.cells}


@pytest.mark.parametrize("budgets", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_choose_is_the_best_of_all(budgets, seed):
  rng = np.random.default_rng(seed)
  groups = [
    Group([((i, j),) for j in range(n)], rng.normal(size=n).round(1), rng.integers(0, 9, (n, budgets)).astype(float))
    for i, n in enumerate(rng.integers(1, 5, 5))
  ]
  limits = rng.integers(5, 30, budgets).astype(float)
  best = -np.inf
  for picks in itertools.product(*(range(len(g.values)) for g in groups)):
    if (sum(g.costs[p] for g, p in zip(groups, picks, strict=True)) <= limits).all():
      best = max(best, sum(g.values[p] for g, p in zip(groups, picks, strict=True)))
  found = choose(groups, limits)
  if best == -np.inf:
    assert found is None
  else:
    assert sum(g.values[p] for g, p in zip(groups, found, strict=True)) == pytest.approx(best)
    assert (sum(g.costs[p] for g, p in zip(groups, found, strict=True)) <= limits).all()


def test_by_hand():
  # Values 1 and 3 at costs 1 and 4, twice: five units buy one of the dear ones.
  group = Group([((0, 0),), ((0, 1),)], np.array([1.0, 3.0]), np.array([[1.0], [4.0]]))
  assert sorted(choose([group, group], np.array([5.0]))) == [0, 1]
  assert choose([group, group], np.array([8.0])) == [1, 1]
  assert choose([group, group], np.array([1.0])) is None


@pytest.mark.parametrize("seed", range(2))
def test_a_chain_keeps_within_its_budget(seed):
  config = chain_config(budget=(("multiply_adds", 4e6), ("parameters", 80_000)))
  plan = plans.make(config)
  strengths = drawn(plan, spaces.operations(config), seed)
  made = Budget(config, plan)
  cells = made.derive(strengths)
  found = pipeline.describe(config, plan.genotype(cells))
  assert found["multiply_adds"] == made.costs["multiply_adds"].of(cells, spaces.operations(config)) <= 4e6
  assert found["parameters"] == made.costs["parameters"].of(cells, spaces.operations(config)) <= 80_000
  # By enumeration of all 6,561.
  costs = np.array([[made.costs[u].cells[c.name][0] for c in plan.cells] for u in made.limits])
  limits = np.array([made.limits[u] - made.costs[u].fixed for u in made.limits])
  best = max(
    sum(np.log(strengths[f"l{i}"][0][j]) for i, j in enumerate(code))
    for code in itertools.product(range(3), repeat=8)
    if (costs[:, np.arange(8), list(code)].sum(axis=1) <= limits).all()
  )
  picked = sum(np.log(strengths[c.name][0][spaces.operations(config).index(c.candidates[0][0])]) for c in cells)
  assert picked == pytest.approx(best)


@pytest.mark.parametrize("seed", range(2))
def test_cells_keep_within_their_budget(seed):
  config = cells_config()
  plan = plans.make(config)
  strengths = drawn(plan, OPERATIONS, seed)
  free = tuple(pruning.derive(cell, strengths[cell.name], OPERATIONS) for cell in plan.cells)
  dear = pipeline.describe(config, plan.genotype(free))["multiply_adds"]
  config.search.budget = (("multiply_adds", float(dear)),)
  assert Budget(config, plan).derive(strengths) == free  # What is free fits exactly.
  costs = budget.costs(config, plan, "multiply_adds")
  least = costs.fixed + sum(
    g.costs.min()
    for c in plan.cells
    for g in budget.groups(c, strengths[c.name], OPERATIONS, costs.cells[c.name][None])
  )
  limit = round(0.6 * least + 0.4 * dear)
  config.search.budget = (("multiply_adds", limit),)
  made = Budget(config, plan)
  cells = made.derive(strengths)
  spent = pipeline.describe(config, plan.genotype(cells))["multiply_adds"]
  assert spent == made.costs["multiply_adds"].of(cells, OPERATIONS) <= limit
  # By enumeration of both cells.
  sums = []
  for first in itertools.product(*map(_options, [plan.cells[0]] * 2, (2, 3))):
    for second in itertools.product(*map(_options, [plan.cells[1]] * 2, (2, 3))):
      picks = [(plan.cells[0].name, at) for node in first for at in node]
      picks += [(plan.cells[1].name, at) for node in second for at in node]
      if made.costs["multiply_adds"].fixed + sum(made.costs["multiply_adds"].cells[n][at] for n, at in picks) <= limit:
        sums.append(sum(np.log(strengths[n][at]) for n, at in picks))
  own = sum(
    np.log(strengths[c.name][row, OPERATIONS.index(names[0])])
    for c in cells
    for row, names in enumerate(c.candidates)
    if names
  )
  assert own == pytest.approx(max(sums))


def _options(cell, target):
  into = [row for row, edge in enumerate(cell.edges) if edge[1] == target]
  columns = [i for i, name in enumerate(OPERATIONS) if name != "none"]
  return [((a, x), (b, y)) for a, b in itertools.combinations(into, 2) for x in columns for y in columns]


def test_what_was_pruned_comes_back_where_nothing_else_fits():
  config = chain_config(budget=(("multiply_adds", 4e6),))
  plan = plans.make(config)
  strengths = {cell.name: np.array([[0.0, 0.0, 1.0]]) for cell in plan.cells}
  cells = Budget(config, plan).derive(strengths)
  assert pipeline.describe(config, plan.genotype(cells))["multiply_adds"] <= 4e6


def test_too_small_a_budget_names_the_smallest():
  config = chain_config(budget=(("multiply_adds", 1e5),))
  with pytest.raises(UsageError, match=r"budget: multiply_adds 100,000; the smallest network of this space has [\d,]+"):
    Budget(config, plans.make(config))
  config = chain_config(budget=(("multiply_adds", 0.7e6), ("parameters", 29_000)))
  plan = plans.make(config)
  least = pipeline.describe(
    config, plan.genotype(tuple(dataclasses.replace(c, candidates=(("identity",),)) for c in plan.cells))
  )
  config.search.budget = (("multiply_adds", float(least["multiply_adds"])),)
  assert all(
    cell.candidates == (("identity",),)
    for cell in Budget(config, plan).derive(drawn(plan, spaces.operations(config), 0))
  )


def test_latencies_come_from_a_file(tmp_path):
  config = chain_config(budget=(("latency", 0.9),), costs=str(tmp_path / "costs.json"))
  names = list(spaces.operations(config))
  # A tenth of a second each for the dear ones, a hundredth for the others.
  rows = {f"l{i}": [[0.0, 0.01, 0.1]] for i in range(8)}
  (tmp_path / "costs.json").write_text(json.dumps({"operations": names, "fixed": 0.5, "cells": rows}))
  plan = plans.make(config)
  strengths = {f"l{i}": np.array([[1e-6, 0.3, 0.3 + i / 100]]) for i in range(8)}
  cells = Budget(config, plan).derive(strengths)
  # Four dear ones are too many besides four of the others: three, where they are strongest.
  assert [c.candidates[0][0] for c in cells] == ["mb3_k3"] * 5 + ["mb6_k5"] * 3
  (tmp_path / "costs.json").write_text(json.dumps({"operations": names, "fixed": 0.5, "cells": {}}))
  with pytest.raises(UsageError, match="l0"):
    Budget(config, plan)
