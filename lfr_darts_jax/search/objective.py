"""What a search step differentiates: the loss of a supernet on a batch, and what methods add to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from lfr_darts_jax.models.cell import NO_RATES, Rates
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.search import penalties, relaxation
from lfr_darts_jax.search.price import Prices
from lfr_darts_jax.search.relaxation import Moment, Relaxation
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.training import losses

Tree = Any
TRAINING = Moment(training=True)
Shifts = Mapping[str, jax.Array]
NO_SHIFTS: Shifts = {}


class Batch(NamedTuple):
  """Normalised images `[batch, height, width, channels]`, labels `[batch]`, and a key for dropout."""

  images: jax.Array
  labels: jax.Array
  key: jax.Array


class Objective(NamedTuple):
  """How the loss of a supernet comes from its outputs and its alphas.

  Attributes:
    relax: from alphas to mixtures.
    terms: of the loss, see `penalties.total`.
    costs: see `penalties.Choice`.
    searched: the cells that `terms` are of, since others have a choice that is made or is not due; empty for all.
    prices: of cost, None where it has none.
    sample_weight_exponent: see `losses.complexity_weights`; counts where alphas move.
    mean: over the devices that share a batch.
    class_weights: of an image's loss by its class.
  """

  relax: Relaxation = relaxation.softmax
  terms: penalties.Named = ()
  costs: Mapping[str, Any] = {}
  searched: Sequence[str] = ()
  prices: Prices | None = None
  sample_weight_exponent: float = 0.0
  mean: Callable[[Any], Any] = lambda value: value
  class_weights: losses.ClassWeights = None


def supernet_loss(
  network: AnyNetwork,
  objective: Objective,
  mask: dict[str, Alphas],
  params: Tree,
  alphas: dict[str, Alphas],
  batch_stats: Tree,
  batch: Batch,
  rates: Rates = NO_RATES,
  moment: Moment = TRAINING,
  shifts: Shifts = NO_SHIFTS,
  price: jax.Array | None = None,
) -> tuple[jax.Array, tuple[Tree, jax.Array, jax.Array]]:
  """Training-mode loss of a supernet.

  Args:
    network: the supernet.
    objective: what its loss is.
    mask: per searched cell, which candidates are left.
    params: weights of the supernet.
    alphas: per searched cell.
    batch_stats: running statistics of its batch norms.
    batch: the batch.
    rates: of dropout.
    moment: of the search.
    price: `[budgets]`, of `objective.prices`.
    shifts: by layer, such as `layer_0`, what is added to its cell's mixture there alone.

  Returns:
    The loss; the updated statistics, the cross-entropy alone, by the weights of classes, and the accuracy from 0 to 1.
  """
  chex.assert_trees_all_equal_shapes(alphas, mask)
  moments = {name: moment.of_cell(i) for i, name in enumerate(sorted(alphas))}
  mixtures = {name: objective.relax(a, mask[name], moments[name]) for name, a in alphas.items()}
  by_layer = {layer: mixtures[network.layout[int(layer.removeprefix("layer_"))]] + s for layer, s in shifts.items()}
  variables, rngs = {"params": params, "batch_stats": batch_stats}, {"dropout": batch.key}
  inputs = batch.images, mixtures | by_layer, True, rates
  outputs, updated = network.apply(variables, *inputs, rngs=rngs, mutable=["batch_stats"])
  values = losses.sample_cross_entropy(outputs.logits, batch.labels)
  weighted = losses.of_labels(objective.class_weights, batch.labels) * values
  cross_entropy = loss = jnp.mean(weighted)
  if objective.sample_weight_exponent:
    weights = losses.complexity_weights(values, objective.sample_weight_exponent, objective.mean)
    loss = jnp.where(moment.training, loss, jnp.mean(weights * weighted))
  own = lambda trees: {name: trees[name] for name in objective.searched or trees}
  choice = penalties.Choice(own(alphas), own(mixtures), own(mask), moment.progress, objective.costs)
  accuracy = losses.accuracy(outputs.logits, batch.labels)
  loss += penalties.total(objective.terms, choice)
  if objective.prices is not None and price is not None:
    # By what operations are worth, not by what was drawn.
    worth = {name: relaxation.softmax(a, mask[name], moment) for name, a in alphas.items()}
    loss += jnp.sum(price * objective.prices.spent(worth))
  return loss, (updated["batch_stats"], cross_entropy, accuracy)
