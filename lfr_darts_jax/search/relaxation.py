"""The continuous relaxation: from alphas to the weights of a mixed op. The first seam where methods differ."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.search_space.cell_spec import edges


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

  def of_cell(self, index: int) -> "Moment":
    """The same with noise of a cell's own."""
    return self if self.key is None else self._replace(key=jax.random.fold_in(self.key, index))


# From alphas, their mask and the moment to `[edges, operations]`, in which pruned entries are exactly zero.
Relaxation = Callable[[Alphas, Alphas, Moment], jax.Array]


def softmax(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
  """Softmax over the operations left on every edge (DARTS, equation 2).

  Args:
    alphas: unnormalised.
    mask: which candidates the edge still has; from 0 to 1 of those that fade.
    moment: unused.

  Returns:
    `[edges, operations]`, each row summing to one; rows of edges without a candidate are zero.
  """
  values, left = alphas.operations, mask.operations > 0
  chex.assert_equal_shape((values, left))
  largest = jnp.max(values, axis=-1, keepdims=True, where=left, initial=-jnp.inf)
  centred = jnp.where(left, values - jax.lax.stop_gradient(largest), 0)
  powers = jnp.where(left, jnp.exp(centred), 0) * mask.operations
  total = jnp.sum(powers, axis=-1, keepdims=True)
  return powers / jnp.where(total > 0, total, 1)


def sigmoid(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
  """Every operation weighs by itself, from 0 to 1, without competition (FairDARTS, section 4); arguments as above."""
  return mask.operations * jax.nn.sigmoid(alphas.operations)


def gumbel(alphas: Alphas, mask: Alphas, moment: Moment, temperatures: tuple[float, float]) -> jax.Array:
  """One operation of every edge, sampled by softmax(alphas); gradients are those of a soft sample (GDAS, section 3.2).

  GDAS adds the bare weights of what it did not sample to the sum, whose gradient is an artefact; here they are zero.

  Args:
    alphas, mask: as of `softmax`.
    moment: without a key the mixture is `softmax`.
    temperatures: of the soft sample at the first and the last bilevel step, linear between.

  Returns:
    `[edges, operations]`: one in every row, zero elsewhere.
  """
  if moment.key is None:
    return softmax(alphas, mask, moment)
  first, last = temperatures
  temperature = first + (last - first) * jnp.clip(moment.progress, 0, 1)
  noisy = alphas.operations + jax.random.gumbel(moment.key, alphas.operations.shape, alphas.operations.dtype)
  soft = softmax(Alphas(noisy / temperature), mask, moment)
  hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype) * (mask.operations > 0)
  return hard * (1 + (soft - jax.lax.stop_gradient(soft)))


def sampled(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
  """One operation of every edge, sampled by softmax(alphas), while weights train; `softmax` while alphas move.

  ProxylessNAS (Cai et al., ICLR 2019, section 3.2) trains weights so, and moves the alphas of two operations at a time.
  A single computed path would not do in a chain: the batch norm behind it makes the loss blind to the scale of its
  output, which the gradient of a sampled gate is by.

  Args:
    alphas, mask: as of `softmax`.
    moment: without a key the mixture is `softmax`.
  """
  soft = softmax(alphas, mask, moment)
  if moment.key is None:
    return soft
  logits = jnp.where(soft > 0, jnp.log(jnp.where(soft > 0, soft, 1)), -jnp.inf)
  drawn = jax.random.categorical(moment.key, logits, axis=-1)
  hard = jax.nn.one_hot(drawn, soft.shape[-1], dtype=soft.dtype) * (soft > 0)
  return jnp.where(moment.training, hard, soft)


def edge_shares(logits: jax.Array, left: jax.Array) -> jax.Array:
  """Softmax over the edges into every node (PC-DARTS, equation 4).

  Args:
    logits: `[edges]`, in the order of `cell_spec.edges`.
    left: `[edges]` bool: which edges have candidates.

  Returns:
    `[edges]`; zero for edges without candidates.
  """
  targets = np.array([target for _, target in edges(len(logits))][: len(logits)])
  same = targets[:, None] == targets
  largest = jnp.max(jnp.where(same & left, logits, -jnp.inf), axis=-1, initial=jnp.finfo(logits.dtype).min)
  powers = jnp.where(left, jnp.exp(jnp.where(left, logits - jax.lax.stop_gradient(largest), 0)), 0)
  total = same @ powers
  return powers / jnp.where(total > 0, total, 1)


def reach(size: float, progress: jax.Array | float) -> jax.Array:
  """How far alphas are shaken at most: from a tenth of `size` at the first bilevel step to all of it at the last."""
  return size * (0.1 + 0.9 * jnp.clip(progress, 0, 1))


def uniform_like(tree: Any, key: jax.Array, size: jax.Array | float) -> Any:
  """Uniform noise from -size to size in the shape of a tree."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  draw = lambda key, leaf: size * jax.random.uniform(key, leaf.shape, leaf.dtype, -1, 1)
  return jax.tree.unflatten(structure, [draw(*pair) for pair in zip(keys, leaves, strict=True)])


def perturbed(relax: Relaxation, size: float) -> Relaxation:
  """A relaxation whose alphas are shaken while weights train (SDARTS-RS, equation 4); `size` as of `reach`."""

  def shaken(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
    if moment.key is not None:
      noise = uniform_like(alphas, moment.key, moment.training * reach(size, moment.progress))
      alphas = jax.tree.map(jnp.add, alphas, noise)
    return relax(alphas, mask, moment)

  return shaken


GATES: dict[str, Callable[[ml_collections.ConfigDict], Relaxation]] = {
  "softmax": lambda search: softmax,
  "sigmoid": lambda search: sigmoid,
  "gumbel": lambda search: functools.partial(gumbel, temperatures=search.temperatures),
  "sampled": lambda search: sampled,
}
SPARSE = ("gumbel", "sampled")


def is_sparse(search: ml_collections.ConfigDict) -> bool:
  """Whether mixtures have zeros at random places, so that operations can be skipped."""
  return search.gate in SPARSE


def make(search: ml_collections.ConfigDict) -> Relaxation:
  """The relaxation that `config.search` asks for."""
  gate = GATES[search.gate](search)

  def relax(alphas: Alphas, mask: Alphas, moment: Moment) -> jax.Array:
    mixture = gate(alphas, mask, moment)
    if alphas.edges is None:
      return mixture
    return mixture * edge_shares(alphas.edges, jnp.any(mask.operations > 0, axis=-1))[:, None]

  return perturbed(relax, search.perturbation) if search.perturbation and search.perturbed_by == "chance" else relax


def shares(mixture: jax.Array) -> jax.Array:
  """A mixture with rows that sum to one, whatever the gate; rows of zeros stay."""
  total = jnp.sum(mixture, axis=-1, keepdims=True)
  return mixture / jnp.where(total > 0, total, 1)


def entropy(mixture: jax.Array) -> jax.Array:
  """Shannon entropy of every edge's mixture, in nats: `[edges, operations]` to `[edges]`."""
  return -jnp.sum(jnp.where(mixture > 0, mixture * jnp.log(jnp.where(mixture > 0, mixture, 1)), 0), axis=-1)
