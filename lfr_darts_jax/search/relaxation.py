"""The continuous relaxation: from alphas to the weights of a mixed op. The first seam where methods differ."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax.search.state import Alphas


class Moment(NamedTuple):
  """When a mixture is asked for.

  Attributes:
    progress: of the stage's bilevel steps, from 0 to 1.
    training: whether it is for a step of the weights.
    key: raw random key; None for no noise, as in validation and pruning.
  """

  progress: jax.Array | float = 1.0
  training: jax.Array | bool = False
  key: jax.Array | None = None


# From alphas, their mask and the moment to `[edges, operations]`, in which pruned entries are exactly zero.
Relaxation = Callable[[Alphas, Alphas, Moment], jax.Array]


def softmax(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
  """Softmax over the operations left on every edge (DARTS, equation 2).

  Args:
    alphas: unnormalised.
    mask: which candidates the edge still has.
    moment: unused.

  Returns:
    `[edges, operations]`, each row summing to one; rows of edges without a candidate are zero.
  """
  values, left = alphas.operations, mask.operations
  chex.assert_equal_shape((values, left))
  largest = jnp.max(values, axis=-1, keepdims=True, where=left, initial=-jnp.inf)
  centred = jnp.where(left, values - jax.lax.stop_gradient(largest), 0)
  powers = jnp.where(left, jnp.exp(centred), 0)
  total = jnp.sum(powers, axis=-1, keepdims=True)
  return powers / jnp.where(total > 0, total, 1)


GATES: dict[str, Relaxation] = {"softmax": softmax}


def make(search: ml_collections.ConfigDict) -> Relaxation:
  """The relaxation that `config.search` asks for."""
  return GATES["softmax"]


def shares(mixture: jax.Array) -> jax.Array:
  """A mixture with rows that sum to one, whatever the gate; rows of zeros stay."""
  total = jnp.sum(mixture, axis=-1, keepdims=True)
  return mixture / jnp.where(total > 0, total, 1)


def entropy(mixture: jax.Array) -> jax.Array:
  """Shannon entropy of every edge's mixture, in nats: `[edges, operations]` to `[edges]`."""
  return -jnp.sum(jnp.where(mixture > 0, mixture * jnp.log(jnp.where(mixture > 0, mixture, 1)), 0), axis=-1)
