"""The optax chains of weights and alphas."""

import jax
import jax.numpy as jnp
import ml_collections
import optax


def sgd(schedule: optax.Schedule, momentum: float, weight_decay: float, clip: float) -> optax.GradientTransformation:
  """SGD in the order of DARTS: clip by global norm, add L2, accumulate momentum, scale by the rate."""
  return optax.chain(
    optax.clip_by_global_norm(clip),
    optax.add_decayed_weights(weight_decay),
    optax.trace(momentum),
    optax.scale_by_learning_rate(schedule),
  )


def search_schedule(config: ml_collections.ConfigDict, updates: int) -> optax.Schedule:
  """Learning rate of the weights over one iteration: cosine, restarted at each iteration."""
  floor = config.search.min_learning_rate / config.search.learning_rate
  return optax.cosine_decay_schedule(config.search.learning_rate, updates, floor)


def search_weights(config: ml_collections.ConfigDict, updates: int) -> optax.GradientTransformation:
  """Optimizer of the supernet's weights over an iteration of so many updates."""
  search = config.search
  return sgd(search_schedule(config, updates), search.momentum, search.weight_decay, search.gradient_clip)


def search_alphas(config: ml_collections.ConfigDict, live: dict[str, jax.Array]) -> optax.GradientTransformation:
  """Optimizer of the alphas: Adam with L2 added to the gradient, not AdamW, as in DARTS.

  Args:
    config: the config.
    live: per cell, `[edges, operations]` bool; dead entries neither decay nor move.
  """
  search = config.search

  def decay(gradients, alphas):
    return jax.tree.map(lambda g, a, m: jnp.where(m, g + search.alpha_weight_decay * a, 0), gradients, alphas, live)

  def hold(updates, _):
    return jax.tree.map(lambda u, m: jnp.where(m, u, 0), updates, live)

  return optax.chain(
    optax.stateless(decay),
    optax.scale_by_adam(search.alpha_beta1, search.alpha_beta2),
    optax.stateless(hold),
    optax.scale_by_learning_rate(search.alpha_learning_rate),
  )


def train_weights(config: ml_collections.ConfigDict, updates_per_epoch: int) -> optax.GradientTransformation:
  """Optimizer of the final training: warm-up, then cosine or linear decay to zero."""
  train = config.train
  warmup = train.warmup_epochs * updates_per_epoch
  rest = train.epochs * updates_per_epoch - warmup
  if train.schedule == "cosine":
    decay = optax.cosine_decay_schedule(train.learning_rate, rest)
  else:
    decay = optax.linear_schedule(train.learning_rate, 0.0, rest)
  schedule = optax.join_schedules([optax.linear_schedule(0.0, train.learning_rate, max(warmup, 1)), decay], [warmup])
  return sgd(schedule, train.momentum, train.weight_decay, train.gradient_clip)
