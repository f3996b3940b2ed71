"""The candidate operations, and the table that names them.

Definitions follow DARTS (Liu et al., ICLR 2019, arXiv 1806.09055, section 3.1 and the released search space): ReLU,
convolution, batch norm in this order; separable convolutions applied twice; factorized reduction on strided skips;
during the search no affine parameters in batch norm, and a batch norm after every pool.

A new candidate is one module here and one row of `OPERATIONS`. It maps `[batch, height, width, channels]` to `[batch,
ceil(height / stride), ceil(width / stride), channels]`.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.models.layers.binary import BinaryConv
from lfr_darts_jax.models.layers.conv import convolution, pointwise
from lfr_darts_jax.models.layers.depthwise import DepthwiseConv
from lfr_darts_jax.models.layers.norm import batch_norm
from lfr_darts_jax.models.layers.pooling import avg_pool, max_pool
from lfr_darts_jax.models.partial import ALL_CHANNELS, PartialChannels
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH, BatchSharding


class LayerSettings(NamedTuple):
  """How all layers of a network compute.

  Attributes:
    searching: whether batch norms lack affine parameters and follow pools too.
    depthwise: the method of depthwise convolutions, see `depthwise.depthwise`.
    sharding: how the batch is split over devices, and grouped for batch norm.
    activation: what comes before convolutions.
    partial: the channels that mixed ops see.
    steps: of time, which lie side by side in the batch; 1 for images alone.
  """

  searching: bool = False
  depthwise: str = "auto"
  sharding: BatchSharding = WHOLE_BATCH
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  partial: PartialChannels = ALL_CHANNELS
  steps: int = 1


class Operation(nn.Module):
  """What all candidates share.

  Attributes:
    channels: output features.
    stride: step between outputs, in pixels.
    settings: how layers compute.
  """

  channels: int
  stride: int = 1
  settings: LayerSettings = LayerSettings()

  def activate(self, x: jax.Array) -> jax.Array:
    """What comes before a convolution."""
    return self.settings.activation(x)

  def batch_norm(self, x: jax.Array, train: bool) -> jax.Array:
    """Batch norm, with affine parameters in a final network."""
    return batch_norm(x, train, self.settings.sharding, affine=not self.settings.searching)


class Zero(Operation):
  """No connection."""

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    height, width = (-(-n // self.stride) for n in x.shape[1:3])
    return jnp.zeros((x.shape[0], height, width, self.channels), x.dtype)


class MaxPool(Operation):
  """3x3 max pooling."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = max_pool(x, self.stride)
    return self.batch_norm(x, train) if self.settings.searching else x


class AvgPool(Operation):
  """3x3 average pooling over the pixels inside the image."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = avg_pool(x, self.stride, self.settings.depthwise)
    return self.batch_norm(x, train) if self.settings.searching else x


class FactorizedReduce(Operation):
  """Halves the resolution by two 1x1 convolutions of stride 2, the second of the image shifted by one pixel.

  Each gives half of the channels; `stride` must be 2. An odd image is padded by one pixel at its far end.
  """

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = self.activate(x)
    shifted = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    half = self.channels // 2
    even = pointwise(half, name="even")(x[:, ::2, ::2])
    odd = pointwise(self.channels - half, name="odd")(shifted[:, ::2, ::2])
    return self.batch_norm(jnp.concatenate([even, odd], axis=-1), train)


class SkipConnect(Operation):
  """Identity, or a factorized reduction where the edge is strided."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return x if self.stride == 1 else FactorizedReduce(self.channels, self.stride, self.settings)(x, train)


class ReluConvNorm(Operation):
  """1x1 convolution between ReLU and batch norm: the preprocessing of a cell's inputs; `stride` must be 1."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return self.batch_norm(pointwise(self.channels)(self.activate(x)), train)


class SepConv(Operation):
  """Depthwise separable convolution, applied twice; the first is strided."""

  size: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    for features, stride in ((x.shape[-1], self.stride), (self.channels, 1)):
      x = DepthwiseConv(self.size, stride, method=self.settings.depthwise)(self.activate(x))
      x = self.batch_norm(pointwise(features)(x), train)
    return x


class SepConvOnce(Operation):
  """Depthwise separable convolution, applied once: DARTS's dilated ones, and light ones without dilation."""

  size: int = 3
  dilation: int = 2

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = DepthwiseConv(self.size, self.stride, self.dilation, self.settings.depthwise)(self.activate(x))
    return self.batch_norm(pointwise(self.channels)(x), train)


