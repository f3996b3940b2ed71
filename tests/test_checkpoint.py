import errno
import os
import pkgutil
import shutil
import socket
import subprocess
import sys

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import checkpoint, json_io, paths
from lfr_darts_jax.runtime.checkpoint import Broken, Checkpoints
from lfr_darts_jax.runtime.session import Clock
from tests import damage

# Random values, which do not compress: a changed byte of them is not noticed by what decompresses them.
STATE = {"w": jax.random.normal(jax.random.PRNGKey(0), (300, 100)), "n": {"step": jnp.int32(3)}}


def shapes(meta):
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), STATE)


def at_step(step):
  return jax.tree.map(lambda a: a + step, STATE)


@pytest.fixture
def three(tmp_path, config):
  """A directory with the steps 1, 2 and 5."""
  config.checkpoint.keep = 3
  checkpoints = Checkpoints(tmp_path / "c", config)
  for step in (1, 2, 5):
    checkpoints.save(step, at_step(step), {"step": step})
  return tmp_path / "c"


@pytest.fixture
def three_in_a_bucket(three, bucket):
  """They, in a store."""
  paths.put(three, bucket / "c")
  return bucket / "c"


def steps(folder):
  return sorted(paths.names(folder))


def test_state_and_meta_come_back(tmp_path, config):
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert checkpoints.restore(shapes, print) is None and not (tmp_path / "c").exists()
  checkpoints.save(3, STATE, {"cells": [["a", "b"]]})
  state, meta = Checkpoints(tmp_path / "c", config).restore(shapes, print)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  assert meta == {"cells": [["a", "b"]]}


def test_the_newest_is_restored_and_old_ones_go(three, config):
  config.checkpoint.keep = 2
  checkpoints = Checkpoints(three, config)
  # By number, not by name.
  checkpoints.save(10, at_step(10), {"step": 10})
  assert steps(three) == ["10", "5"]
  state, meta = checkpoints.restore(shapes, print)
  assert meta == {"step": 10} and int(state["n"]["step"]) == 13


def test_the_interval_is_kept(tmp_path, config):
  config.checkpoint.interval = 1e6
  checkpoints = Checkpoints(tmp_path / "c", config)
  assert not checkpoints.due
  config.checkpoint.interval = 0.0
  assert Checkpoints(tmp_path / "c", config).due


def test_a_notice_of_preemption_is_passed_on(monkeypatch):
  assert not checkpoint.preempted(3)
  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
  assert checkpoint.preempted(3) and not checkpoint.preempted(4)


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_broken_one_is_named_and_set_aside_and_the_one_before_restored(three, config, kind):
  damage.KINDS[kind](three / "5")
  broken = damage.snapshot(three / "5")
  said = []
  state, meta = Checkpoints(three, config).restore(shapes, said.append)
  jax.tree.map(np.testing.assert_array_equal, state, at_step(2))
  assert meta == {"step": 2}
  assert len(said) == 1 and said[0].startswith(f"passing over the checkpoint {three / '5'}, now 5.broken: ")
  assert steps(three) == ["1", "2", "5.broken"] and damage.snapshot(three / "5.broken") == broken


def test_several_broken_ones_and_one_more_of_the_same_step(three, config):
  for step in ("5", "2"):
    damage.flip(damage.largest(three / step))
  said = []
  checkpoints = Checkpoints(three, config)
  assert checkpoints.restore(shapes, said.append)[1] == {"step": 1}
  assert [text.split(",")[0].split("/")[-1] for text in said] == ["5", "2"]
  checkpoints.save(5, at_step(5), {"step": 5})
  damage.flip(damage.largest(three / "5"))
  assert checkpoints.restore(shapes, said.append)[1] == {"step": 1}
  assert steps(three) == ["1", "2.broken", "5.broken", "5.broken2"]


@pytest.mark.parametrize("kind", damage.KINDS)
def test_where_none_is_whole_nothing_is_touched(three, config, kind):
  for step in ("1", "2", "5"):
    damage.KINDS[kind](three / step)
  (three / ".7.partial").mkdir()
  before = damage.snapshot(three)
  said = []
  with pytest.raises(UsageError, match=f"no checkpoint in {three} is whole .5: .*; 2: .*; 1: .*; allowed is") as error:
    Checkpoints(three, config).restore(shapes, said.append)
  assert damage.snapshot(three) == before and not said and "\n" not in str(error.value)


def test_orbax_alone_does_not_notice_a_flipped_byte(three):
  """Why there are checksums; where this fails, they may go."""
  damage.flip(damage.largest(three / "5"))
  damage.sum_anew(three / "5")
  state, _ = checkpoint.read(three / "5", shapes)
  assert not np.array_equal(state["w"], at_step(5)["w"])


