"""The price of cost: expectations by hand, where it moves, and a search whose expectation ends at its budget."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import mobile
from lfr_darts_jax.search import plans, price
from lfr_darts_jax.search.budget import Budget
from lfr_darts_jax.search.price import Prices, expected
from lfr_darts_jax.search.state import SearchPosition
from lfr_darts_jax.search_space.cell_spec import CellSpec


def test_expected_cost_by_hand():
  # Half of the weight is on none, which is never derived: the others are 1/4 and 3/4 of 4 and 8.
  costs, mixture = np.array([[[0.0, 4.0, 8.0]]]), np.array([[0.5, 0.125, 0.375]])
  assert expected(costs, mixture, np.array([0.0, 1.0, 1.0])) == pytest.approx(7.0)
  assert expected(costs, mixture * 0, np.array([0.0, 1.0, 1.0])) == 0


def test_prices_move_towards_the_budget():
  # A quarter is fixed; the cell spends 1/4 of what is between 0 and 1, and another of the same range is still to come.
  mixed = {"a": np.array([[[0.0, 1.0]]])}
  prices = Prices(np.ones(2), mixed, np.array([0.25]), np.array([[0.25], [1.25]]), np.array([[0.0], [1.0]]), 0.1)
  weights = {"a": jnp.array([[0.75, 0.25]])}
  assert prices.spent(weights) == pytest.approx(0.25)
  # 1/4 fixed, 1/4 spent, 1/4 forecast: a quarter of the budget is left, so that the price falls by a tenth of that.
  assert prices.moved(jnp.array([1.0]), weights) == pytest.approx(1 - 0.1 * 0.25)
  assert prices.moved(jnp.array([0.01]), weights) == 0
  assert prices.moved(jnp.array([1.0]), {"a": jnp.array([[0.0, 1.0]])}) == pytest.approx(1 + 0.1 * 1.25)


def test_edges_count_as_often_as_they_are_derived():
  # Two of three edges into the second node, both into the first.
  cell = CellSpec.full("n", "normal", 2, ("skip_connect", "sep_conv_3x3"))
  assert price._as_derived(cell, np.ones((1, 5, 2)))[0, :, 0].tolist() == [1, 1, 2 / 3, 2 / 3, 2 / 3]


def test_a_stage_knows_what_was_and_what_will_be():
  config = mobile.get_config("macro,laptop")
  config.search.budget = (("multiply_adds", 4e6),)
  plan = plans.make(config)
  budget = Budget(config, plan)
  costs = budget.costs["multiply_adds"]
  position = SearchPosition(2, plan.cells, plan.cells)
  made = price.make(budget, plan.cells, plan.stages[2], position, 0.1)
  assert sorted(made.mixed) == ["l0", "l1", "l2"]
  assert made.known * 4e6 == pytest.approx([costs.fixed])
  every = {name: np.eye(3)[2][None] for name in made.mixed}
  dear = sum(costs.cells[name][0, 2] for name in made.mixed)
  assert made.spent(every) * 4e6 == pytest.approx([dear])
  # All of its range so far: all of the later range too.
  later = sum(costs.cells[f"l{i}"][0, 2] for i in range(3, 8))
  assert made.moved(jnp.ones(1), every) == pytest.approx(1 + 0.1 * ((costs.fixed + dear + later) / 4e6 - 1))
