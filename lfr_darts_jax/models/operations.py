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

from lfr_darts_jax.models.layers.conv import convolution, pointwise
from lfr_darts_jax.models.layers.depthwise import DepthwiseConv
from lfr_darts_jax.models.layers.norm import batch_norm
from lfr_darts_jax.models.layers.pooling import avg_pool, max_pool
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH, BatchSharding


class LayerSettings(NamedTuple):
  """How all layers of a network compute.

  Attributes:
    searching: whether batch norms lack affine parameters and follow pools too.
    depthwise: the method of depthwise convolutions, see `depthwise.depthwise`.
    sharding: how the batch is split over devices, and grouped for batch norm.
    activation: what comes before convolutions.
  """

  searching: bool = False
  depthwise: str = "auto"
  sharding: BatchSharding = WHOLE_BATCH
  activation: Callable[[jax.Array], jax.Array] = nn.relu


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


class DilConv(Operation):
  """Depthwise separable convolution with dilation 2, applied once."""

  size: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = DepthwiseConv(self.size, self.stride, 2, self.settings.depthwise)(self.activate(x))
    return self.batch_norm(pointwise(self.channels)(x), train)


class Conv7x1(Operation):
  """A 1x7 convolution followed by a 7x1 one."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = convolution(self.channels, (1, 7), (1, self.stride), ((0, 0), (3, 3)))(self.activate(x))
    x = convolution(self.channels, (7, 1), (self.stride, 1), ((3, 3), (0, 0)))(x)
    return self.batch_norm(x, train)


OPERATIONS: dict[str, Callable[..., Operation]] = {
  "none": Zero,
  "max_pool_3x3": MaxPool,
  "avg_pool_3x3": AvgPool,
  "skip_connect": SkipConnect,
  "sep_conv_3x3": functools.partial(SepConv, size=3),
  "sep_conv_5x5": functools.partial(SepConv, size=5),
  "sep_conv_7x7": functools.partial(SepConv, size=7),
  "dil_conv_3x3": functools.partial(DilConv, size=3),
  "dil_conv_5x5": functools.partial(DilConv, size=5),
  "conv_7x1_1x7": Conv7x1,
}