def with_a_clock(meta):
  json_io.convert(meta["clock"], Clock, "clock")
  return shapes(meta)


WRONG = ('"3"', "-1", "NaN", "1e999", "true")
CLOCKS = ("[1, 2]", "null", "{}", '{"clock": 1}', *(f'{{"clock": {{"seconds": {value}}}}}' for value in WRONG))
TOO_MUCH = ("[" * 100_000, f'"{"a" * checkpoint.MAX_BYTES}"')


@pytest.mark.parametrize(
  "text", [*(f'{{"arrays": "", "meta": {meta}}}' for meta in CLOCKS + TOO_MUCH), "", "[1]", '{"arrays": ""}', "\udcff"]
)
def test_metadata_of_another_structure_are_broken(three, text):
  (three / "5" / "meta.json").write_bytes(text.encode(errors="surrogateescape"))
  damage.sum_anew(three / "5")
  with pytest.raises(Broken, match="it is not of this run .(?!ValueError: the arrays)"):
    checkpoint.read(three / "5", with_a_clock)


@pytest.mark.parametrize(
  "other",
  [
    {"w": jax.ShapeDtypeStruct((300, 99), jnp.float32)},
    {"w": jax.ShapeDtypeStruct((300, 100), jnp.int32)},
    {"v": jax.ShapeDtypeStruct((300, 100), jnp.float32)},
    {"n": {}},
  ],
)
def test_arrays_of_another_run_are_broken(three, other):
  with pytest.raises(Broken, match="it is not of this run .ValueError: the arrays have other"):
    checkpoint.read(three / "5", lambda meta: {**shapes(meta), **other})


def test_reading_one_changes_nothing(three):
  damage.flip(damage.largest(three / "1"))
  before = damage.snapshot(three)
  assert checkpoint.read(three / "2", shapes)[1] == {"step": 2}
  with pytest.raises(Broken, match="state/.* is not as it was written"):
    checkpoint.read(three / "1", shapes)
  with pytest.raises(Broken, match="SHA256SUMS is missing"):
    checkpoint.read(three / "3", shapes)
  assert damage.snapshot(three) == before


def test_what_dead_processes_left_goes(three, config):
  (three / ".7.partial" / "state").mkdir(parents=True)
  (three / ".summary.json.partial").write_text("{")
  (three / "summary.json").write_text("{}")
  Checkpoints(three, config).restore(shapes, print)
  assert steps(three) == ["1", "2", "5", "summary.json"]


# What TensorStore says of a full disk, and of one that was remounted.
FULL = ValueError("RESOURCE_EXHAUSTED: Error writing local file: No space left on device [os_error_code='28']")
READ_ONLY = ValueError("Error writing local file: Read-only file system [os_error_code='30']")


@pytest.mark.parametrize(
  "error,number",
  [(FULL, errno.ENOSPC), (READ_ONLY, errno.EROFS), (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), errno.EDQUOT)],
)
def test_a_failed_write_leaves_the_one_before_whole(tmp_path, config, monkeypatch, error, number):
  config.checkpoint.keep = 1
  checkpoints = Checkpoints(tmp_path, config)
  checkpoints.save(1, at_step(1), {"step": 1})

  def fail(store, path, **unused):
    path.mkdir()
    (path / "half").write_text("")
    raise error

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.ocp.Checkpointer, "save", fail)
    with pytest.raises(OSError) as raised:
      checkpoints.save(2, at_step(2), {"step": 2})
  assert raised.value.errno == number and raised.value.filename == str(tmp_path / "2")
  assert steps(tmp_path) == ["1"] and checkpoint.read(tmp_path / "1", shapes)[1] == {"step": 1}
  checkpoints.save(2, at_step(2), {"step": 2})
  assert steps(tmp_path) == ["2"]


def test_other_errors_of_the_store_are_passed_on(tmp_path, config):
  with pytest.raises(ValueError, match="Unsupported"):
    Checkpoints(tmp_path, config).save(1, {"w": object()}, {})
  assert steps(tmp_path) == []


@pytest.mark.parametrize("last_call", ["_store", "paths.sync", "write_sums"])
def test_killed_while_writing(three, config, monkeypatch, last_call):
  """A process that dies after any part of a checkpoint leaves no step that is not whole."""
  name = f"lfr_darts_jax.runtime.checkpoint.{last_call}"
  call = pkgutil.resolve_name(name)

  def die(*arguments):
    call(*arguments)
    raise SystemExit

  monkeypatch.setattr(name, die)
  # A killed process cleans nothing up.
  monkeypatch.setattr(shutil, "rmtree", lambda *unused, **also: None)
  with pytest.raises(SystemExit):
    Checkpoints(three, config).save(7, at_step(7), {"step": 7})
  monkeypatch.undo()
  assert steps(three) == [".7.partial", "1", "2", "5"]
  assert Checkpoints(three, config).restore(shapes, print)[1] == {"step": 5}
  assert steps(three) == ["1", "2", "5"]


