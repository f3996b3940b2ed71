"""Mixed ops on a part of a state's channels, which the others pass by (Xu et al., "PC-DARTS", ICLR 2020).

The part is the first channels, and the output is shuffled (PC-DARTS, section 3.1); or the channels that an attention
over channels ranks highest (after EPC-DARTS; its successor alpha-ADARTS has one attention per edge, ours has one per
state). What an edge gives is linear in both parts: `Part.place` of its mixed op, and its share of `Part.bypass`.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.runtime.distributed import BatchSharding


class PartialChannels(NamedTuple):
  """Which channels mixed ops see: one of `fraction`, the first or, with attention, the highest ranked."""

  fraction: int = 1
  attention: bool = False


ALL_CHANNELS = PartialChannels()


class Part(NamedTuple):
  """A state as its edges see it.

  Attributes:
    chosen: `[batch, height, width, channels / fraction]`.
    bypass: `[batch, height / s, width / s, channels]`, zero where the chosen ones go.
    place: puts what a mixed op made of the chosen ones, `[..., channels / fraction]`, among zeros, `[..., channels]`.
  """

  chosen: jax.Array
  bypass: jax.Array
  place: Callable[[jax.Array], jax.Array]


def first_channels(x: jax.Array, fraction: int, stride: int) -> Part:
  """The first channels; see `Part`."""
  count = x.shape[-1] // fraction
  # Shuffled over as many groups: channel j of group k comes to place j * fraction + k.
  spread = lambda parts: jnp.stack(parts, axis=-1).reshape(*parts[0].shape[:-1], -1)
  groups = jnp.split(_halved(x[..., count:], stride), fraction - 1, axis=-1)
  zeros = jnp.zeros_like(groups[0])
  place = lambda y: spread([y, *[jnp.zeros_like(y)] * (fraction - 1)])
  return Part(x[..., :count], spread([zeros, *groups]), place)


def attended_channels(x: jax.Array, fraction: int, stride: int, kernel: jax.Array, sharding: BatchSharding) -> Part:
  """The channels with the largest attention in the mean over the batch of all devices; see `Part`.

  Args:
    x: `[batch, height, width, channels]`.
    fraction: of the channels, one is taken.
    stride: of the edges out of this state.
    kernel: of the attention, see `attention`.
    sharding: how the batch is split over devices.
  """
  scale = attention(x, kernel)
  x = (x * scale[:, None, None]).astype(x.dtype)
  rank = jnp.mean(lax.stop_gradient(scale), axis=0)
  rank = rank if sharding.axis is None else lax.pmean(rank, sharding.axis)
  indices = lax.top_k(rank, x.shape[-1] // fraction)[1]
  # As a product: indices that are known when the program runs alone are slow to gather by.
  picked = jax.nn.one_hot(indices, x.shape[-1], dtype=x.dtype)
  left = 1 - jnp.sum(picked, axis=0)
  return Part(x @ picked.T, _halved(x, stride) * left, lambda y: y @ picked.astype(y.dtype))


def attention(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Efficient attention over channels (Wang et al., "ECA-Net", CVPR 2020): `[batch, channels]`, from 0 to 1.

  Args:
    x: `[batch, height, width, channels]`.
    kernel: `[size]`, size odd, along the channels' means over the image.
  """
  means = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))
  padded = jnp.pad(means, ((0, 0), (len(kernel) // 2,) * 2))
  taps = [kernel[i] * padded[:, i : i + means.shape[-1]] for i in range(len(kernel))]
  return jax.nn.sigmoid(sum(taps, jnp.zeros(())))


def attention_size(channels: int) -> int:
  """Length of the attention's kernel (ECA-Net, equation 12 with gamma 2 and b 1): odd, growing with the channels."""
  size = int(abs((math.log2(channels) + 1) / 2))
  return size if size % 2 else size + 1


def attention_init(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """First kernels `[states, size]`: uniform within 1 / sqrt(size)."""
  limit = 1 / np.sqrt(shape[1])
  return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


def _halved(x: jax.Array, stride: int) -> jax.Array:
  """What passes by a strided edge: the maxima of 2x2 pixels, odd images padded."""
  if stride == 1:
    return x
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-jnp.inf)
  x = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels)
  return jnp.max(x, axis=(2, 4))
