"""Numbers that go wrong, and the way back from them: to the last good checkpoint, and on with another order of data."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lfr_darts_jax.errors import RunError

Tree = Any


class NotFinite(ArithmeticError):
  """A number of a run is infinite or not a number.

  Attributes:
    step: updates of the phase that were done when it was noticed.
    name: of the tensor.
  """

  def __init__(self, step: int, name: str):
    super().__init__(f"update {step}: {name} is not finite")
    self.step, self.name = step, name


def check(step: int, tree: Tree) -> None:
  """Checks every number of a pytree.

  Args:
    step: updates done.
    tree: of arrays.

  Raises:
    NotFinite: for the first array that holds a number which is not finite.
  """
  for path, leaf in jax.tree.leaves_with_path(tree):
    if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) and not np.isfinite(np.asarray(leaf)).all():
      raise NotFinite(step, jax.tree_util.keystr(path, simple=True, separator="/"))


def retry(error: NotFinite, phase: str, retries: int, allowed: int, say: Callable[[str], None]) -> int:
  """Decides whether a run goes back.

  Args:
    error: what went wrong.
    phase: of the run, in words.
    retries: how often it has gone back.
    allowed: `recovery.retries`.
    say: tells the user.

  Returns:
    How often it will have gone back.

  Raises:
    RunError: where that is more than allowed.
  """
  if retries >= allowed:
    raise RunError(
      f"{phase}, {error}, after {retries} retries from the last good checkpoint; config.recovery.retries allows "
      f"{allowed}; a lower learning rate may help"
    ) from error
  say(f"{phase}, {error}; back to the last good checkpoint, with another order of data ({retries + 1} of {allowed})")
  return retries + 1


def another_order(state: Any, retries: int) -> Any:
  """A state that goes on with another order of data than the one that it was saved with.

  Args:
    state: `SearchState` or `TrainState`.
    retries: how often the run has gone back, from 1.
  """
  return state.replace(key=jax.random.fold_in(state.key, retries))
