"""Dense convolution for `nn.Conv` that keeps its speed inside loops.

XLA's CPU backend runs a convolution inside a while loop on one slow path (jax issue 12868; measured here: 190 ms
instead of 11 for the CIFAR stem at batch 64). As a matrix product over gathered patches it takes 5 ms in a loop or out.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.models.layers.init import kernel_init
from lfr_darts_jax.runtime import target


def like_input(*args: jax.Array | None, dtype: Any = None, inexact: bool = True) -> list[Any]:
  """Flax's `promote_dtype` for layers that compute in the type of their input, whatever that of their parameters."""
  inputs: Any = args[0]
  return [None if a is None else a.astype(inputs.dtype) for a in args]


def dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
  """`lax.dot_general` for `nn.Dense` over pixels, on matrices.

  Otherwise XLA's CPU backend copies the images transposed for the gradient of the kernel.

  Args:
    x: `[..., features]`.
    kernel: `[features, outputs]`.
    dimension_numbers: as `nn.Dense` gives them: the last axis of `x` with the first of the kernel.
    **options: passed on.

  Returns:
    `[..., outputs]`.
  """
  y = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
  return y.reshape(*x.shape[:-1], kernel.shape[-1])


def conv_general_dilated(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
  """`lax.conv_general_dilated`, as a matrix product over patches on the CPU.

  Args:
    x: `[batch, height, width, features]`.
    kernel: `[rows, columns, features, outputs]`.
    strides: along height and width.
    padding: what `lax.conv_general_dilated` takes.
    **options: passed on; a dilated or grouped convolution is left to XLA everywhere.

  Returns:
    `[batch, height', width', outputs]`.
  """
  plain = options.get("feature_group_count", 1) == 1 and all(
    d in (None, (1, 1)) for d in (options.get("lhs_dilation"), options.get("rhs_dilation"))
  )
  if not target.is_cpu() or not plain:
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)
  rows, columns = kernel.shape[:2]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], (rows, columns), strides, padding)
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], (rows, columns), strides, strict=True))
  patches = [
    x[:, i : i + (height - 1) * strides[0] + 1 : strides[0], j : j + (width - 1) * strides[1] + 1 : strides[1]]
    for i in range(rows)
    for j in range(columns)
  ]
  return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


# A 1x1 convolution as the matrix product that it is: XLA's CPU convolutions are slow inside loops.
pointwise = functools.partial(
  nn.Dense, use_bias=False, kernel_init=kernel_init, promote_dtype=like_input, dot_general=dot_general
)
convolution = functools.partial(
  nn.Conv, use_bias=False, kernel_init=kernel_init, promote_dtype=like_input, conv_general_dilated=conv_general_dilated
)