def test_they_come_back_from_a_store(bucket, config):
  config.checkpoint.keep = 2
  checkpoints = Checkpoints(bucket / "c", config)
  assert checkpoints.restore(shapes, print) is None
  for step in (1, 2, 10):
    checkpoints.save(step, at_step(step), {"step": step})
  assert steps(bucket / "c") == ["10", "2"]
  state, meta = Checkpoints(bucket / "c", config).restore(shapes, print)
  jax.tree.map(np.testing.assert_array_equal, state, at_step(10))
  assert meta == {"step": 10}


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_broken_one_in_a_store_is_set_aside_too(three, bucket, config, kind):
  damage.KINDS[kind](three / "5")
  paths.put(three, bucket / "c")
  said = []
  assert Checkpoints(bucket / "c", config).restore(shapes, said.append)[1] == {"step": 2}
  if kind == "empty":
    assert not said and steps(bucket / "c") == ["1", "2"]  # Where there is no object there is no folder.
    return
  assert len(said) == 1 and said[0].startswith(f"passing over the checkpoint {bucket}/c/5, now 5.broken: ")
  assert steps(bucket / "c") == ["1", "2", "5.broken"]
  with paths.fetched(bucket / "c") as here:
    files = lambda folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files(here / "5.broken") == files(three / "5")


def test_where_none_in_a_store_is_whole_nothing_is_touched(three, bucket, config):
  for step in ("1", "2", "5"):
    damage.flip(damage.largest(three / step))
  paths.put(three, bucket)
  paths.write_atomically(bucket / ".7.unfinished", b"")
  with pytest.raises(UsageError, match=f"no checkpoint in {bucket} is whole"):
    Checkpoints(bucket, config).restore(shapes, print)
  assert steps(bucket) == [".7.unfinished", "1", "2", "5"]


def test_a_store_that_cannot_be_reached_breaks_no_checkpoint(three_in_a_bucket, config, monkeypatch):
  def fail(*unused):
    raise RunError("no route to host")

  with monkeypatch.context() as patch:
    patch.setattr(paths, "fetched", fail)
    with pytest.raises(RunError, match="no route to host"):
      Checkpoints(three_in_a_bucket, config).restore(shapes, print)
  assert steps(three_in_a_bucket) == ["1", "2", "5"]
  assert Checkpoints(three_in_a_bucket, config).restore(shapes, print)[1] == {"step": 5}


def test_one_that_is_half_in_a_store_is_passed_over_without_a_word_and_deleted(three_in_a_bucket, config, monkeypatch):
  def half(source, target):
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    put(source, target, paths[::2])
    raise SystemExit

  put = paths.put
  with monkeypatch.context() as patch:
    patch.setattr(paths, "put", half)
    with pytest.raises(SystemExit):
      Checkpoints(three_in_a_bucket, config).save(7, at_step(7), {"step": 7})
  assert steps(three_in_a_bucket) == [".7.unfinished", "1", "2", "5", "7"]
  said = []
  assert Checkpoints(three_in_a_bucket, config).restore(shapes, said.append)[1] == {"step": 5}
  assert not said and steps(three_in_a_bucket) == ["1", "2", "5"]


ONE_OF_TWO_PROCESSES = """
import sys, jax, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from lfr_darts_jax import config
from lfr_darts_jax.runtime import checkpoint, paths
mesh = jax.sharding.Mesh(np.array(jax.devices()), "data")
everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
values = np.arange(12, dtype=np.float32).reshape(3, 4)
state = {"w": jax.make_array_from_callback(values.shape, everywhere, lambda index: values[index])}
shapes = lambda meta: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
folder = paths.path(sys.argv[3])
checkpoint.Checkpoints(folder, config.get_config("digits")).save(7, state, {"step": 7})
read, meta = checkpoint.Checkpoints(folder, config.get_config("digits")).restore(shapes, print)
np.testing.assert_array_equal(read["w"], values)
assert meta == {"step": 7}
"""


@pytest.mark.slow
def test_two_processes_save_and_restore(tmp_path, bucket):
  for place in (tmp_path / "c", bucket):
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{free.getsockname()[1]}"
    commands = [[sys.executable, "-c", ONE_OF_TWO_PROCESSES, address, str(index), str(place)] for index in range(2)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
      _, errors = process.communicate(timeout=200)
      assert process.returncode == 0, errors
    assert steps(place) == ["7"]
