"""The candidate operations on many edges at once, as the star cell computes them.

- A depthwise convolution and the 1x1 behind it have nothing between them. They are composed into one dense kernel, for
  matrix units, and all edges out of a state share one convolution.
- Dilation by 2 becomes four images of half the size without dilation, one for every parity of rows and columns.
- Pools are computed once per state, not once per edge.
"""

from collections.abc import Callable, Sequence
import functools
import itertools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.models.layers import pooling
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.runtime import target

Tree = Any


def ends(counts: Sequence[int]) -> list[int]:
  """Where to split what has so many of each."""
  return list(itertools.accumulate(counts))[:-1]


class Edges(NamedTuple):
  """What an operation needs to be computed on all edges of a departure that have it.

  Attributes:
    states: those that such edges leave, each `[batch, height, width, channels]`.
    counts: how many leave each of them.
    stride: of the edges.
    params: the operation's, every leaf with a row per edge; dense kernels in the place of what they are composed of.
    settings: how layers compute.
  """

  states: list[jax.Array]
  counts: list[int]
  stride: int
  params: Tree
  settings: LayerSettings

  @property
  def active(self) -> list[jax.Array]:
    """The states behind the activation."""
    return [self.settings.activation(state) for state in self.states]


class Output(NamedTuple):
  """What an operation gives, before its last batch norm.

  Attributes:
    values: `[batch, height, width, rows, channels]`.
    norm: names of the modules from the operation to that batch norm; None where there is none.
    shared: whether there is a row per source, which its edges share, instead of one per edge.
  """

  values: jax.Array
  norm: tuple[str, ...] | None = None
  shared: bool = False


