import pytest

from lfr_darts_jax import forecast
from lfr_darts_jax import genotype as genotypes
from tests.test_genotype import LAYERED

FEATURE, CALL = forecast.PER_FEATURE, forecast.PER_CALL
FULL = genotypes.Cell.full("n", "normal", 2, ("skip_connect", "max_pool_3x3"))


def test_a_pass_falls_with_pruning_and_reductions():
  half = genotypes.Cell.full("n", "normal", 2, ("skip_connect",))
  # Two nodes have 2 + 3 edges; two more operations are the preprocessing.
  expected = (FEATURE * 16 * 4 * 64 + CALL) * (2 + 10)
  assert forecast.pass_seconds(("n",), (FULL,), 4, 8, 16) == pytest.approx(expected)
  expected = 2 * (FEATURE * 16 * 4 * 64 + CALL) * (2 + 5)
  assert forecast.pass_seconds(("n", "n"), (half,), 4, 8, 16) == pytest.approx(expected)
  reduction = genotypes.Cell("n", "reduction", half.candidates, (2, 3))
  expected = (forecast.STRIDED * FEATURE * 16 * 4 * 64 / 2 + CALL) * (2 + 5)
  assert forecast.pass_seconds(("n",), (reduction,), 4, 8, 16) == pytest.approx(expected)


def test_a_program_holds_a_mixed_operation_once_and_derived_ones_all():
  derived = LAYERED.cells[0]
  layout = (derived.name, derived.name, "n")
  expected = forecast.COMPILE + 2 * 2 * forecast.COMPILE_DERIVED + 2 * forecast.COMPILE_SEARCHED
  assert forecast.compile_seconds(layout, (derived, FULL)) == pytest.approx(expected)
  # A supernet pays for its mixed cell's initial values alone.
  assert forecast.build_seconds(layout, (derived, FULL)) == pytest.approx(10 * forecast.BUILD_SEARCHED)
  assert forecast.build_seconds((derived.name,), (derived, FULL)) == pytest.approx(2 * forecast.BUILD_DERIVED)


def test_updates_per_iteration_leave_out_incomplete_batches(config):
  config.search.update(epochs=3, batch_size=16)
  config.data.search_fraction = 0.5
  assert forecast.updates_per_iteration(config, 200) == 3 * (50 // 16)


def test_the_warm_up_has_one_pass_per_update(config):
  plan = forecast.plans.make(config)
  cost = lambda start, stop: forecast.search_seconds(config, plan.iterations[0], plan.cells, start, stop, 100)
  one = cost(0, 1)
  assert cost(10, 40) == pytest.approx((20 + 2 * 10) * one) and cost(50, 60) == pytest.approx(20 * one)


def test_what_lies_before_a_step_grows_to_the_whole(config):
  config.network.edges = "unroll"
  plan = forecast.plans.make(config)
  at = lambda index, step: forecast.before(config, plan, index, step, 100)
  nothing, some, more, whole = at(0, 0), at(0, 50), at(0, 70), at(4, 100)
  # The supernet is built before the first update; its first program is compiled for it.
  assert nothing[forecast.SEARCH] == 0 < nothing[forecast.SEARCH_BUILD] < some[forecast.SEARCH_BUILD]
  # After a round of pruning there is another program.
  assert some[forecast.SEARCH_BUILD] < more[forecast.SEARCH_BUILD]
  config.network.edges = "scan"
  assert at(0, 70)[forecast.SEARCH_BUILD] == at(0, 50)[forecast.SEARCH_BUILD] == some[forecast.SEARCH_BUILD]
  config.network.edges = "unroll"
  assert some[forecast.SEARCH] < more[forecast.SEARCH] < whole[forecast.SEARCH]
  images = 2 * 100 // config.search.epochs * config.search.batch_size
  config.data.search_fraction = 1.0
  whole[forecast.SEARCH_BUILD] += forecast.PAGE
  assert forecast.search(config, images) == pytest.approx(whole)


def test_pruning_shortens_an_iteration(config):
  plan = forecast.plans.make(config)
  pruned = forecast.before(config, plan, 0, 100, 100)[forecast.SEARCH]
  config.prune.rounds = ()
  unpruned = forecast.before(config, forecast.plans.make(config), 0, 100, 100)[forecast.SEARCH]
  # Of 170 passes the last 80 have 5 operations on 5 edges instead of 8, and the last 40 three.
  assert pruned / unpruned == pytest.approx((90 * 42 + 40 * 27 + 40 * 17) / (170 * 42))


def test_training_goes_with_epochs_and_guesses_unknown_cells(config):
  config.network.layers, config.train.epochs = 5, 2
  known = forecast.training(config, 100, LAYERED)
  sizes = config.network.channels, config.data.image_size, config.train.batch_size
  one = forecast.pass_seconds(LAYERED.layout(5), LAYERED.cells, *sizes)
  assert known[forecast.TRAIN] == pytest.approx(2 * (100 // config.train.batch_size) * one)
  # The guess has two nodes of two edges where this genotype has one.
  guessed = forecast.training(config, 100)
  assert guessed[forecast.TRAIN] == pytest.approx(known[forecast.TRAIN] * (2 + 4) / (2 + 2))
