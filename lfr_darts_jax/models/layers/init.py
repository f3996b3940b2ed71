"""First values of kernels, for which few programs are compiled however many shapes there are."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

FEWEST = 64  # Numbers drawn at once; fewer are not worth a program of their own.

_compiled_per_shape = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def kernel_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
  """Uniform within 1 / sqrt(fan_in): PyTorch's default for convolutions today; DARTS's: see docs/deviations.md.

  The same values as of `nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")`, which compiles a program for
  every shape. What JAX draws for an array begins with what it draws for a shorter one, so that the next power of two
  serves all shapes below it.

  Args:
    key: raw random key.
    shape: of the kernel, its outputs last.
    dtype: of its values.
  """
  if isinstance(key, jax.core.Tracer):
    return _compiled_per_shape(key, shape, dtype)
  count = math.prod(shape)
  drawn = np.asarray(jax.random.uniform(key, (max(FEWEST, 2 ** (count - 1).bit_length()),), dtype, -1))
  variance = drawn.dtype.type(1 / 3 / math.prod(shape[:-1]))
  return jnp.asarray(drawn[:count].reshape(shape) * np.sqrt(3 * variance))
