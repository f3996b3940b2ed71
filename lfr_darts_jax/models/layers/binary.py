"""Convolution of signs by signs, with the gradient that passes straight through (Courbariaux et al. 2016)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.models.layers.conv import conv_general_dilated
from lfr_darts_jax.models.layers.init import kernel_init


# As a jvp, so that second derivatives exist in both modes.
@jax.custom_jvp
def sign(x: jax.Array) -> jax.Array:
  """1 from zero on and -1 below; its derivative counts as 1 within 1 of zero, and as 0 elsewhere."""
  return jnp.where(x >= 0, 1, -1).astype(x.dtype)


@sign.defjvp
def _sign_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  return sign(primals[0]), jnp.where(jnp.abs(primals[0]) <= 1, tangents[0], 0)


class BinaryConv(nn.Module):
  """Convolves the signs of an image with those of a kernel, scaled by the kernel's mean size (XNOR-Net, equation 6).

  The kernel that is learnt is real.

  Attributes:
    features: of the output.
    size: height and width of the kernel, odd.
    stride: step between outputs, in pixels.
    dilation: distance between taps, in pixels.
  """

  features: int
  size: int
  stride: int = 1
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", kernel_init, (self.size, self.size, x.shape[-1], self.features)).astype(x.dtype)
    pad = self.dilation * (self.size // 2)
    y = conv_general_dilated(
      sign(x),
      sign(kernel),
      (self.stride, self.stride),
      ((pad, pad), (pad, pad)),
      rhs_dilation=(self.dilation, self.dilation),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y * jnp.mean(jnp.abs(kernel), axis=(0, 1, 2))
