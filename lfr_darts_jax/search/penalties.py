"""Terms of the alphas' loss that depend on the choice alone, not on the weights: no step needs to know them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.models import cost
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.search.state import Alphas


class Choice(NamedTuple):
  """What a penalty sees.

  Attributes:
    alphas: per searched cell.
    mixtures: per searched cell `[edges, operations]`.
    mask: like `alphas`, bool: which candidates are left.
    progress: of the stage's bilevel steps, from 0 to 1.
    costs: like `mixtures`, and of cells that are derived too, multiply-adds of every candidate, see `cost.candidates`.
  """

  alphas: dict[str, Alphas]
  mixtures: dict[str, jax.Array]
  mask: dict[str, Alphas]
  progress: jax.Array | float = 1.0
  costs: Mapping[str, Any] = {}

  def mean(self, of_edge: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """The mean over all edges that have candidates.

    Args:
      of_edge: from an edge's alphas, mixture and mask, each `[operations]`, to its value.
    """
    join = lambda parts: jnp.concatenate([parts[name] for name in sorted(self.mixtures)])
    operations = lambda trees: {name: tree.operations for name, tree in trees.items()}
    alphas, left = join(operations(self.alphas)), join(operations(self.mask)) > 0
    some = jnp.any(left, axis=-1, keepdims=True)  # Others get numbers too, so that no gradient is nan.
    values = jax.vmap(of_edge)(alphas, join(self.mixtures), left | ~some)
    return jnp.mean(values, where=some[:, 0])


def beta(choice: Choice) -> jax.Array:
  """How large alphas are: log of the sum of their exponentials (beta-DARTS, equation 12)."""
  return choice.mean(lambda alphas, _, left: jax.nn.logsumexp(alphas, where=left))


def zero_one(choice: Choice) -> jax.Array:
  """How undecided the weights are, at most 0: -(w - 1/2)^2 of what is left (FairDARTS, equation 7)."""
  return choice.mean(lambda _, mixture, left: -jnp.mean((mixture - 0.5) ** 2, where=left))


def polarization(choice: Choice) -> jax.Array:
  """How even the weights are, at most 0: their distance from their mean (after Zhuang et al., NeurIPS 2020).

  DARTS-PAP's own form is in no text that was to be had.
  """
  distance = lambda mixture, left: jnp.where(left, mixture - jnp.mean(mixture, where=left), 0)
  return choice.mean(lambda _, mixture, left: -jnp.sum(jnp.abs(distance(mixture, left)), where=left))


def complexity(choice: Choice) -> jax.Array:
  """Expected multiply-adds as a share of the dearest choice (after DLW-NAS, whose exact form is in no such text)."""
  left = lambda name: choice.mask[name].operations > 0
  costs = {name: jnp.where(left(name), choice.costs[name], 0) for name in choice.mixtures}
  dearest = sum(jnp.sum(jnp.max(cost, axis=-1)) for cost in costs.values())
  expected = sum(jnp.sum(choice.mixtures[name] * cost) for name, cost in costs.items())
  return expected / jnp.maximum(dearest, 1)


PENALTIES: dict[str, Callable[[Choice], jax.Array]] = {
  "beta": beta,
  "zero_one": zero_one,
  "polarization": polarization,
  "complexity": complexity,
}
# How a penalty's weight grows with the progress of the bilevel steps.
RAMPS: dict[str, Callable[[Any], Any]] = {"constant": lambda progress: 1.0, "linear": lambda progress: progress}
Named = Sequence[tuple[str, float, str]]


def total(named: Named, choice: Choice) -> jax.Array | float:
  """The weighted sum of penalties, each given as (name, weight, ramp)."""
  return sum(weight * RAMPS[ramp](choice.progress) * PENALTIES[name](choice) for name, weight, ramp in named)


def costs(named: Named, network: AnyNetwork, image_shape: tuple[int, int, int]) -> Mapping[str, np.ndarray]:
  """What `Choice.costs` holds, where one of the penalties needs it: see `cost.candidates`."""
  needed = any(name == "complexity" and weight for name, weight, _ in named)
  return cost.candidates(network, image_shape) if needed else {}
