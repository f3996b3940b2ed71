import dataclasses
import itertools

import jax
import numpy as np
import optax
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import checkpoint as checkpoints, nan_guard, workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.preemption import Interrupted, Preemption
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import train
from tests import damage
from tests.test_search import StopAfter

CELL = lambda n, kind: CellSpec(n, kind, (("skip_connect",), ("max_pool_3x3",)), (2,))
GENOTYPE = Genotype((CELL("normal", "normal"), CELL("reduction", "reduction")))


def training(config, workdir, interrupt=None):
  workdir.mkdir(exist_ok=True)
  dataset = datasets.open_dataset(config)
  dataset = dataclasses.replace(dataset, train=tuple(a[:200] for a in dataset.train))
  metrics = Metrics(workdir, schema.flatten(config))
  session = Session(config, workdir, workdirs.CHECKPOINTS, metrics, preemption=interrupt)
  return train.Training(config, final_network(config, GENOTYPE), dataset, session)


def test_the_ramp_of_drop_path_by_hand():
  # DARTS: 0.2 * epoch / 600.
  rates = [train.drop_path_rate(0.2, epoch, 600) for epoch in (0, 1, 300, 599)]
  np.testing.assert_allclose(rates, [0, 0.2 / 600, 0.1, 0.2 * 599 / 600])


@pytest.fixture
def tiny(config):
  config.train.update(epochs=3, steps_per_chunk=4, drop_path=0.2, cutout=2)
  return config


def test_it_learns_and_leaves_a_checkpoint(tiny, tmp_path):
  tiny.train.epochs = 12
  state = training(tiny, tmp_path).run()
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  losses = [float(line.split('"train_loss": ')[1].split(",")[0]) for line in lines]
  assert losses[-1] < 0.85 * losses[0]
  # The schedule, and the momentum with it, went on from step to step.
  assert int(optax.tree.get(state.opt_state, "count")) == int(state.step)
  variables = train.load_variables(tiny, final_network(tiny, GENOTYPE), tmp_path, int(state.step))
  jax.tree.map(np.testing.assert_array_equal, variables["params"], state.params)
  jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], state.batch_stats)


def test_the_average_by_hand_is_what_is_tested(tiny, tmp_path):
  tiny.train.update(epochs=2, steps_per_chunk=1, ema=0.5)
  tiny.data.crop_padding = 0
  job = training(tiny, tmp_path)
  seen = []
  take, job._save = job._save, lambda result: (seen.append(jax.tree.map(np.asarray, result.state)), take(result))
  state = job.run()
  # Until step 9 shorter: step / (step + 9).
  for step, decay in ((3, 3 / 12), (6, 6 / 15), (12, 0.5)):
    before, after = next(pair for pair in itertools.pairwise(seen) if int(pair[1].step) == step)
    expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, before.average["params"], after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.average["params"], expected)
  variables = train.load_variables(tiny, final_network(tiny, GENOTYPE), tmp_path, int(state.step))
  jax.tree.map(np.testing.assert_array_equal, variables, state.average)
  assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (variables["params"], state.params)), strict=True))


@pytest.mark.parametrize("checks", [1, pytest.param(3, marks=pytest.mark.long)])
def test_an_interrupted_training_ends_with_the_same_bits(tiny, tmp_path, checks):
  whole = training(tiny, tmp_path / "whole").run()
  with pytest.raises(Interrupted):
    training(tiny, tmp_path / "parts", StopAfter(checks)).run()
  parts = training(tiny, tmp_path / "parts").run()
  jax.tree.map(np.testing.assert_array_equal, parts, whole)
  assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_numbers_that_go_wrong(tiny, tmp_path, monkeypatch, capsys, dtype):
  tiny.checkpoint.interval, tiny.recovery.retries, tiny.network.dtype = 0.0, 1, dtype
  check, seen = nan_guard.check, []

  def spoiled(step, state):
    # Always at the second checkpoint.
    if step == 8 and not isinstance(state, dict):
      seen.append(step)
      state = state.replace(params={**state.params, "classifier": {"bias": np.array([np.nan])}})
    check(step, state)

  monkeypatch.setattr(nan_guard, "check", spoiled)
  with pytest.raises(RunError, match="training, update 8: params/classifier/bias is not finite, after 1 retries"):
    training(tiny, tmp_path).run()
  assert seen == [8, 8]
  assert "(1 of 1)" in capsys.readouterr().out
  monkeypatch.undo()
  # What went wrong was not saved.
  state = training(tiny, tmp_path).run()
  nan_guard.check(0, state)
  assert "continuing the training at update 4 of" in capsys.readouterr().out


