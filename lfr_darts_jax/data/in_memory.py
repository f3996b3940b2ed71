"""A data set that lies on every device, and the batch of step t from it.

A batch is a pure function of the random key and the step, so that resuming is exact.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.runtime.distributed import BatchSharding


class ArrayDataset(NamedTuple):
  """Images on the device: uint8 `images` `[n, height, width, channels]`, int32 `labels` `[n]`."""

  images: jax.Array | np.ndarray
  labels: jax.Array | np.ndarray

  def take(self, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The images and labels of some examples."""
    return jnp.take(self.images, indices, axis=0), jnp.take(self.labels, indices, axis=0)


class InMemoryChunk(NamedTuple):
  """What a chunk of steps needs of a data set that lies on every device.

  Attributes:
    dataset: the data set.
    splits: `[splits, n]` indices into it, of the splits that batches are drawn from.
  """

  dataset: ArrayDataset
  splits: jax.Array | np.ndarray

  def epoch(self, keys: jax.Array, step: jax.Array, batch_size: int) -> tuple["EpochBatches", jax.Array]:
    """The batches of the epoch that a step lies in.

    Every epoch is a permutation of its own; what does not fill a last batch is left out of that epoch.

    Args:
      keys: one raw random key of the order for each split, `[splits, ...]`.
      step: batches of each split before this one.
      batch_size: images, at most n.

    Returns:
      The batches, and the first step of the epoch after.
    """
    per_epoch = self.splits.shape[1] // batch_size
    number = step // per_epoch
    order = lambda key, split: jax.random.permutation(jax.random.fold_in(key, number), split)
    return EpochBatches(self.dataset, jax.vmap(order)(keys, self.splits), number * per_epoch), (number + 1) * per_epoch


class EpochBatches(NamedTuple):
  """Batches of one epoch, augmented on the device.

  Attributes:
    dataset: the data set.
    order: `[splits, n]` indices into it, batch after batch.
    first: the step of the first batch.
  """

  dataset: ArrayDataset
  order: jax.Array
  first: jax.Array

  def wrapped(self, step: jax.Array, batch_size: int) -> jax.Array:
    """The step of this epoch whose batch stands for that of a step which may lie behind its end."""
    return self.first + (step - self.first) % (self.order.shape[1] // batch_size)

  def batch(
    self,
    key: jax.Array,
    step: jax.Array,
    split: jax.Array | int,
    batch_size: int,
    config: ml_collections.ConfigDict,
    sharding: BatchSharding,
  ) -> tuple[jax.Array, jax.Array]:
    """This device's shard of one batch.

    Args:
      key: raw random key of the augmentation.
      step: batches before this one.
      split: which one to draw from.
      batch_size: images in the whole batch.
      config: for `data`, see `augment.crop_and_flip`.
      sharding: how the batch is split over devices.

    Returns:
      uint8 images `[batch_size / shards, height, width, channels]` and int32 labels.
    """
    indices = jax.lax.dynamic_slice_in_dim(self.order[split], (step - self.first) * batch_size, batch_size)
    indices = sharding.local_shard(indices)
    images, labels = self.dataset.take(indices)
    chex.assert_rank((images, labels), (4, 1))
    flips = None
    if config.data.flip == "alternating":
      epoch = self.first // (self.order.shape[1] // batch_size)
      flips = augment.alternating_flips(indices, epoch, config.seed)
    return augment.crop_and_flip(images, key, config, sharding, flips), labels
