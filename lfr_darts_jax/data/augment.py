"""Normalisation and augmentation, inside jit."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.runtime import target
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH, BatchSharding

VALUES = 256  # Of a uint8.


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation per channel of uint8 images `[n, height, width, channels]`, on a scale of 0 to 1."""
  # From counts of the 256 values: exact, and no float copy of the data set.
  return moments(counts(images))


def counts(images: np.ndarray) -> np.ndarray:
  """How often each value comes in each channel of uint8 images: `[channels, 256]`."""
  channels = range(images.shape[-1])
  return np.stack([np.bincount(images[..., channel].ravel(), minlength=VALUES) for channel in channels])


def moments(counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation per channel, on a scale of 0 to 1, of what `counts` counted."""
  values = np.arange(VALUES) / 255
  means, stds = [], []
  for count in counts:
    mean = float(count @ values / count.sum())
    means.append(mean)
    # A constant channel carries nothing; dividing it by one keeps it finite.
    stds.append(float(np.sqrt(count @ (values - mean) ** 2 / count.sum())) or 1.0)
  return tuple(means), tuple(stds)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
  """uint8 images to float32 of zero mean and unit standard deviation per channel over the train split."""
  return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)


def crop_and_flip(
  images: jax.Array,
  key: jax.Array,
  config: ml_collections.ConfigDict,
  sharding: BatchSharding = WHOLE_BATCH,
  flips: jax.Array | None = None,
) -> jax.Array:
  """Random crops of images padded with zeros by `data.crop_padding`, and flips by `data.flip`.

  What is random is drawn for the whole batch, so that it does not depend on how that is split over devices.

  Args:
    images: uint8 `[batch / shards, height, width, channels]`.
    key: of what is random.
    config: for `data`.
    sharding: how the batch is split over devices.
    flips: bool `[batch / shards]`, see `alternating_flips`; None to draw them.
  """
  crop_key, flip_key = jax.random.split(key)
  batch = len(images) * sharding.shards
  pad = config.data.crop_padding
  if pad:
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = sharding.local_shard(jax.random.randint(crop_key, (batch, 2), 0, 2 * pad + 1))
    images = _windows(padded, corners, images.shape[1:3])
  if config.data.flip == "random":
    flips = sharding.local_shard(jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1)))
  if flips is not None:
    images = jnp.where(flips.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)
  return images


def _windows(images: jax.Array, corners: jax.Array, size: tuple[int, ...]) -> jax.Array:
  """A window of every image, uint8, of a size (height, width), from its own corner `[batch, 2]` on."""
  if target.platform() != "tpu":
    window = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (*size, image.shape[-1]))
    return jax.vmap(window)(images, corners)
  # There XLA makes of it a loop over the images. Matrices that select rows and columns are as exact: in every sum one
  # term is not zero, and bfloat16 has all integers up to 256.
  rows, columns = (
    jax.nn.one_hot(corners[:, i, None] + jnp.arange(size[i]), images.shape[i + 1], dtype=jnp.bfloat16) for i in (0, 1)
  )
  return jnp.einsum("bhy,bwx,byxc->bhwc", rows, columns, images.astype(jnp.bfloat16)).astype(images.dtype)


def alternating_flips(indices: jax.Array, epoch: jax.Array, seed: int) -> jax.Array:
  """Which images are flipped in an epoch: each in every other one (Jordan, "94 % on CIFAR-10 in 3.29 seconds", 2024).

  Args:
    indices: `[n]`, of the images in the data set.
    epoch: from 0.
    seed: of the flips in the first epoch.

  Returns:
    `[n]` bool.
  """
  first = jax.vmap(lambda index: jax.random.bits(jax.random.fold_in(jax.random.PRNGKey(seed), index)))(indices)
  return (first + epoch.astype(first.dtype)) % 2 == 1


def cutout(images: jax.Array, key: jax.Array, size: int, sharding: BatchSharding = WHOLE_BATCH) -> jax.Array:
  """Blanks a square around a random pixel of every normalised image; squares are cut off at the border.

  DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
  """
  height, width = images.shape[1:3]
  shape = 2, len(images) * sharding.shards, 1
  centres = jax.random.randint(key, shape, 0, jnp.array([height, width])[:, None, None])
  centres = jax.vmap(sharding.local_shard)(centres)
  inside = lambda n, centre: (jnp.arange(n) >= centre - size // 2) & (jnp.arange(n) < centre - size // 2 + size)
  hole = inside(height, centres[0])[:, :, None] & inside(width, centres[1])[:, None, :]
  return jnp.where(hole[..., None], 0, images)
