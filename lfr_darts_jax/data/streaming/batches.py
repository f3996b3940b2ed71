"""Batches that were streamed to the devices: the same interface as those of `in_memory`."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax.data import augment
from lfr_darts_jax.runtime.distributed import BatchSharding


class StreamedChunk(NamedTuple):
  """Batches of a chunk of steps, split over the devices.

  Attributes:
    images: uint8 `[steps, splits, batch / shards, height, width, channels]`.
    labels: int32 `[steps, splits, batch / shards]`.
    first: the step of the first of them.
  """

  images: jax.Array
  labels: jax.Array
  first: jax.Array

  def epoch(self, keys: jax.Array, step: jax.Array, batch_size: int) -> tuple["StreamedChunk", jax.Array]:
    """See `InMemoryChunk.epoch`; the order is that of the stream, which does not end."""
    return self, jnp.int32(jnp.iinfo(jnp.int32).max)

  def wrapped(self, step: jax.Array, batch_size: int) -> jax.Array:
    """See `EpochBatches.wrapped`; of the batches that are here."""
    return self.first + (step - self.first) % self.images.shape[0]

  def batch(
    self,
    key: jax.Array,
    step: jax.Array,
    split: jax.Array | int,
    batch_size: int,
    config: ml_collections.ConfigDict,
    sharding: BatchSharding,
  ) -> tuple[jax.Array, jax.Array]:
    """See `EpochBatches.batch`; Inception's augmentation was done before."""
    images, labels = self.images[step - self.first, split], self.labels[step - self.first, split]
    chex.assert_rank((images, labels), (4, 1))
    if config.data.augmentation == "cifar":
      images = augment.crop_and_flip(images, key, config, sharding)
    return images, labels
