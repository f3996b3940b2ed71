"""The batch of step t, on the device: of a data set that lies there, or of one that is streamed to it.

Both are a pure function of the random key and the step, so that resuming is exact.
"""

from collections.abc import Callable
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
  """A data set that lies on every device.

  Attributes:
    split: the data set.
    parts: `[parts, n]` indices into it, of the parts that batches are drawn from.
  """

  split: Split
  parts: jax.Array | np.ndarray

  def epoch(self, keys: jax.Array, step: jax.Array, size: int) -> tuple["Epoch", jax.Array]:
    """The batches of the epoch that a step lies in.

    Every epoch is a permutation of its own; what does not fill a last batch is left out of that epoch.

    Args:
      keys: one raw random key of the order for each part, `[parts, ...]`.
      step: batches of each part before this one.
      size: images in a batch, at most n.

    Returns:
      The batches, and the first step of the epoch after.
    """
    per_epoch = self.parts.shape[1] // size
    number = step // per_epoch
    order = lambda key, part: jax.random.permutation(jax.random.fold_in(key, number), part)
    return Epoch(self.split, jax.vmap(order)(keys, self.parts), number * per_epoch), (number + 1) * per_epoch


class Epoch(NamedTuple):
  """Batches of a data set that lies on every device, augmented there.

  Attributes:
    split: the data set.
    order: `[parts, n]` indices into it, batch after batch.
    first: the step of the first batch.
  """

  split: Split
  order: jax.Array
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
    """The images at hand of one batch.

    Args:
      key: raw random key of the augmentation.
      step: batches before this one.
      part: which part to draw from.
      size: images in the whole batch.
      config: for `data`, see `augment.crop_and_flip`.
      batching: how the batch is split.

    Returns:
      uint8 images `[size / shards, height, width, channels]` and int32 labels.
    """
    indices = jax.lax.dynamic_slice_in_dim(self.order[part], (step - self.first) * size, size)
    images, labels = take(self.split, batching.own(indices))
    return augment.crop_and_flip(images, key, config, batching), labels


class Streamed(NamedTuple):
  """Batches of some steps that came from the host, split over the devices.

  Attributes:
    images: uint8 `[steps, parts, batch / shards, height, width, channels]`.
    labels: int32 `[steps, parts, batch / shards]`.
    first: the step of the first of them.
  """

  images: jax.Array
  labels: jax.Array
  first: jax.Array

  def epoch(self, keys: jax.Array, step: jax.Array, size: int) -> tuple["Streamed", jax.Array]:
    """See `Resident.epoch`; what came from the host knows no epochs."""
    return self, jnp.int32(jnp.iinfo(jnp.int32).max)

  def batch(
    self,
    key: jax.Array,
    step: jax.Array,
    part: jax.Array | int,
    size: int,
    config: ml_collections.ConfigDict,
    batching: Batching,
  ) -> tuple[jax.Array, jax.Array]:
    """See `Epoch.batch`; the order is that of the stream, and so is Inception's augmentation."""
    images, labels = self.images[step - self.first, part], self.labels[step - self.first, part]
    if config.data.augmentation == "cifar":
      images = augment.crop_and_flip(images, key, config, batching)
    return images, labels


Feed = Resident | Streamed
Batches = Epoch | Streamed


def spec(feed: Feed) -> Any:
  """How a feed lies on the devices, for `Devices.spmd`."""
  return WHOLE if isinstance(feed, Resident) else Streamed(along(2), along(2), WHOLE)  # type: ignore[arg-type]


def loop(
  feed: Feed, keys: jax.Array, size: int, stop: jax.Array, body: Callable[[Any, Batches], Any], start: Any
) -> Any:
  """Updates until a step; an epoch's order is drawn once, since to sort a large one takes longer than a small update.

  Args:
    feed, keys, size: see `Resident.epoch`.
    stop: the step to stop at.
    body: one update of a carry, with batches that hold its step's.
    start: the carry, whose first entry has its `step`.

  Returns:
    The last carry.
  """

  def epoch(carry):
    batches, end = feed.epoch(keys, carry[0].step, size)
    end = jnp.minimum(stop, end)
    return jax.lax.while_loop(lambda carry: carry[0].step < end, lambda carry: body(carry, batches), carry)

  return jax.lax.while_loop(lambda carry: carry[0].step < stop, epoch, start)


def take(split: Split, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The images and labels of some examples."""
  return jnp.take(split.images, indices, axis=0), jnp.take(split.labels, indices, axis=0)
