"""The candidate operations, and the table that names them.

Definitions follow DARTS (Liu et al., ICLR 2019, arXiv 1806.09055, section 3.1 and the released search space): ReLU,
convolution, batch norm in this order; separable convolutions applied twice; factorized reduction on strided skips;
during the search no affine parameters in batch norm, and a batch norm after every pool.

A new candidate is one module here and one row of `OPERATIONS`. Its attributes are `channels` (output features),
`stride` and `searching`; it maps `[batch, height, width, channels]` to `[batch, ceil(height / stride),
ceil(width / stride), channels]`.
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.convolution import conv_general_dilated
from lfr_darts_jax.convolution import dot_general
from lfr_darts_jax.convolution import like_input
from lfr_darts_jax.depthwise import DepthwiseConv
from lfr_darts_jax.initializers import kernel_init
from lfr_darts_jax.norm import WHOLE_BATCH
from lfr_darts_jax.norm import Batching
from lfr_darts_jax.norm import batch_norm
from lfr_darts_jax.pooling import avg_pool
from lfr_darts_jax.pooling import max_pool

# A 1x1 convolution as the matrix product that it is: XLA's CPU convolutions are slow inside loops.
pointwise = functools.partial(
  nn.Dense, use_bias=False, kernel_init=kernel_init, promote_dtype=like_input, dot_general=dot_general
)
convolution = functools.partial(
  nn.Conv,
  use_bias=False,
  kernel_init=kernel_init,
  promote_dtype=like_input,
  conv_general_dilated=conv_general_dilated,
)


class Operation(nn.Module):
  """What all candidates share.

  Attributes:
    channels: output features.
    stride: step between outputs, in pixels.
    searching: whether batch norms lack affine parameters and follow pools too.
    depthwise: the method of depthwise convolutions, see `depthwise.depthwise`.
    batching: see `norm.Batching`.
  """

  channels: int
  stride: int
  searching: bool
  depthwise: str = "auto"
  batching: Batching = WHOLE_BATCH

  def batch_norm(self, x: jax.Array, train: bool) -> jax.Array:
    """Batch norm, with affine parameters in a final network."""
    return batch_norm(x, train, self.batching, affine=not self.searching)


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
    return self.batch_norm(x, train) if self.searching else x


class AvgPool(Operation):
  """3x3 average pooling over the pixels inside the image."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = avg_pool(x, self.stride, self.depthwise)
    return self.batch_norm(y, train) if self.searching else y


class FactorizedReduce(Operation):
  """Halves the resolution by two 1x1 convolutions of stride 2, the second of the image shifted by one pixel.

  Each gives half of the channels; `stride` must be 2. An odd image is padded by one pixel at its far end.
  """

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = nn.relu(x)
    image_shifted = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    half = self.channels // 2
    x = jnp.concatenate(
      [
        pointwise(half, name="even")(x[:, ::2, ::2]),
        pointwise(self.channels - half, name="odd")(image_shifted[:, ::2, ::2]),
      ],
      axis=-1,
    )
    return self.batch_norm(x, train)


class SkipConnect(Operation):
  """Identity, or a factorized reduction where the edge is strided."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if self.stride == 1:
      return x
    return FactorizedReduce(self.channels, self.stride, self.searching, batching=self.batching)(x, train)


class ReluConvNorm(Operation):
  """1x1 convolution between ReLU and batch norm: the preprocessing of a cell's inputs; `stride` must be 1."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return self.batch_norm(pointwise(self.channels)(nn.relu(x)), train)


class SepConv(Operation):
  """Depthwise separable convolution, applied twice; the first is strided."""

  size: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    for features, stride in ((x.shape[-1], self.stride), (self.channels, 1)):
      x = DepthwiseConv(self.size, stride, method=self.depthwise)(nn.relu(x))
      x = pointwise(features)(x)
      x = self.batch_norm(x, train)
    return x


class DilConv(Operation):
  """Depthwise separable convolution with dilation 2, applied once."""

  size: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = DepthwiseConv(self.size, self.stride, 2, self.depthwise)(nn.relu(x))
    return self.batch_norm(pointwise(self.channels)(x), train)


class Conv7x1(Operation):
  """A 1x7 convolution followed by a 7x1 one."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = convolution(self.channels, (1, 7), (1, self.stride), ((0, 0), (3, 3)))(nn.relu(x))
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
