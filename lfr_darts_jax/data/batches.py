"""The batch of step t, on the device: of a data set that lies there, or of one that is streamed to it.

Both are a pure function of the random key and the step, so that resuming is exact.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.norm import Batching
from lfr_darts_jax.parallel import WHOLE
from lfr_darts_jax.parallel import along


class Split(NamedTuple):
  """A data set on the device: uint8 `images` `[n, height, width, channels]`, int32 `labels` `[n]`."""

  images: jax.Array | np.ndarray
  labels: jax.Array | np.ndarray


class Resident(NamedTuple):
  """Batches of a data set that lies on every device, augmented there.

  Attributes:
    split: the data set.
    parts: `[parts, n]` indices into it, of the parts that batches are drawn from.
  """

  split: Split
  parts: jax.Array | np.ndarray

  def batch(
    self,
    key: jax.Array,
    step: jax.Array,
    part: jax.Array | int,
    size: int,
    config: ml_collections.ConfigDict,
    batching: Batching,
  ) -> tuple[jax.Array, jax.Array]:
    """The images at hand of one batch.

    Args:
      key: two raw random keys `[2, ...]`: of the order and of the augmentation.
      step: batches before this one.
      part: which part to draw from.
      size: images in the whole batch.
      config: for `data`, see `augment.crop_and_flip`.
      batching: how the batch is split.

    Returns:
      uint8 images `[size / shards, height, width, channels]` and int32 labels.
    """
    at = batching.own(positions(key[0], step, self.parts.shape[1], size))
    images, labels = take(self.split, self.parts[part][at])
    return augment.crop_and_flip(images, key[1], config, batching), labels


class Streamed(NamedTuple):
  """Batches of some steps that came from the host, augmented there, and split over the devices.

  Attributes:
    images: uint8 `[steps, parts, batch / shards, height, width, channels]`.
    labels: int32 `[steps, parts, batch / shards]`.
    first: the step of the first of them.
  """

  images: jax.Array
  labels: jax.Array
  first: jax.Array

  def batch(
    self,
    key: jax.Array,
    step: jax.Array,
    part: jax.Array | int,
    size: int,
    config: ml_collections.ConfigDict,
    batching: Batching,
  ) -> tuple[jax.Array, jax.Array]:
    """See `Resident.batch`; the order and the augmentation are those of the stream."""
    return self.images[step - self.first, part], self.labels[step - self.first, part]


Feed = Resident | Streamed


def spec(feed: Feed) -> Any:
  """How a feed lies on the devices, for `Devices.spmd`."""
  return WHOLE if isinstance(feed, Resident) else Streamed(along(2), along(2), WHOLE)  # type: ignore[arg-type]


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