def test_a_training_whose_newest_checkpoint_broke_ends_with_the_same_bits(tiny, tmp_path, capsys):
  tiny.checkpoint.interval = 0.0
  whole = training(tiny, tmp_path / "whole").run()
  with pytest.raises(Interrupted):
    training(tiny, tmp_path / "parts", StopAfter(3)).run()
  damage.flip(damage.largest(tmp_path / "parts" / "checkpoints" / "12"))
  capsys.readouterr()
  parts = training(tiny, tmp_path / "parts").run()
  passing, continuing = capsys.readouterr().out.splitlines()[:2]
  assert passing.startswith(f"passing over the checkpoint {tmp_path}/parts/checkpoints/12, now 12.broken: state/")
  assert continuing == "continuing the training at update 8 of 18"
  jax.tree.map(np.testing.assert_array_equal, parts, whole)
  assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


class FillAt(Preemption):
  """Fills a disk at the n-th safe point."""

  def __init__(self, disk, checks):
    super().__init__()
    self._disk, self._left = disk, checks

  def maybe_stop(self, save, preempted=False):
    self._left -= 1
    if self._left == 0:
      self._disk.fill()
    super().maybe_stop(save, preempted)


@pytest.mark.slow
def test_a_training_whose_disk_was_full_ends_with_the_same_bits(tiny, tmp_path, small_disk):
  tiny.checkpoint.update(interval=0.0, keep=1)
  whole = training(tiny, tmp_path / "whole").run()
  with pytest.raises(OSError, match="No space left on device: '.*/parts/checkpoints/12'"):
    training(tiny, small_disk.path / "parts", FillAt(small_disk, 3)).run()
  (checkpoint,) = (small_disk.path / "parts" / "checkpoints").iterdir()
  assert checkpoint.name == "8" and checkpoints.fault(checkpoint) is None
  small_disk.free()
  parts = training(tiny, small_disk.path / "parts").run()
  jax.tree.map(np.testing.assert_array_equal, parts, whole)
  metrics = [(place / "metrics.jsonl").read_text() for place in (tmp_path / "whole", small_disk.path / "parts")]
  assert metrics[0] == metrics[1]


def test_where_no_checkpoint_is_whole_nothing_is_touched(tiny, tmp_path):
  with pytest.raises(Interrupted):
    training(tiny, tmp_path, StopAfter(1)).run()
  damage.KINDS["truncated"](tmp_path / "checkpoints" / "4")
  before = damage.snapshot(tmp_path)
  with pytest.raises(UsageError, match="no checkpoint in .* is whole .4: state/"):
    training(tiny, tmp_path)
  assert damage.snapshot(tmp_path) == before


def test_another_seed_differs(tiny, tmp_path):
  tiny.train.epochs = 1
  first = training(tiny, tmp_path / "a").run()
  tiny.seed = 1
  second = training(tiny, tmp_path / "b").run()
  assert not np.array_equal(first.params["stem"]["kernel"], second.params["stem"]["kernel"])


def test_balanced_classes_train_as_their_weights_do(tiny, tmp_path):
  tiny.train.epochs = 1
  labels = datasets.open_dataset(tiny).train[1][:200]
  tiny.train.class_weights = "balanced"
  balanced = training(tiny, tmp_path / "balanced").run()
  tiny.train.class_weights = tuple(20 / np.bincount(labels))
  by_hand = training(tiny, tmp_path / "by_hand").run()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), balanced.params, by_hand.params)
  tiny.train.class_weights = None
  equal = training(tiny, tmp_path / "equal").run()
  assert not np.allclose(equal.params["classifier"]["kernel"], balanced.params["classifier"]["kernel"], atol=1e-4)
  tiny.train.class_weights = (1.0,) * 9
  with pytest.raises(UsageError, match="a tuple of 10 numbers"):
    training(tiny, tmp_path / "wrong")


def test_a_batch_larger_than_the_train_split(tiny, tmp_path):
  tiny.train.batch_size = 201
  with pytest.raises(UsageError, match="config.train.batch_size: 201; allowed are at most 200"):
    training(tiny, tmp_path)
