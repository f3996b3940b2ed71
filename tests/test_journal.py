import numpy as np
import pytest

from lfr_darts_jax import metrics
from lfr_darts_jax.bilevel import Sums
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.journal import Journal
from lfr_darts_jax.progress import Progress

CELL = Cell("n0", "normal", (("skip_connect",), ("max_pool_3x3",)), (2,))
WEIGHTS = {"n0": np.array([[0.5, 0.5], [1.0, 0.0]])}


@pytest.fixture
def journal(tmp_path, config):
  return Journal(metrics.Metrics(tmp_path, config), Progress({}), updates=40)


def test_means_of_a_dispatch(tmp_path, journal):
  # Of alphas (validation), of weights (train).
  sums = Sums(np.array([3.0, 8.0]), np.array([1.0, 1.0]), np.array([2.0, 4.0]))
  text = journal.dispatch(1, 20, sums, WEIGHTS)
  assert text == "train loss 2.000 accuracy 0.250 | validation loss 1.500 accuracy 0.500"
  (entry,) = metrics.read(tmp_path)
  assert entry == {
    "phase": "search",
    "iteration": 1,
    "step": 20,
    "train_loss": 2.0,
    "train_accuracy": 0.25,
    "validation_loss": 1.5,
    "validation_accuracy": 0.5,
    "alphas/n0": [[0.5, 0.5], [1.0, 0.0]],
  }


def test_tensorboard_counts_on_from_iteration_to_iteration(journal, monkeypatch):
  steps = []
  monkeypatch.setattr(metrics.Metrics, "write", lambda self, phase, iteration, step, values, at: steps.append(at))
  for iteration in (0, 2):
    journal.pruned(iteration, 10, 5, [CELL])
  assert steps == [10, 2 * 40 + 10]


def test_the_warm_up_has_no_validation(tmp_path, journal):
  sums = Sums(np.array([0.0, 8.0]), np.array([0.0, 1.0]), np.array([0.0, 4.0]))
  assert journal.dispatch(0, 10, sums, {}) == "train loss 2.000 accuracy 0.250"
  assert set(metrics.read(tmp_path)[0]) == {"phase", "iteration", "step", "train_loss", "train_accuracy"}


def test_alphas_are_due_about_a_hundred_times(tmp_path, config):
  journal = Journal(metrics.Metrics(tmp_path, config), Progress({}), updates=1000)
  assert sum(journal.shows_alphas(step, step + 1) for step in range(1000)) == 100
  assert journal.shows_alphas(0, 20) and not journal.shows_alphas(11, 19)


def test_an_outcome(tmp_path, journal, capsys):
  journal.outcome(0, [CELL], WEIGHTS, 0.875)
  (entry,) = metrics.read(tmp_path)
  assert entry["step"] == 40 and entry["validation_accuracy"] == 0.875 and entry["skip_connects/n0"] == 1
  assert entry["candidates/n0"] == [["skip_connect"], ["max_pool_3x3"]]
  np.testing.assert_allclose(entry["entropy/n0"], np.log(2) / 2, rtol=1e-6)
  assert capsys.readouterr().out == (
    "n0 normal: 2 = skip_connect(0) + max_pool_3x3(1) | entropy 0.347 | 1 skip_connects | validation accuracy 87.5 %\n"
  )
  journal.pruned(0, 40, 3, [CELL])
  assert metrics.read(tmp_path)[1]["pruned_to"] == 3
