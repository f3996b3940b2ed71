"""Everything that an update needs, as pytrees: donated to the jitted update, saved in checkpoints."""

from typing import Any

from flax import struct
import jax
import optax

Tree = Any


class SearchState(struct.PyTreeNode):
  """State of one iteration of the search.

  Attributes:
    step: updates done in this iteration, int32 scalar.
    params: weights of the supernet.
    batch_stats: running statistics of its batch norms.
    alphas: per searched cell, `[edges, operations]`; dead entries stay in place.
    live: like `alphas`, bool: which candidates are left.
    weight_state: state of the weights' optimizer.
    alpha_state: state of the alphas' optimizer.
    key: raw random key of the iteration, from which those of every update are folded.
  """

  step: jax.Array
  params: Tree
  batch_stats: Tree
  alphas: dict[str, jax.Array]
  live: dict[str, jax.Array]
  weight_state: optax.OptState
  alpha_state: optax.OptState
  key: jax.Array


class TrainState(struct.PyTreeNode):
  """State of the final training; attributes as in `SearchState`."""

  step: jax.Array
  params: Tree
  batch_stats: Tree
  weight_state: optax.OptState
  key: jax.Array
