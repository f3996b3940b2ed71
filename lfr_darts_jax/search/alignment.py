"""Layers that share alphas pulled towards asking the same of them (Movahedi et al., "Lambda-DARTS", ICLR 2023).

Where a cell is repeated, the gradients by its mixture differ from layer to layer, and those of deep layers are small,
so that the shallow ones decide. The weights are trained to have these gradients point the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


def agreement(gradients: Sequence[jax.Array]) -> jax.Array:
  """Mean cosine of the angles between the gradients of all pairs of layers, each of any equal shape."""
  flat = jnp.stack([g.ravel() for g in gradients])
  squares = jnp.sum(flat**2, axis=1, keepdims=True)
  unit = flat / jnp.sqrt(jnp.maximum(squares, jnp.finfo(flat.dtype).tiny))  # So of a layer without one, no nan.
  count = len(gradients)
  return (jnp.sum(unit @ unit.T) - jnp.sum(unit * unit)) / (count * (count - 1))


def pull(
  loss: Callable[[Tree, Mapping[str, jax.Array]], jax.Array],
  params: Tree,
  shifts: Mapping[str, jax.Array],
  groups: Sequence[Sequence[str]],
  mean: Callable[[Tree], Tree] = lambda tree: tree,
) -> Tree:
  """The gradient of the agreement of layers by the weights, exactly; Lambda-DARTS takes a finite difference.

  Args:
    loss: from weights and what is added to the mixture of every layer.
    params: the weights.
    shifts: zeros by layer.
    groups: layers that share alphas.
    mean: over the devices that share a batch.

  Returns:
    Like `params`.
  """
  gradients = mean(jax.grad(loss, argnums=1)(params, shifts))
  total = lambda gradients: sum(agreement([gradients[layer] for layer in group]) for group in groups)
  direction = jax.lax.stop_gradient(jax.grad(total)(gradients))
  by_params = lambda shifts: jax.grad(loss)(params, shifts)
  return mean(jax.jvp(by_params, (shifts,), (direction,))[1])
