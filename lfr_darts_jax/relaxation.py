"""The continuous relaxation: alphas and live candidates to mixture weights. The seam where search methods differ."""

import jax
import jax.numpy as jnp


def mixture_weights(alphas: jax.Array, live: jax.Array) -> jax.Array:
  """Softmax over the live operations of every edge (DARTS, equation 2).

  Args:
    alphas: `[edges, operations]`, unnormalised.
    live: `[edges, operations]` bool, which candidates the edge still has.

  Returns:
    `[edges, operations]`, each row summing to one; dead entries, and edges with no live one, are exactly zero.
  """
  largest = jnp.max(alphas, axis=-1, keepdims=True, where=live, initial=-jnp.inf)
  centred = jnp.where(live, alphas - jax.lax.stop_gradient(largest), 0)
  powers = jnp.where(live, jnp.exp(centred), 0)
  total = jnp.sum(powers, axis=-1, keepdims=True)
  return powers / jnp.where(total > 0, total, 1)


def entropy(weights: jax.Array) -> jax.Array:
  """Shannon entropy of every edge's mixture, in nats: `[edges, operations]` to `[edges]`."""
  return -jnp.sum(jnp.where(weights > 0, weights * jnp.log(jnp.where(weights > 0, weights, 1)), 0), axis=-1)
