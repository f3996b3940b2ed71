from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.data import input_pipeline
from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH
from tests.conftest import tiny_config

KEYS = jnp.stack([jax.random.PRNGKey(0), jax.random.PRNGKey(7)])
COUNT, SIZE = 23, 5
PER_EPOCH = COUNT // SIZE


class Carry(NamedTuple):
  step: jax.Array


@pytest.fixture
def config():
  config = tiny_config()
  config.data.update(crop_padding=0, flip="none")
  return config


@pytest.fixture
def chunk():
  """Two splits with nothing in common; an image's label is its number."""
  labels = jnp.arange(2 * COUNT, dtype=jnp.int32)
  images = labels.astype(jnp.uint8).reshape(-1, 1, 1, 1)
  return InMemoryChunk(ArrayDataset(images, labels), jnp.arange(2 * COUNT).reshape(2, COUNT))


def labels(chunk, config, step, split=0, keys=KEYS):
  ready, _ = chunk.epoch(keys, jnp.int32(step), SIZE)
  images, found = ready.batch(KEYS[0], jnp.int32(step), split, SIZE, config, WHOLE_BATCH)
  np.testing.assert_array_equal(images.ravel(), found)
  return np.asarray(found)


def epoch(chunk, config, number, split=0):
  return np.concatenate([labels(chunk, config, number * PER_EPOCH + i, split) for i in range(PER_EPOCH)])


def test_an_epoch_holds_no_example_twice(chunk, config):
  for split in range(2):
    found = epoch(chunk, config, 0, split).tolist()
    assert len(set(found)) == len(found) == 20
    assert set(found) <= set(range(split * COUNT, (split + 1) * COUNT))


def test_epochs_differ_and_leave_out_different_examples(chunk, config):
  assert not np.array_equal(epoch(chunk, config, 0), epoch(chunk, config, 1))
  assert set(np.concatenate([epoch(chunk, config, i) for i in range(6)]).tolist()) == set(range(COUNT))


def test_a_batch_depends_on_its_splits_key_and_the_step_alone(chunk, config):
  found = labels(chunk, config, 7)
  np.testing.assert_array_equal(found, labels(chunk, config, 7, keys=KEYS.at[1].add(1)))
  assert not np.array_equal(found, labels(chunk, config, 7, keys=KEYS.at[0].add(1)))


@pytest.mark.parametrize("start,stop", [(0, 3), (3, 4), (2, 11), (5, 5)])
def test_run_steps_sees_every_steps_batch(start, stop, chunk, config):
  def body(carry, ready):
    counter, seen = carry
    _, found = ready.batch(KEYS[0], counter.step, 1, SIZE, config, WHOLE_BATCH)
    return counter._replace(step=counter.step + 1), seen.at[counter.step].set(found)

  carry = Carry(jnp.int32(start)), jnp.full((12, SIZE), -1)
  done, seen = jax.jit(lambda c: input_pipeline.run_steps(chunk, KEYS, SIZE, jnp.int32(stop), body, c))(carry)
  assert done.step == stop
  for step in range(12):
    wanted = labels(chunk, config, step, 1) if start <= step < stop else -1
    np.testing.assert_array_equal(seen[step], wanted)


def test_no_step_sorts(chunk, config):
  ready, end = chunk.epoch(KEYS, jnp.int32(7), SIZE)
  assert (ready.first, end) == (PER_EPOCH, 2 * PER_EPOCH)
  draw = lambda step: ready.batch(KEYS[0], step, 0, SIZE, config, WHOLE_BATCH)
  assert "sort[" not in str(jax.make_jaxpr(draw)(7))
  assert "sort[" in str(jax.make_jaxpr(lambda step: chunk.epoch(KEYS, step, SIZE))(7))


def test_take_keeps_images_and_labels_together():
  dataset = ArrayDataset(jnp.arange(10, dtype=jnp.uint8).reshape(10, 1, 1, 1), jnp.arange(10) * 2)
  images, labels = dataset.take(jnp.array([3, 9]))
  np.testing.assert_array_equal(images.ravel() * 2, labels)
