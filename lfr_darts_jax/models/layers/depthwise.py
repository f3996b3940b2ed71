"""Depthwise convolution that is fast on CPU, GPU and TPU.

XLA's CPU backend runs a grouped `lax.conv_general_dilated` ten times slower than the same sum written as shifted
multiply-adds, so on the CPU the sum is written out here with its own transposes. They come from one trilinear form

    T(x, kernel, g) = sum(convolve(x, kernel) * g)

whose three partial gradients are the three primitives below. Each is bilinear, and its transposes are the other two,
which closes the set: derivatives of any order exist in both modes, as the exact second order of the bilevel update
needs.

Padding is PyTorch's, `dilation * (size - 1) / 2` on every side also when strided, which is not XLA's "SAME".
"""

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.models.layers.init import kernel_init
from lfr_darts_jax.models.layers.linear_primitive import linear_primitive
from lfr_darts_jax.runtime import target


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1, method: str = "auto") -> jax.Array:
  """Convolves every channel with a kernel of its own.

  Args:
    x: `[batch, height, width, channels]`.
    kernel: `[size, size, 1, channels]`, `size` odd.
    stride: step between outputs, in pixels, along both axes.
    dilation: distance between taps, in pixels.
    method: "shifts" for shifted multiply-adds, "conv" for `lax.conv_general_dilated`; "auto" takes shifts on the CPU.

  Returns:
    `[batch, ceil(height / stride), ceil(width / stride), channels]`.
  """
  if shifts(method):
    return _convolve(x, kernel, stride=stride, dilation=dilation)
  pad = _padding(kernel, dilation)
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((pad, pad), (pad, pad)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def shifts(method: str) -> bool:
  """Whether a method, see `depthwise`, is that of shifted multiply-adds here."""
  return not target.is_any() and (method == "shifts" or (method == "auto" and target.is_cpu()))


class DepthwiseConv(nn.Module):
  """`depthwise` with a learnt kernel and no bias.

  Attributes:
    size: side of the square kernel, odd.
    stride: see `depthwise`.
    dilation: see `depthwise`.
    method: see `depthwise`.
  """

  size: int
  stride: int = 1
  dilation: int = 1
  method: str = "auto"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", kernel_init, (self.size, self.size, 1, x.shape[-1]), jnp.float32)
    return depthwise(x, kernel.astype(x.dtype), self.stride, self.dilation, self.method)


def shifted(x: jax.Array, size: int, stride: int, dilation: int, count: tuple[int, int]) -> list[jax.Array]:
  """The `size * size` views of a padded image that its outputs read, one per tap, row by row.

  Args:
    x: `[batch, height, width, channels]`, padded.
    size: taps per axis.
    stride: step between outputs.
    dilation: step between taps.
    count: outputs along height and width.

  Returns:
    `size * size` arrays `[batch, count[0], count[1], channels]`.
  """
  batch, _, _, channels = x.shape
  height, width = ((n - 1) * stride + 1 for n in count)
  return [
    lax.slice(x, (0, i, j, 0), (batch, i + height, j + width, channels), (1, stride, stride, 1))
    for i in range(0, size * dilation, dilation)
    for j in range(0, size * dilation, dilation)
  ]


def spread(g: jax.Array, size: int, stride: int, dilation: int, pad: int, image: tuple[int, int]) -> jax.Array:
  """Pads the gradient of an output so that `shifted` views of it at stride 1 line up with the input image.

  Args:
    g: `[batch, height / stride, width / stride, channels]`.
    size, stride, dilation, pad: of the forward window.
    image: height and width of the input.

  Returns:
    `[batch, height + dilation * (size - 1), width + dilation * (size - 1), channels]`.
  """
  reach = dilation * (size - 1)
  low = reach - pad
  sides = zip(image, g.shape[1:3], strict=True)
  config = [(low, n + reach - low - ((m - 1) * stride + 1), stride - 1) for n, m in sides]
  return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _padding(kernel: jax.Array, dilation: int) -> int:
  return dilation * (kernel.shape[0] - 1) // 2


def _pad_image(x: jax.Array, pad: int) -> jax.Array:
  return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))


def _outputs(x: jax.Array, stride: int) -> tuple[int, int]:
  return -(-x.shape[1] // stride), -(-x.shape[2] // stride)


def _taps(views: list[jax.Array], kernel: jax.Array) -> jax.Array:
  accumulate = jnp.promote_types(kernel.dtype, jnp.float32)
  taps = kernel.reshape(-1, kernel.shape[-1]).astype(accumulate)
  return sum((view * tap for view, tap in zip(views[1:], taps[1:], strict=True)), views[0] * taps[0])


@linear_primitive(
  "depthwise",
  (
    lambda g, x, kernel, **p: _input_gradient(g, kernel, image=x.shape[1:3], **p),
    lambda g, x, kernel, **p: _kernel_gradient(x, g, size=kernel.shape[0], **p),
  ),
  ("stride", "dilation"),
)
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
  padded = _pad_image(x, _padding(kernel, dilation))
  return _taps(shifted(padded, kernel.shape[0], stride, dilation, _outputs(x, stride)), kernel).astype(x.dtype)


@linear_primitive(
  "depthwise_input_gradient",
  (
    lambda x, g, kernel, image, **p: _convolve(x, kernel, **p),
    lambda x, g, kernel, image, **p: _kernel_gradient(x, g, size=kernel.shape[0], **p),
  ),
  ("stride", "dilation", "image"),
)
def _input_gradient(g: jax.Array, kernel: jax.Array, stride: int, dilation: int, image: tuple[int, int]) -> jax.Array:
  """Gradient of T by x, `[batch, *image, channels]`: the convolution of g with the kernel turned around."""
  size = kernel.shape[0]

  def one(g: jax.Array) -> jax.Array:
    padded = spread(g[None], size, stride, dilation, _padding(kernel, dilation), image)
    return _taps(shifted(padded, size, 1, dilation, image), kernel[::-1, ::-1])[0].astype(g.dtype)

  # A loop is the one fusion boundary that XLA's CPU backend respects: without it the shifts of neighbouring
  # operations melt into kernels that compute every term many times over.
  return lax.map(one, g)


@linear_primitive(
  "depthwise_kernel_gradient",
  (
    lambda kernel, x, g, size, **p: _input_gradient(g, kernel, image=x.shape[1:3], **p),
    lambda kernel, x, g, size, **p: _convolve(x, kernel, **p),
  ),
  ("stride", "dilation", "size"),
)
def _kernel_gradient(x: jax.Array, g: jax.Array, stride: int, dilation: int, size: int) -> jax.Array:
  """Gradient of T by the kernel, `[size, size, 1, channels]`, in one pass over the image for all taps."""
  accumulate = jnp.promote_types(x.dtype, jnp.float32)
  padded = _pad_image(x, dilation * (size - 1) // 2)
  views = shifted(padded, size, stride, dilation, (g.shape[1], g.shape[2]))
  products = tuple(view.astype(accumulate) * g for view in views)
  zeros = (jnp.zeros((), accumulate),) * len(products)
  sums = lax.reduce(products, zeros, lambda a, b: tuple(p + q for p, q in zip(a, b, strict=False)), (0, 1, 2))
  return jnp.stack(sums).reshape(size, size, 1, x.shape[-1]).astype(x.dtype)
