import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.data import batches

KEY = jax.random.PRNGKey(0)


def epoch(number, count=23, size=5):
  per_epoch = count // size
  return np.concatenate(
    [batches.positions(KEY, jnp.int32(number * per_epoch + i), count, size) for i in range(per_epoch)]
  )


def test_an_epoch_holds_no_example_twice():
  first = epoch(0)
  assert len(set(first.tolist())) == len(first) == 20
  assert set(first.tolist()) <= set(range(23))


def test_epochs_differ_and_leave_out_different_examples():
  assert not np.array_equal(epoch(0), epoch(1))
  assert set(np.concatenate([epoch(i) for i in range(6)]).tolist()) == set(range(23))


def test_a_batch_depends_on_key_and_step_alone():
  a = batches.positions(KEY, jnp.int32(7), 23, 5)
  np.testing.assert_array_equal(a, jax.jit(lambda s: batches.positions(KEY, s, 23, 5))(7))
  assert not np.array_equal(a, batches.positions(jax.random.PRNGKey(1), jnp.int32(7), 23, 5))


def test_take_keeps_images_and_labels_together():
  split = batches.Split(jnp.arange(10, dtype=jnp.uint8).reshape(10, 1, 1, 1), jnp.arange(10) * 2)
  images, labels = batches.take(split, jnp.array([3, 9]))
  np.testing.assert_array_equal(images.ravel() * 2, labels)
