"""Pooling whose backward pass is cheap.

Of max pooling, the backward pass of `lax.reduce_window` (select-and-scatter) costs more on the CPU than all
convolutions of a mixed op together. Remembering which tap won turns it into nine shifted selects. XLA's CPU backend
runs average pooling's `reduce_window` on one thread; it is a depthwise convolution too.
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.models.layers.depthwise import depthwise, shifted, shifts, spread
from lfr_darts_jax.models.layers.linear_primitive import linear_primitive
from lfr_darts_jax.runtime import target

SIZE = 3
PAD = 1


def max_pool(x: jax.Array, stride: int) -> jax.Array:
  """Maximum over 3x3 windows, padded by one; the first maximum of a window takes the gradient, as in PyTorch.

  Args:
    x: `[batch, height, width, channels]`.
    stride: step between windows, in pixels.

  Returns:
    `[batch, ceil(height / stride), ceil(width / stride), channels]`.
  """
  if target.is_any():
    return _pooled(x, -jnp.inf, stride, nn.max_pool)
  return _max_pool(x, stride) if target.is_cpu() else max_pool_by_axis(x, stride)


def _pooled(x: jax.Array, fill: float, stride: int, pool: Callable[..., jax.Array]) -> jax.Array:
  """Flax's pooling of the padded image, which converters know."""
  wide = jnp.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), constant_values=fill)
  return pool(wide, window_shape=(SIZE, SIZE), strides=(stride, stride), padding="VALID")


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, stride: int) -> jax.Array:
  return _maximum(x, stride)[0]


@_max_pool.defjvp
def _max_pool_jvp(stride: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  best, winner = _maximum(primals[0], stride)
  return best, _gather(tangents[0], winner, stride=stride)


@functools.partial(jax.jit, static_argnums=1)
def _maximum(x: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
  def one(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    padded = jnp.pad(x, ((PAD, PAD), (PAD, PAD), (0, 0)), constant_values=-jnp.inf)[None]
    views = shifted(padded, SIZE, stride, 1, (-(-x.shape[0] // stride), -(-x.shape[1] // stride)))
    best, winner = views[0], jnp.zeros(views[0].shape, jnp.int8)
    for tap, view in enumerate(views[1:], 1):
      winner = jnp.where(view > best, jnp.int8(tap), winner)
      best = jnp.maximum(best, view)
    return best[0], winner[0]

  # A boundary for XLA's CPU fusions (jax 0.10.2): where they melt this into its neighbours, second derivatives came out
  # wrong by percents at some image sizes, right with the fusion pass turned off.
  return lax.map(one, x)


@linear_primitive(
  "max_pool_gather",
  (lambda g, x, winner, stride: _scatter(g, winner, stride=stride, image=x.shape[1:3]), None),
  ("stride",),
)
def _gather(x: jax.Array, winner: jax.Array, stride: int) -> jax.Array:
  """Reads at each output the pixel that won, `[batch, height / stride, width / stride, channels]`."""
  views = shifted(
    jnp.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))), SIZE, stride, 1, (winner.shape[1], winner.shape[2])
  )
  return sum((jnp.where(winner == tap, view, 0) for tap, view in enumerate(views)), jnp.zeros((), x.dtype))


@linear_primitive(
  "max_pool_scatter", (lambda x, g, winner, stride, image: _gather(x, winner, stride=stride), None), ("stride", "image")
)
def _scatter(g: jax.Array, winner: jax.Array, stride: int, image: tuple[int, int]) -> jax.Array:
  """Sends each output's gradient to the pixel that won: `[batch, *image, channels]`."""
  # Input pixel p is tap t of the output at p - t, so the views run through the taps backwards.
  views = zip(
    shifted(spread(g, SIZE, stride, 1, PAD, image), SIZE, 1, 1, image),
    shifted(spread(winner, SIZE, stride, 1, PAD, image), SIZE, 1, 1, image),
    strict=False,
  )
  last = SIZE * SIZE - 1
  taken = (jnp.where(won == last - tap, view, 0) for tap, (view, won) in enumerate(views))
  return sum(taken, jnp.zeros((), g.dtype))


def avg_pool(x: jax.Array, stride: int, method: str = "auto") -> jax.Array:
  """Average over 3x3 windows, padded by one, of the pixels inside the image.

  Args:
    x: `[batch, height, width, channels]`.
    stride: step between windows, in pixels.
    method: as of `depthwise`; as shifted sums it takes a third to two thirds of the time on the CPU.

  Returns:
    `[batch, ceil(height / stride), ceil(width / stride), channels]`.
  """
  if target.is_any():
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return _pooled(x, 0, stride, nn.avg_pool) / _pooled(inside, 0, stride, nn.avg_pool)
  if not shifts(method):
    return avg_pool_by_axis(x, stride)
  sums = lambda x: depthwise(x, jnp.ones((SIZE, SIZE, 1, x.shape[-1]), x.dtype), stride, method=method)
  return sums(x) / sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_along(x: jax.Array, axis: int, stride: int) -> jax.Array:
  return _best_along(x, axis, stride)[0]


@_max_along.defjvp
def _max_along_jvp(
  axis: int, stride: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  best, winner = _best_along(primals[0], axis, stride)
  views = _views_along(tangents[0], axis, stride, 0)
  return best, sum((jnp.where(winner == i, view, 0) for i, view in enumerate(views)), jnp.zeros((), best.dtype))


def _best_along(x: jax.Array, axis: int, stride: int) -> tuple[jax.Array, jax.Array]:
  best, *others = _views_along(x, axis, stride, -jnp.inf)
  winner = jnp.zeros(best.shape, jnp.int8)
  for i, view in enumerate(others, 1):
    winner = jnp.where(view > best, jnp.int8(i), winner)
    best = jnp.maximum(best, view)
  return best, winner


def _views_along(x: jax.Array, axis: int, stride: int, fill: float) -> list[jax.Array]:
  """What the three taps of a window read, at every output along an axis."""
  pad = [(PAD, PAD) if i == axis else (0, 0) for i in range(x.ndim)]
  wide, reach = jnp.pad(x, pad, constant_values=fill), (-(-x.shape[axis] // stride) - 1) * stride + 1
  return [lax.slice_in_dim(wide, tap, tap + reach, stride, axis) for tap in range(SIZE)]


def max_pool_by_axis(x: jax.Array, stride: int) -> jax.Array:
  """`max_pool` along rows, then along columns, for accelerators: the same values, and the same pixels win."""
  # Fused with what makes its input, a pixel may be computed anew for every window, each time with another rounding;
  # equal pixels are then equal no more, and others win.
  x = lax.optimization_barrier(x)
  return lax.optimization_barrier(_max_along(_max_along(x, 2, stride), 1, stride))


def avg_pool_by_axis(x: jax.Array, stride: int) -> jax.Array:
  """`avg_pool` along rows, then along columns, for accelerators."""
  total = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  for axis in (2, 1):
    inside = jnp.stack(_views_along(jnp.ones(x.shape[axis]), 0, stride, 0)).sum(0)
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    total = sum(_views_along(total, axis, stride, 0)) / inside.reshape(shape)
  return lax.optimization_barrier(total.astype(x.dtype))
