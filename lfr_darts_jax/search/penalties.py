"""Terms of the alphas' loss that depend on the choice alone, not on the weights: no step needs to know them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from lfr_darts_jax.search.state import Alphas


class Choice(NamedTuple):
  """What a penalty sees.

  Attributes:
    alphas: per searched cell.
    mixtures: per searched cell `[edges, operations]`.
    mask: like `alphas`, bool: which candidates are left.
    progress: of the stage's bilevel steps, from 0 to 1.
  """

  alphas: dict[str, Alphas]
  mixtures: dict[str, jax.Array]
  mask: dict[str, Alphas]
  progress: jax.Array | float


PENALTIES: dict[str, Callable[[Choice], jax.Array]] = {}


def total(named: Sequence[tuple[str, float]], choice: Choice) -> jax.Array | float:
  """The weighted sum of penalties, each given as (name, weight)."""
  return sum(weight * PENALTIES[name](choice) for name, weight in named)