def convolve(
  inputs: Sequence[jax.Array], counts: Sequence[int], kernels: jax.Array, strides: tuple[int, int] = (1, 1)
) -> jax.Array:
  """Convolves every input with kernels of its own: on GPUs in one grouped convolution where all have equally many.

  For TPUs XLA compiles a convolution per input sooner, into programs that move fewer bytes.

  Args:
    inputs: each `[batch, height, width, channels]`.
    counts: how many of the kernels are each one's.
    kernels: `[rows, height, width, channels, outputs]`, sides odd.
    strides: along height and width; padding keeps the size at stride 1.

  Returns:
    `[batch, height / s, width / s, rows, outputs]`.
  """
  if len(set(counts)) > 1 or (len(inputs) > 1 and target.platform() == "tpu"):
    parts = zip(inputs, counts, jnp.split(kernels, ends(counts)), strict=True)
    return jnp.concatenate([convolve([x], [count], own, strides) for x, count, own in parts], axis=3)
  rows, height, width, channels, outputs = kernels.shape
  y = lax.conv_general_dilated(
    jnp.concatenate(inputs, axis=-1),
    jnp.moveaxis(kernels, 0, 3).reshape(height, width, channels, rows * outputs).astype(inputs[0].dtype),
    strides,
    [(side // 2, side // 2) for side in (height, width)],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=len(inputs),
  )
  return y.reshape(*y.shape[:3], rows, outputs)


def composed(params: Tree) -> Tree:
  """The parameters of an operation with one dense kernel for each depthwise convolution and the 1x1 behind it.

  Args:
    params: `DepthwiseConv_i` `[rows, size, size, 1, channels]` and `Dense_i` `[rows, channels, outputs]`, and others.

  Returns:
    `Dense_i` `[rows, size, size, channels, outputs]`, and the others.
  """
  result = {name: tree for name, tree in params.items() if not name.startswith("DepthwiseConv")}
  for name, tree in params.items():
    if name.startswith("DepthwiseConv"):
      dense = name.replace("DepthwiseConv", "Dense")
      result[dense] = {"kernel": jnp.einsum("rhwic,rcd->rhwcd", tree["kernel"], params[dense]["kernel"])}
  return result


def by_parity(x: jax.Array) -> jax.Array:
  """`[batch, height, width, channels]` to `[4 batch, height / 2, width / 2, channels]`: dilation 2 becomes 1."""
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
  x = x.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
  return x.transpose(2, 4, 0, 1, 3, 5).reshape(4 * batch, (height + 1) // 2, (width + 1) // 2, channels)


def from_parity(x: jax.Array, height: int, width: int) -> jax.Array:
  """What `by_parity` took apart, with whatever axes there are behind the width."""
  images, rows, columns, *rest = x.shape
  x = x.reshape(2, 2, images // 4, rows, columns, *rest)
  x = jnp.moveaxis(x, (0, 1), (2, 4)).reshape(images // 4, 2 * rows, 2 * columns, *rest)
  return x[:, :height, :width]


def opening(edges: Edges) -> jax.Array:
  """The first half of a separable convolution."""
  return convolve(edges.active, edges.counts, edges.params["Dense_0"]["kernel"], (edges.stride, edges.stride))


def _sep_conv(edges: Edges, opened: jax.Array | None) -> Output:
  assert opened is not None
  inputs = [edges.settings.activation(opened[..., row, :]) for row in range(opened.shape[3])]
  return Output(convolve(inputs, [1] * len(inputs), edges.params["Dense_1"]["kernel"]), ("BatchNorm_1",))


def _dil_conv(edges: Edges, opened: jax.Array | None) -> Output:
  height, width = edges.states[0].shape[1:3]
  kernels = edges.params["Dense_0"]["kernel"]
  if edges.stride == 2:  # It reads the pixels of one parity alone.
    even = [x[:, ::2, ::2] for x in edges.active]
    return Output(convolve(even, edges.counts, kernels), ("BatchNorm_0",))
  y = convolve([by_parity(x) for x in edges.active], edges.counts, kernels)
  return Output(from_parity(y, height, width), ("BatchNorm_0",))


def _dw_conv(edges: Edges, opened: jax.Array | None) -> Output:
  strides = edges.stride, edges.stride
  return Output(convolve(edges.active, edges.counts, edges.params["Dense_0"]["kernel"], strides), ("BatchNorm_0",))


def _pool(pool: Callable[[jax.Array, int], jax.Array], edges: Edges, opened: jax.Array | None) -> Output:
  y = pool(jnp.concatenate(edges.states, axis=-1), edges.stride)
  norm_name = ("BatchNorm_0",) if edges.settings.searching else None
  return Output(y.reshape(*y.shape[:3], len(edges.states), -1), norm_name, shared=True)


def _skip_connect(edges: Edges, opened: jax.Array | None) -> Output:
  if edges.stride == 1:
    return Output(jnp.stack(edges.states, axis=3), shared=True)
  halves, params = [], edges.params["FactorizedReduce_0"]
  for shift, name in enumerate(("even", "odd")):
    pixels = [jnp.pad(x[:, shift:, shift:], ((0, 0), (0, shift), (0, shift), (0, 0))) for x in edges.active]
    kernels = params[name]["kernel"][:, None, None]
    halves.append(convolve([x[:, ::2, ::2] for x in pixels], edges.counts, kernels))
  return Output(jnp.concatenate(halves, axis=-1), ("FactorizedReduce_0", "BatchNorm_0"))


def _conv_7x1_1x7(edges: Edges, opened: jax.Array | None) -> Output:
  y = convolve(edges.active, edges.counts, edges.params["Conv_0"]["kernel"], (1, edges.stride))
  rows = [y[..., row, :] for row in range(y.shape[3])]
  return Output(convolve(rows, [1] * len(rows), edges.params["Conv_1"]["kernel"], (edges.stride, 1)), ("BatchNorm_0",))


# By operation, how it is computed on all edges of a departure at once; others take the reference's modules one by one.
FORMS: dict[str, Callable[[Edges, jax.Array | None], Output]] = {
  "max_pool_3x3": functools.partial(_pool, pooling.max_pool_by_axis),
  "avg_pool_3x3": functools.partial(_pool, pooling.avg_pool_by_axis),
  "skip_connect": _skip_connect,
  "sep_conv_3x3": _sep_conv,
  "sep_conv_5x5": _sep_conv,
  "sep_conv_7x7": _sep_conv,
  "dil_conv_3x3": _dil_conv,
  "dil_conv_5x5": _dil_conv,
  "conv_7x1_1x7": _conv_7x1_1x7,
  "dw_conv_3x3": _dw_conv,
  "dw_conv_5x5": _dw_conv,
}
COMPOSED = tuple(name for name in FORMS if name.startswith(("sep", "dil", "dw")))
OPENED = tuple(name for name in FORMS if name.startswith("sep"))
