import pytest

from lfr_darts_jax import forecast
from lfr_darts_jax import genotype as genotypes
from tests.test_genotype import LAYERED


def test_work_falls_with_pruning_and_reductions():
  full = genotypes.Cell.full("n", "normal", 2, ("skip_connect", "max_pool_3x3"))
  half = genotypes.Cell.full("n", "normal", 2, ("skip_connect",))
  assert forecast.layout_work(("n",), (full,), 4, 8) == 4 * 64 * (2 + 10)
  assert forecast.layout_work(("n", "n"), (half,), 4, 8) == 2 * 4 * 64 * (2 + 5)
  reduction = genotypes.Cell("n", "reduction", half.candidates, (2, 3))
  assert forecast.layout_work(("n",), (reduction,), 4, 8) == 4 * 64 * (2 + 5) / 2


def test_updates_per_iteration_leave_out_incomplete_batches(config):
  config.search.update(epochs=3, batch_size=16)
  config.data.search_fraction = 0.5
  assert forecast.updates_per_iteration(config, 200) == 3 * (50 // 16)


def test_pruning_and_warm_up_shorten_an_iteration(config):
  plan = forecast.plans.make(config)
  whole = forecast.iteration_work(config, plan, 0, 100)
  config.search.warmup_fraction = 1.0
  assert forecast.iteration_work(config, plan, 0, 100) == pytest.approx(whole / 1.7)
  config.prune.rounds = ()
  # 8 operations for all 100 updates instead of 60, then 5 for 20 and 3 for 20; two more for the preprocessing.
  expected = (0.6 * (5 * 8 + 2) + 0.2 * (5 * 5 + 2) + 0.2 * (5 * 3 + 2)) / (5 * 8 + 2)
  unpruned = forecast.iteration_work(config, forecast.plans.make(config), 0, 100)
  assert whole / 1.7 == pytest.approx(expected * unpruned)


def test_training_work_goes_with_epochs_and_guesses_unknown_cells(config):
  config.network.layers, config.train.epochs = 5, 2
  work = forecast.training_work(config, 100, LAYERED)
  assert work == 2 * 100 * 4 * 64 * (2 + 2) * (1 + 1 / 2 + 1 / 2 + 1 / 4 + 1 / 4)
  # The guess has two nodes of two edges where this genotype has one.
  assert forecast.training_work(config, 100) == work * (2 + 4) / (2 + 2)
