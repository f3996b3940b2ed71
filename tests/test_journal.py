import numpy as np
import pytest

from lfr_darts_jax import metrics
from lfr_darts_jax.bilevel import Sums
from lfr_darts_jax.collapse import Finding
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
  sums = Sums(np.array([3.0, 8.0]), np.array([1.0, 1.0]), np.array([2.0, 4.0]), {"n0": np.float32(3)})
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
    "alpha_gradient/n0": 1.5,
    "alphas/n0": [[0.5, 0.5], [1.0, 0.0]],
  }


def test_tensorboard_counts_on_from_iteration_to_iteration(journal, monkeypatch):
  steps = []
  monkeypatch.setattr(metrics.Metrics, "write", lambda self, phase, iteration, step, values, at: steps.append(at))
  for iteration in (0, 2):
    journal.pruned(iteration, 10, 5, [CELL])
  assert steps == [10, 2 * 40 + 10]


def test_the_warm_up_has_no_validation(tmp_path, journal):
  sums = Sums(np.array([0.0, 8.0]), np.array([0.0, 1.0]), np.array([0.0, 4.0]), {"n0": np.float32(0)})
  assert journal.dispatch(0, 10, sums, {}) == "train loss 2.000 accuracy 0.250"
  assert set(metrics.read(tmp_path)[0]) == {"phase", "iteration", "step", "train_loss", "train_accuracy"}


def test_alphas_are_due_about_a_hundred_times(tmp_path, config):
  journal = Journal(metrics.Metrics(tmp_path, config), Progress({}), updates=1000)
  assert sum(journal.shows_alphas(step, step + 1) for step in range(1000)) == 100
  assert journal.shows_alphas(0, 20) and not journal.shows_alphas(11, 19)


def test_an_outcome(tmp_path, journal, capsys):
  journal.outcome(0, [CELL], WEIGHTS, 0.875, [])
  (entry,) = metrics.read(tmp_path)
  assert entry["step"] == 40 and entry["validation_accuracy"] == 0.875 and entry["skip_connects/n0"] == 1
  assert entry["collapse"] == []
  assert entry["candidates/n0"] == [["skip_connect"], ["max_pool_3x3"]]
  np.testing.assert_allclose(entry["entropy/n0"], np.log(2) / 2, rtol=1e-6)
  assert capsys.readouterr().out == (
    "n0 normal: 2 = skip_connect(0) + max_pool_3x3(1) | entropy 0.347 | 1 skip_connects | validation accuracy 87.5 %\n"
  )
  journal.pruned(0, 40, 3, [CELL])
  assert metrics.read(tmp_path)[1]["pruned_to"] == 3


def finding(iteration, figure, criterion="skip_connects"):
  return Finding(iteration, "n0", criterion, figure, 0.25, "a paper", f"n0: {figure} are skip_connects")


def test_a_sign_of_collapse_is_said_once_per_iteration_and_written_down_every_time(tmp_path, journal, capsys):
  sums = Sums(np.zeros(2), np.zeros(2), np.zeros(2), {})
  judgements = ((0, [finding(0, 0.5)]), (0, []), (0, [finding(0, 0.75)]), (1, [finding(1, 0.5)]))
  for step, (iteration, findings) in enumerate(judgements):
    journal.dispatch(iteration, step, sums, WEIGHTS, findings)
  journal.dispatch(1, 4, sums, {})
  assert capsys.readouterr().out.splitlines() == 2 * ["n0: 0.5 are skip_connects (a paper)"]
  entries = metrics.read(tmp_path)
  assert [[f["figure"] for f in entry["collapse"]] for entry in entries[:4]] == [[0.5], [], [0.75], [0.5]]
  assert "collapse" not in entries[4]
  assert journal.findings == [finding(0, 0.75), finding(1, 0.5)]


def test_the_outcome_has_the_last_word_and_a_resumed_journal_knows_it(tmp_path, journal, config):
  journal.dispatch(0, 20, Sums(np.zeros(2), np.zeros(2), np.zeros(2), {}), WEIGHTS, [finding(0, 0.5)])
  journal.outcome(0, [CELL], WEIGHTS, 0.875, [finding(0, 0.995, "uniform_alphas")])
  resumed = Journal(metrics.Metrics(tmp_path, config), Progress({}), updates=40)
  resumed.resume(metrics.read(tmp_path))
  assert resumed.findings == journal.findings == [finding(0, 0.995, "uniform_alphas")]
