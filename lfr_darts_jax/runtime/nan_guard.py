"""Numbers that go wrong, and the way back: to the last checkpoint, and on with the data in another order."""

from typing import Any

import jax
import numpy as np

Tree = Any


class NotFinite(ArithmeticError):
  """A number of a run is infinite or NaN.

  Attributes:
    step: steps of the phase that were done when it was noticed.
    name: of the array.
  """

  def __init__(self, step: int, name: str):
    """Takes step and name."""
    super().__init__(f"update {step}: {name} is not finite")
    self.step, self.name = step, name


def check(step: int, tree: Tree) -> None:
  """Checks every number of a pytree.

  Args:
    step: steps done.
    tree: of arrays.

  Raises:
    NotFinite: for the first array with a number that is not finite.
  """
  for path, leaf in jax.tree.leaves_with_path(tree):
    if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) and not np.isfinite(np.asarray(leaf)).all():
      raise NotFinite(step, jax.tree_util.keystr(path, simple=True, separator="/"))


def reshuffle(state: Any, retries: int) -> Any:
  """A state that goes on with another order of data than the one that it was saved with.

  Args:
    state: `SearchState` or `TrainState`.
    retries: how often the run has gone back, from 1.
  """
  return state.replace(key=jax.random.fold_in(state.key, retries))
