"""Parameters and multiply-adds of a network."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.depthwise import DepthwiseConv

_COUNTED = (nn.Conv, nn.Dense, DepthwiseConv)


def parameters(params: Any) -> int:
  """Number of scalars in a tree of arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def describe(network: nn.Module, image_shape: tuple[int, int, int], **arguments: Any) -> dict[str, int]:
  """Cost of a network, from shapes alone: nothing is computed.

  Args:
    network: a `network.Network`; its auxiliary head serves training alone.
    image_shape: height, width and channels.
    **arguments: of the network's call.

  Returns:
    `parameters` without the auxiliary head and `parameters_with_auxiliary`; `multiply_adds` of convolutions and dense
    layers for one image at test time.
  """
  total = 0

  def count(next_method, args, kwargs, context):
    nonlocal total
    y = next_method(*args, **kwargs)
    if isinstance(context.module, _COUNTED) and context.method_name == "__call__":
      kernel = context.module.get_variable("params", "kernel")
      total += math.prod(y.shape[:-1]) * math.prod(kernel.shape)
    return y

  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, **arguments), images)
  # Written out, since a loop over edges would be counted once.
  network = network.clone(edges="unroll")
  with nn.intercept_methods(count):
    jax.eval_shape(lambda v, x: network.apply(v, x, **arguments), variables, images)
  params = dict(variables["params"])
  with_auxiliary = parameters(params)
  params.pop("auxiliary", None)
  return {"parameters": parameters(params), "parameters_with_auxiliary": with_auxiliary, "multiply_adds": total}
