"""The optax chains of weights and alphas."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

Tree = Any


def sgd(schedule: optax.Schedule, momentum: float, weight_decay: float, clip: float) -> optax.GradientTransformation:
  """SGD in the order of DARTS: clip by global norm, add L2, accumulate momentum, scale by the rate."""
  return optax.chain(
    optax.clip_by_global_norm(clip),
    optax.add_decayed_weights(weight_decay),
    optax.trace(momentum),
    optax.scale_by_learning_rate(schedule),
  )


def search_schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
  """Learning rate of the weights over one stage: cosine, restarted at each stage."""
  floor = config.search.min_learning_rate / config.search.learning_rate
  return optax.cosine_decay_schedule(config.search.learning_rate, steps, floor)


def search_weights(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
  """Optimizer of the supernet's weights over a stage of so many steps."""
  search = config.search
  return sgd(search_schedule(config, steps), search.momentum, search.weight_decay, search.gradient_clip)


def search_alphas(config: ml_collections.ConfigDict, rate: float, mask: Tree) -> optax.GradientTransformation:
  """Optimizer of the alphas: Adam with L2 added to the gradient, not AdamW, as in DARTS.

  Args:
    config: the config.
    rate: learning rate, see `plans.Stage.alpha_learning_rate`.
    mask: like the alphas, bool: pruned entries neither decay nor move.
  """
  search = config.search

  def decay(gradients: Tree, alphas: Tree) -> Tree:
    return jax.tree.map(lambda g, a, m: jnp.where(m, g + search.alpha_weight_decay * a, 0), gradients, alphas, mask)

  def hold(updates: Tree, _: Tree) -> Tree:
    return jax.tree.map(lambda u, m: jnp.where(m, u, 0), updates, mask)

  clip = search.alpha_gradient_clip
  return optax.chain(
    optax.identity() if clip is None else optax.clip_by_global_norm(clip),
    optax.stateless(decay),
    optax.scale_by_adam(search.alpha_beta1, search.alpha_beta2),
    optax.stateless(hold),
    optax.scale_by_learning_rate(rate),
  )


def train_schedule(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
  """Learning rate of the final training.

  Cosine: to zero over all steps. Linear: that of P-DARTS's code on ImageNet, by epoch: straight towards zero but for
  the last five epochs, which share what the slope's last step would take. Warm-up multiplies either by the share of its
  epochs that have begun, as there.
  """
  train = config.train
  cosine = optax.cosine_decay_schedule(train.learning_rate, train.epochs * steps_per_epoch)

  def schedule(count: Any) -> Any:
    epoch = count // steps_per_epoch
    if train.schedule == "cosine":
      rate = cosine(count)
    else:
      rate = train.learning_rate * linear_decay(epoch, train.epochs)
    return rate * jnp.minimum((epoch + 1) / train.warmup_epochs, 1) if train.warmup_epochs else rate

  return schedule


LINEAR_TAIL = 5  # Epochs.


def linear_decay(epoch: jax.Array, epochs: int) -> jax.Array:
  """From 1 to almost 0 as P-DARTS's `adjust_lr` has it; without a tail where there are no more epochs than it takes."""
  tail = LINEAR_TAIL if epochs > LINEAR_TAIL else 0
  left, slope = epochs - epoch, 1 / (epochs - tail)
  return slope * jnp.where(left > tail, left - tail, left / LINEAR_TAIL)


def train_weights(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
  """Optimizer of the final training."""
  train = config.train
  schedule = train_schedule(config, steps_per_epoch)
  return sgd(schedule, train.momentum, train.weight_decay, train.gradient_clip)
