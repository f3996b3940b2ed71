from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.data import batches
from lfr_darts_jax.norm import WHOLE_BATCH
from tests.conftest import tiny_config

KEYS = jnp.stack([jax.random.PRNGKey(0), jax.random.PRNGKey(7)])
COUNT, SIZE = 23, 5
PER_EPOCH = COUNT // SIZE


class Carry(NamedTuple):
  step: jax.Array


@pytest.fixture
def config():
  config = tiny_config()
  config.data.update(crop_padding=0, flip=False)
  return config


@pytest.fixture
def resident():
  """Two parts with nothing in common; an image's label is its number."""
  labels = jnp.arange(2 * COUNT, dtype=jnp.int32)
  images = labels.astype(jnp.uint8).reshape(-1, 1, 1, 1)
  return batches.Resident(batches.Split(images, labels), jnp.arange(2 * COUNT).reshape(2, COUNT))


def labels(resident, config, step, part=0, keys=KEYS):
  ready, _ = resident.epoch(keys, jnp.int32(step), SIZE)
  images, found = ready.batch(KEYS[0], jnp.int32(step), part, SIZE, config, WHOLE_BATCH)
  np.testing.assert_array_equal(images.ravel(), found)
  return np.asarray(found)


def epoch(resident, config, number, part=0):
  return np.concatenate([labels(resident, config, number * PER_EPOCH + i, part) for i in range(PER_EPOCH)])


def test_an_epoch_holds_no_example_twice(resident, config):
  for part in range(2):
    found = epoch(resident, config, 0, part).tolist()
    assert len(set(found)) == len(found) == 20
    assert set(found) <= set(range(part * COUNT, (part + 1) * COUNT))


def test_epochs_differ_and_leave_out_different_examples(resident, config):
  assert not np.array_equal(epoch(resident, config, 0), epoch(resident, config, 1))
  assert set(np.concatenate([epoch(resident, config, i) for i in range(6)]).tolist()) == set(range(COUNT))


def test_a_batch_depends_on_its_parts_key_and_the_step_alone(resident, config):
  found = labels(resident, config, 7)
  np.testing.assert_array_equal(found, labels(resident, config, 7, keys=KEYS.at[1].add(1)))
  assert not np.array_equal(found, labels(resident, config, 7, keys=KEYS.at[0].add(1)))


@pytest.mark.parametrize("start,stop", [(0, 3), (3, 4), (2, 11), (5, 5)])
def test_a_loop_sees_every_steps_batch(start, stop, resident, config):
  def body(carry, ready):
    counter, seen = carry
    _, found = ready.batch(KEYS[0], counter.step, 1, SIZE, config, WHOLE_BATCH)
    return counter._replace(step=counter.step + 1), seen.at[counter.step].set(found)

  carry = Carry(jnp.int32(start)), jnp.full((12, SIZE), -1)
  done, seen = jax.jit(lambda c: batches.loop(resident, KEYS, SIZE, jnp.int32(stop), body, c))(carry)
  assert done.step == stop
  for step in range(12):
    wanted = labels(resident, config, step, 1) if start <= step < stop else -1
    np.testing.assert_array_equal(seen[step], wanted)


def test_no_update_sorts(resident, config):
  ready, end = resident.epoch(KEYS, jnp.int32(7), SIZE)
  assert (ready.first, end) == (PER_EPOCH, 2 * PER_EPOCH)
  draw = lambda step: ready.batch(KEYS[0], step, 0, SIZE, config, WHOLE_BATCH)
  assert "sort[" not in str(jax.make_jaxpr(draw)(7))
  assert "sort[" in str(jax.make_jaxpr(lambda step: resident.epoch(KEYS, step, SIZE))(7))


def test_take_keeps_images_and_labels_together():
  split = batches.Split(jnp.arange(10, dtype=jnp.uint8).reshape(10, 1, 1, 1), jnp.arange(10) * 2)
  images, labels = batches.take(split, jnp.array([3, 9]))
  np.testing.assert_array_equal(images.ravel() * 2, labels)
