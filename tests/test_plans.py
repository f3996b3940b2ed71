import dataclasses

import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search import plans


def test_lfr_darts_deepens_from_shallow_to_deep(config):
  config.plan.update(derived_copies=2, searched_copies=1)
  plan = plans.make(config)
  assert [i.layout for i in plan.stages] == [
    ("n0",),
    ("n0", "n0", "r0"),
    ("n0", "n0", "r0", "n1"),
    ("n0", "n0", "r0", "n1", "n1", "r1"),
    ("n0", "n0", "r0", "n1", "n1", "r1", "n2"),
  ]
  assert [i.searched for i in plan.stages] == [("n0",), ("r0",), ("n1",), ("r1",), ("n2",)]
  assert not any(i.inherit for i in plan.stages)
  config.plan.searched_copies = 3
  assert plans.make(config).stages[2].layout == ("n0", "n0", "r0", "n1", "n1", "n1")


def test_darts_is_one_iteration_over_two_cells_in_eight_layers(config):
  config.plan.name = "darts"
  (iteration,) = plans.make(config).stages
  assert iteration.layout == ("normal", "normal", "reduction", "normal", "normal", "reduction", "normal", "normal")
  assert iteration.rounds == () and iteration.searched == ("normal", "reduction")


def test_pdarts_is_three_stages_with_fewer_candidates_and_a_cap(config):
  config.plan.name = "pdarts"
  plan = plans.make(config)
  assert [len(i.layout) for i in plan.stages] == [5, 11, 17]
  assert [i.keep for i in plan.stages] == [5, 3, 1]
  assert [i.skip_dropout for i in plan.stages] == [None, 0.4, 0.7]
  assert plan.max_skip_connects == 2 and not any(i.inherit for i in plan.stages)


def test_joint_searches_all_five_cells_at_once(config):
  config.plan.name = "joint"
  (iteration,) = plans.make(config).stages
  assert iteration.layout == ("n0", "n0", "r0", "n1", "n1", "r1", "n2", "n2") and iteration.searched == plans.CELL_NAMES


@pytest.mark.parametrize("name,layers,allowed", [("lfr_darts", 4, "5 or more"), ("per_layer", 6, "search.layers, 8")])
def test_the_final_network_holds_the_cells_of_the_plan(config, name, layers, allowed):
  config.plan.name = name
  config.search.layers = 8
  config.network.layers = layers
  with pytest.raises(UsageError, match=f"config.network.layers: {layers}; allowed .*{allowed}"):
    schema.validate(config)
  config.network.layers = 8
  schema.validate(config)


def test_rounds_of_the_config_take_precedence(config):
  config.prune.rounds = ((0.5, 4),)
  assert all(i.rounds == ((0.5, 4),) for i in plans.make(config).stages)


@pytest.mark.parametrize(
  "name,warmup,travel", [("lfr_darts", 30, 5.85), ("joint", 30, 5.85), ("darts", 0, 5.85), ("pdarts", 40, 2.34)]
)
def test_warm_up_and_travel_are_those_of_the_plan(config, name, warmup, travel):
  config.plan.name = name
  for stage in plans.make(config).stages:
    assert stage.warmup_steps(100) == warmup
    assert stage.alpha_learning_rate(1000) * (1000 - 10 * warmup) == pytest.approx(travel)
    assert stage.alpha_learning_rate(10) == 0.1
  config.search.update(warmup_fraction=0.5, alpha_learning_rate=0.02)
  for stage in plans.make(config).stages:
    assert stage.warmup_steps(100) == 50 and stage.alpha_learning_rate(10) == 0.02
  config.search.update(warmup_fraction=1.0, alpha_learning_rate=None)
  assert plans.make(config).stages[0].alpha_learning_rate(10) == 0.1


def test_published_searches_have_the_published_rate_by_their_travel(config):
  config.plan.name = "darts"
  assert plans.make(config).stages[0].alpha_learning_rate(50 * 390) == pytest.approx(3e-4)
  config.plan.name = "pdarts"
  assert plans.make(config).stages[0].alpha_learning_rate(25 * 260) == pytest.approx(6e-4)


@pytest.mark.parametrize("updates,expected", [(10, [(6, 5), (8, 3)]), (1, [(1, 5), (1, 3)])])
def test_round_steps(config, updates, expected):
  assert plans.make(config).stages[0].round_steps(updates) == expected


def test_unknown_operations_are_refused_with_the_known_ones(config):
  config.search.operations = ("skip_connect", "conv_9x9")
  with pytest.raises(UsageError, match="config.search.operations: 'conv_9x9'; allowed are none, max_pool_3x3"):
    plans.make(config)


@pytest.mark.parametrize("stage,rounds", [(0, 0), (0, 2), (4, 1)])
def test_positions_in_a_plan(config, stage, rounds):
  plan = plans.make(config)
  cell = plan.cells[1]
  operations = (("max_pool_3x3", "skip_connect"), (), *cell.candidates[2:])
  fewer = (plan.cells[0], dataclasses.replace(cell, candidates=operations), *plan.cells[2:])
  for cells, built in ((plan.cells, plan.cells), (fewer, plan.cells), (fewer, fewer)):
    plan.check(stage, rounds, cells, built)
  with pytest.raises(ValueError, match="not those of the plan"):
    plan.check(stage, rounds, plan.cells, fewer)


@pytest.mark.parametrize("stage,rounds,message", [(5, 0, "stage"), (-1, 0, "stage"), (0, 3, "round"), (0, -1, "round")])
def test_positions_that_a_plan_has_not(config, stage, rounds, message):
  plan = plans.make(config)
  with pytest.raises(ValueError, match=f"no such {message}"):
    plan.check(stage, rounds, plan.cells, plan.cells)


@pytest.mark.parametrize(
  "start,rounds,end", [(0, 0, 4), (4, 0, 6), (6, 1, 8), (6, 0, 6), (8, 2, 10), (8, 1, 8), (9, 2, 10)]
)
def test_chunks_end_at_multiples_and_at_rounds_of_pruning(config, start, rounds, end):
  # Of ten steps, with rounds after six and eight, by four.
  assert plans.make(config).stages[0].chunk_end(start, rounds, 10, 4) == end


def test_steps_of_a_stage(config):
  config.search.update(epochs=3, batch_size=16)
  config.data.search_fraction = 0.5
  assert plans.steps_per_stage(config, 1000) == 3 * (250 // 16)


@pytest.mark.parametrize(
  "change",
  [
    {"name": "n9"},
    {"kind": "reduction"},
    {"concat": (2,)},
    {"parallel": True},
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
