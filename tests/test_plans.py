import dataclasses

import pytest

from lfr_darts_jax import plans
from lfr_darts_jax.errors import UsageError


def test_lfr_darts_deepens_from_shallow_to_deep(config):
  config.plan.update(derived_copies=2, searched_copies=1)
  plan = plans.make(config)
  assert [i.layout for i in plan.iterations] == [
    ("n0",),
    ("n0", "n0", "r0"),
    ("n0", "n0", "r0", "n1"),
    ("n0", "n0", "r0", "n1", "n1", "r1"),
    ("n0", "n0", "r0", "n1", "n1", "r1", "n2"),
  ]
  assert [i.searched for i in plan.iterations] == [("n0",), ("r0",), ("n1",), ("r1",), ("n2",)]
  assert not any(i.inherit for i in plan.iterations)
  config.plan.searched_copies = 3
  assert plans.make(config).iterations[2].layout == ("n0", "n0", "r0", "n1", "n1", "n1")


def test_darts_is_one_iteration_over_two_cells_in_eight_layers(config):
  config.plan.name = "darts"
  (iteration,) = plans.make(config).iterations
  assert iteration.layout == ("normal", "normal", "reduction", "normal", "normal", "reduction", "normal", "normal")
  assert iteration.rounds == () and iteration.searched == ("normal", "reduction")


def test_pdarts_is_three_stages_with_fewer_candidates_and_a_cap(config):
  config.plan.name = "pdarts"
  plan = plans.make(config)
  assert [len(i.layout) for i in plan.iterations] == [5, 11, 17]
  assert [i.keep for i in plan.iterations] == [5, 3, 1]
  assert [i.skip_dropout for i in plan.iterations] == [None, 0.4, 0.7]
  assert plan.max_skip_connects == 2 and not any(i.inherit for i in plan.iterations)


def test_joint_searches_all_five_cells_at_once(config):
  config.plan.name = "joint"
  (iteration,) = plans.make(config).iterations
  assert iteration.layout == ("n0", "n0", "r0", "n1", "n1", "r1", "n2", "n2") and iteration.searched == plans.STAGES


def test_rounds_of_the_config_take_precedence(config):
  config.prune.rounds = ((0.5, 4),)
  assert all(i.rounds == ((0.5, 4),) for i in plans.make(config).iterations)


@pytest.mark.parametrize(
  "name,warmup,travel", [("lfr_darts", 30, 5.85), ("joint", 30, 5.85), ("darts", 0, 5.85), ("pdarts", 40, 2.34)]
)
def test_warm_up_and_travel_are_those_of_the_plan(config, name, warmup, travel):
  config.plan.name = name
  for iteration in plans.make(config).iterations:
    assert iteration.warmup_updates(100) == warmup
    assert iteration.alpha_learning_rate(1000) * (1000 - 10 * warmup) == pytest.approx(travel)
    assert iteration.alpha_learning_rate(10) == 0.1
  config.search.update(warmup_fraction=0.5, alpha_learning_rate=0.02)
  for iteration in plans.make(config).iterations:
    assert iteration.warmup_updates(100) == 50 and iteration.alpha_learning_rate(10) == 0.02
  config.search.update(warmup_fraction=1.0, alpha_learning_rate=None)
  assert plans.make(config).iterations[0].alpha_learning_rate(10) == 0.1


def test_published_searches_have_the_published_rate_by_their_travel(config):
  config.plan.name = "darts"
  assert plans.make(config).iterations[0].alpha_learning_rate(50 * 390) == pytest.approx(3e-4)
  config.plan.name = "pdarts"
  assert plans.make(config).iterations[0].alpha_learning_rate(25 * 260) == pytest.approx(6e-4)


@pytest.mark.parametrize("updates,expected", [(10, [(6, 5), (8, 3)]), (1, [(1, 5), (1, 3)])])
def test_round_steps(config, updates, expected):
  assert plans.make(config).iterations[0].round_steps(updates) == expected


def test_unknown_operations_are_refused_with_the_known_ones(config):
  config.search.operations = ("skip_connect", "conv_9x9")
  with pytest.raises(UsageError, match="config.search.operations: 'conv_9x9'; allowed are none, max_pool_3x3"):
    plans.make(config)


@pytest.mark.parametrize("iteration,pruned", [(0, 0), (0, 2), (4, 1)])
def test_places_in_a_plan(config, iteration, pruned):
  plan = plans.make(config)
  cell = plan.cells[1]
  operations = (("max_pool_3x3", "skip_connect"), (), *cell.candidates[2:])
  fewer = (plan.cells[0], dataclasses.replace(cell, candidates=operations), *plan.cells[2:])
  for cells, built in ((plan.cells, plan.cells), (fewer, plan.cells), (fewer, fewer)):
    plan.check(iteration, pruned, cells, built)
  with pytest.raises(ValueError, match="not those of the plan"):
    plan.check(iteration, pruned, plan.cells, fewer)


@pytest.mark.parametrize("iteration", [5, -1, 1.0, True, None, "1", [1]])
def test_iterations_that_a_plan_has_not(config, iteration):
  plan = plans.make(config)
  with pytest.raises(ValueError, match="no such iteration"):
    plan.check(iteration, 0, plan.cells, plan.cells)


@pytest.mark.parametrize("pruned", [3, -1, 1.0, True, None])
def test_rounds_that_a_plan_has_not(config, pruned):
  plan = plans.make(config)
  with pytest.raises(ValueError, match="no such round"):
    plan.check(0, pruned, plan.cells, plan.cells)


@pytest.mark.parametrize(
  "change",
  [
    {"name": "n9"},
    {"kind": "reduction"},
    {"concat": (2,)},
    {"candidates": (("none",),)},
    {"candidates": (("none", "none"),) * 5},
    {"candidates": (("skip_connect", "max_pool_3x3"),) * 5},
    {"candidates": (("exec",),) * 5},
    {"candidates": ("none",) * 5},
    {"candidates": ((["none"],),) * 5},
  ],
)
def test_cells_that_a_plan_has_not(config, change):
  plan = plans.make(config)
  changed = (dataclasses.replace(plan.cells[0], **change), *plan.cells[1:])
  for cells in changed, plan.cells[1:]:
    for built in plan.cells, cells:
      with pytest.raises(ValueError, match="not those of the plan"):
        plan.check(0, 0, cells, built)