class Conv7x1(Operation):
  """A 1x7 convolution followed by a 7x1 one."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = convolution(self.channels, (1, 7), (1, self.stride), ((0, 0), (3, 3)))(self.activate(x))
    x = convolution(self.channels, (7, 1), (self.stride, 1), ((3, 3), (0, 0)))(x)
    return self.batch_norm(x, train)


class MultiPath(Operation):
  """Depthwise convolutions of two sizes on half of the channels each, joined by a 1x1 (after MR-DARTS)."""

  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    paths = zip((3, 5), jnp.split(self.activate(x), [x.shape[-1] // 2], axis=-1), strict=True)
    halves = [DepthwiseConv(size, self.stride, self.dilation, self.settings.depthwise)(half) for size, half in paths]
    return self.batch_norm(pointwise(self.channels)(jnp.concatenate(halves, axis=-1)), train)


class ShuffleConv(Operation):
  """A 1x1 in two groups, their channels shuffled, then a depthwise one (after ShuffleNet, Zhang et al., CVPR 2018)."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    cut = self.channels // 2
    groups = zip((cut, self.channels - cut), jnp.split(self.activate(x), [x.shape[-1] // 2], axis=-1), strict=True)
    first, second = (pointwise(features)(half) for features, half in groups)
    pairs = jnp.stack([first, second[..., :cut]], axis=-1).reshape(*first.shape[:-1], 2 * cut)
    shuffled = jnp.concatenate([pairs, second[..., cut:]], axis=-1)
    return self.batch_norm(DepthwiseConv(3, self.stride, method=self.settings.depthwise)(shuffled), train)


class GhostConv(Operation):
  """Half of the channels by a 1x1, the others by a depthwise convolution of these (GhostNet, Han et al., CVPR 2020)."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    own = pointwise(-(-self.channels // 2))(self.activate(x)[:, :: self.stride, :: self.stride])
    ghosts = DepthwiseConv(3, method=self.settings.depthwise)(own)[..., : self.channels // 2]
    return self.batch_norm(jnp.concatenate([own, ghosts], axis=-1), train)


class BinConv(Operation):
  """Convolution of signs by signs and a batch norm; where it is not strided, a real shortcut besides."""

  size: int = 3
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = self.batch_norm(BinaryConv(self.channels, self.size, self.stride, self.dilation)(x), train)
    return y + x if self.stride == 1 else y


OPERATIONS: dict[str, Callable[..., Operation]] = {
  "none": Zero,
  "max_pool_3x3": MaxPool,
  "avg_pool_3x3": AvgPool,
  "skip_connect": SkipConnect,
  "sep_conv_3x3": functools.partial(SepConv, size=3),
  "sep_conv_5x5": functools.partial(SepConv, size=5),
  "sep_conv_7x7": functools.partial(SepConv, size=7),
  "dil_conv_3x3": functools.partial(SepConvOnce, size=3),
  "dil_conv_5x5": functools.partial(SepConvOnce, size=5),
  "conv_7x1_1x7": Conv7x1,
  "dw_conv_3x3": functools.partial(SepConvOnce, size=3, dilation=1),
  "dw_conv_5x5": functools.partial(SepConvOnce, size=5, dilation=1),
  "shuffle_conv_3x3": ShuffleConv,
  "ghost_conv_3x3": GhostConv,
  "multi_conv_3x3_5x5": MultiPath,
  "multi_dil_conv_3x3_5x5": functools.partial(MultiPath, dilation=2),
  "bin_conv_3x3": functools.partial(BinConv, size=3),
  "bin_conv_5x5": functools.partial(BinConv, size=5),
  "bin_dil_conv_3x3": functools.partial(BinConv, size=3, dilation=2),
  "bin_dil_conv_5x5": functools.partial(BinConv, size=5, dilation=2),
}
