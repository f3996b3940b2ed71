"""A training that starts from another one's result: more epochs, other classes, another resolution."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.config import flatten
from lfr_darts_jax.data.identity import relabelling
from lfr_darts_jax.errors import UsageError, listed, short
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import predictor
from lfr_darts_jax.training.predictor import Predictor
from lfr_darts_jax.training.train import Base

Tree = Any
# What makes a network's weights fit another one, besides its genotype.
OF_NETWORK = {
  spaces.CELLS: (
    *("network.layers", "network.stem", "network.activation", "network.time_steps", "network.cell_attention"),
    *("space.name", "data.channels", "network.channels"),
  ),
  spaces.MOBILE: ("space.sections", "space.head", "space.name", "data.channels", "network.channels"),
}
HEADS = (("classifier",), ("auxiliary", "Dense_0"))  # Whose last axis is that of the classes.


def load(name: str) -> Predictor:
  """The trained network of a work directory, a path or a URL: what is tested of it, the average by `train.ema` if any.

  Raises:
    UsageError: where there is none, see `predictor.load`.
  """
  try:
    return predictor.load(name)
  except UsageError as error:
    raise UsageError(f"config.train.init_from: {str(error).removeprefix('workdir: ')}") from None


def check(trained: Predictor, config: ml_collections.ConfigDict, genotype: Genotype) -> None:
  """Checks that a trained network is that of a config and a genotype, but for classes and resolution.

  Raises:
    UsageError: where it is not; names what differs.
  """
  here, there = flatten(config), flatten(trained.config)
  differing = [
    f"config.{name}: {short(here[name])}, there {short(there[name])}"
    for name in OF_NETWORK[config.space.name]
    if here[name] != there[name]
  ]
  if trained.genotype != genotype:
    differing.append("genotype: another")
  if differing:
    raise UsageError(
      f"config.train.init_from: {config.train.init_from} is of another network ({'; '.join(differing)}); allowed is "
      "the same, with any classes and resolution"
    )


def base(trained: Predictor, name: str, class_names: Sequence[str], say: Callable[[str], None]) -> Base:
  """What a training starts from.

  Args:
    trained: a network that `check` has passed.
    name: of where it lies, for messages.
    class_names: those of the training, by label; where they are others the heads start anew.
    say: is told so.
  """
  known, columns = trained.class_names, None
  if sorted(known) == sorted(class_names):
    columns = relabelling(name, class_names, known)
  else:
    say(f"{name} knows other classes ({listed(known)}): the head starts anew for {len(class_names)} of them")
  return Base(lambda fresh: _taken(fresh, trained.variables, columns), trained.statistics)


def _taken(fresh: Tree, trained: Tree, columns: np.ndarray | None) -> Tree:
  """Variables with the values of trained ones.

  What the trained network has not stays fresh: an auxiliary head, where its training had none. `columns` are the heads'
  in the order of the classes; None for heads that stay fresh.
  """

  def pick(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
    names = [jax.tree_util.keystr((key,), simple=True) for key in path]
    found = trained
    for name in names:
      if name not in found:
        return leaf
      found = found[name]
    if any(tuple(names[1 : 1 + len(head)]) == head for head in HEADS):
      if columns is None:
        return leaf
      found = found[..., columns]
    chex.assert_equal_shape([leaf, found])
    return jnp.array(np.asarray(found))  # Wherever the other one lies.

  return jax.tree_util.tree_map_with_path(pick, fresh)
