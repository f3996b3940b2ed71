"""The on-device batch of step t: a pure function of (key, step), so that resuming is exact."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Split(NamedTuple):
  """A data set on the device: uint8 `images` `[n, height, width, channels]`, int32 `labels` `[n]`."""

  images: jax.Array
  labels: jax.Array


def positions(key: jax.Array, step: jax.Array, count: int, batch_size: int) -> jax.Array:
  """Which examples batch `step` holds.

  Every epoch is a permutation of its own; what does not fill a last batch is left out of that epoch.

  Args:
    key: random key of the order.
    step: batches before this one.
    count: examples in the data set, at least `batch_size`.
    batch_size: examples per batch.

  Returns:
    `[batch_size]` integers below `count`.
  """
  per_epoch = count // batch_size
  order = jax.random.permutation(jax.random.fold_in(key, step // per_epoch), count)
  return jax.lax.dynamic_slice(order, ((step % per_epoch) * batch_size,), (batch_size,))


def take(split: Split, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The images and labels of some examples."""
  return jnp.take(split.images, indices, axis=0), jnp.take(split.labels, indices, axis=0)
