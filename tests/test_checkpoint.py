import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.checkpoint import Checkpoints

STATE = {"w": jnp.arange(6.0).reshape(2, 3), "n": {"step": jnp.int32(3)}}


def shapes(meta):
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), STATE)


def test_state_and_meta_come_back(tmp_path, config):
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert checkpoints.restore(shapes) is None
  checkpoints.save(3, STATE, {"cells": [["a", "b"]]})
  checkpoints.close()
  state, meta = Checkpoints(tmp_path / "c", config).restore(shapes)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  assert meta == {"cells": [["a", "b"]]}
  # Or the programs that take it would be compiled anew.
  lowered = lambda tree: jax.jit(lambda t: jax.tree.map(jnp.sum, t)).lower(tree).as_text()
  assert lowered(state) == lowered(STATE)


def test_the_newest_is_restored_and_old_ones_go(tmp_path, config):
  config.checkpoint.keep = 2
  checkpoints = Checkpoints(tmp_path / "c", config)
  for step in (1, 2, 5):
    checkpoints.save(step, jax.tree.map(lambda a, s=step: a + s, STATE), {"step": step})
  state, meta = checkpoints.restore(shapes)
  assert meta == {"step": 5} and float(state["w"][0, 0]) == 5
  assert sorted(int(p.name) for p in (tmp_path / "c").iterdir() if p.name.isdigit()) == [2, 5]


def test_the_interval_is_kept(tmp_path, config):
  config.checkpoint.interval = 1e6
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert not checkpoints.due
  config.checkpoint.interval = 0.0
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert checkpoints.due


def test_a_notice_of_preemption_is_passed_on(tmp_path, config, monkeypatch):
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert not checkpoints.preempted(3)
  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
  assert checkpoints.preempted(3) and not checkpoints.preempted(4)


def test_what_a_dead_process_left_half_written_goes_once_another_writes(tmp_path, config):
  half = tmp_path / "c" / "3.orbax-checkpoint-tmp"
  half.mkdir(parents=True)
  Checkpoints(tmp_path / "c", config, writes=False).close()
  assert half.exists()
  Checkpoints(tmp_path / "c", config).save(5, STATE, {})
  assert not half.exists()
