"""The jitted update: weights on one half of the data, alphas on the other (DARTS, algorithm 1)."""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from lfr_darts_jax import losses
from lfr_darts_jax import optimizers
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.network import Network
from lfr_darts_jax.relaxation import mixture_weights
from lfr_darts_jax.state import SearchState

Tree = Any
ALPHAS, WEIGHTS = 0, 1  # The two half-steps of an update, in order.


class Batch(NamedTuple):
  """Normalised images `[batch, height, width, channels]`, labels `[batch]`, and a key for dropout."""

  images: jax.Array
  labels: jax.Array
  key: jax.Array


class Sums(NamedTuple):
  """Sums over the half-steps of a dispatch, each `[2]`: of alphas (validation batches), of weights (train batches)."""

  loss: jax.Array
  accuracy: jax.Array
  batches: jax.Array


def supernet_loss(
  network: Network,
  live: dict[str, jax.Array],
  params: Tree,
  alphas: dict[str, jax.Array],
  batch_stats: Tree,
  batch: Batch,
  skip_dropout: jax.Array | None,
) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
  """Training-mode cross-entropy of a supernet.

  Args:
    network: the supernet.
    live: per searched cell, `[edges, operations]` bool.
    params: its weights.
    alphas: per searched cell, `[edges, operations]`.
    batch_stats: running statistics of its batch norms.
    batch: the batch.
    skip_dropout: rate of dropout on skip_connects, None for none.

  Returns:
    The loss; the updated statistics and the accuracy from 0 to 1.
  """
  mixtures = {name: mixture_weights(a, live[name]) for name, a in alphas.items()}
  outputs, updated = network.apply(
    {"params": params, "batch_stats": batch_stats},
    batch.images,
    mixtures,
    True,
    None,
    skip_dropout,
    rngs={"dropout": batch.key},
    mutable=["batch_stats"],
  )
  accuracy = jnp.mean(jnp.argmax(outputs.logits, axis=-1) == batch.labels)
  return losses.cross_entropy(outputs.logits, batch.labels), (updated["batch_stats"], accuracy)


def unrolled_weights(gradient: Tree, params: Tree, momentum: Tree, rate: jax.Array, mu: float, decay: float) -> Tree:
  """One step of the weights as order 2 imagines it: w - xi (mu m + gradient + lambda w) (DARTS, equation 7).

  Args:
    gradient: of the training loss by the weights.
    params: the weights w.
    momentum: their accumulated momentum m, a constant.
    rate: xi.
    mu: the momentum's factor.
    decay: lambda, L2.
  """
  return jax.tree.map(lambda w, m, g: w - rate * (mu * m + g + decay * w), params, momentum, gradient)


def unrolled_gradient(
  loss: Callable[..., Any],
  state: SearchState,
  validation: Batch,
  train: Batch,
  rate: jax.Array,
  mu: float,
  decay: float,
) -> tuple[Any, dict[str, jax.Array]]:
  """Gradient by the alphas of order 2: of the validation loss behind the weights' next step.

  Args:
    loss: (params, alphas, batch) to (loss, auxiliary).
    state: where to take it.
    validation: the alphas' batch.
    train: the weights' batch.
    rate, mu, decay: see `unrolled_weights`.

  Returns:
    `((loss, auxiliary), gradient)` as `jax.value_and_grad` gives them.
  """

  def objective(alphas):
    gradient = jax.grad(lambda p: loss(p, alphas, train)[0])(state.params)
    momentum = optax.tree.get(state.weight_state, "trace")
    return loss(unrolled_weights(gradient, state.params, momentum, rate, mu, decay), alphas, validation)

  return jax.value_and_grad(objective, has_aux=True)(state.alphas)


class Updates:
  """The updates of one supernet, many in one dispatch.

  Attributes:
    weight_optimizer: of the weights.
    alpha_optimizer: of the alphas.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: Network,
    searched: tuple[str, ...],
    updates: int,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
    skip_dropout: float | None = None,
  ):
    """Prepares the updates.

    Args:
      config: the config.
      network: the supernet.
      searched: its cells with alphas.
      updates: length of the iteration.
      mean, deviation: of the train split, per channel.
      skip_dropout: initial rate of dropout on skip_connects.
    """
    self._config, self._network, self._updates = config, network, updates
    self._mean, self._deviation, self._skip_dropout = mean, deviation, skip_dropout
    self._warmup = round(config.search.warmup_fraction * updates)
    self._live = {c.name: jnp.array(c.live(network.operations)) for c in network.cells if c.name in searched}
    self._rate = optimizers.search_schedule(config, updates)
    self.weight_optimizer = optimizers.search_weights(config, updates)
    self.alpha_optimizer = optimizers.search_alphas(config, self._live)
    self._compiled: Any = None

  @property
  def compiled(self) -> bool:
    """Whether `run` starts at once."""
    return self._compiled is not None

  def compile(self, state: SearchState, split: batches.Split, halves: jax.Array) -> None:
    """Compiles `run` for arguments of these shapes; nothing is computed."""
    self._compiled = jax.jit(self._many, donate_argnums=0).lower(state, split, halves, jnp.int32(0)).compile()

  def run(self, state: SearchState, split: batches.Split, halves: jax.Array, stop: int) -> tuple[SearchState, Sums]:
    """Runs updates until `stop`; compiles them first where `compile` has not.

    Args:
      state: where to start; donated.
      split: the train split.
      halves: `[2, n]` indices into it, of the weights' half and the alphas'.
      stop: number of updates done in the iteration when it returns.
    """
    if not self.compiled:
      self.compile(state, split, halves)
    return self._compiled(state, split, halves, jax.device_put(np.int32(stop)))

  def batch(self, state: SearchState, split: batches.Split, halves: jax.Array, half: jax.Array | int) -> Batch:
    """The batch of a half-step (`ALPHAS` or `WEIGHTS`) at `state.step`."""
    key = jax.random.fold_in(state.key, half)
    order_key, augment_key = jax.random.split(key)
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(augment_key, state.step))
    at = batches.positions(order_key, state.step, halves.shape[1], self._config.search.batch_size)
    images, labels = batches.take(split, halves[1 - half][at])
    images = augment.crop_and_flip(images, augment_key, self._config)
    return Batch(augment.normalize(images, self._mean, self._deviation), labels, dropout_key)

  def _many(self, state, split, halves, stop):
    """A loop over half-steps; the warm-up skips those of the alphas."""

    def first(step):
      return jnp.where(step < self._warmup, WEIGHTS, ALPHAS)

    def body(carry):
      state, half, sums = carry
      state, loss, accuracy = self._half_step(state, split, halves, half)
      sums = Sums(*(s.at[half].add(jnp.asarray(v, s.dtype)) for s, v in zip(sums, (loss, accuracy, 1), strict=True)))
      state = state.replace(step=state.step + half)
      return state, jnp.where(half == ALPHAS, WEIGHTS, first(state.step)), sums

    start = (state, first(state.step), Sums(*(jnp.zeros(2, jnp.float32),) * 3))
    state, _, sums = jax.lax.while_loop(lambda carry: carry[0].step < stop, body, start)
    return state, sums

  def _half_step(self, state, split, halves, half):
    batch = self.batch(state, split, halves, half)
    loss = functools.partial(self._loss, step=state.step, batch_stats=state.batch_stats)
    both = lambda: jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(state.params, state.alphas, batch)
    if self._config.search.order == 1:
      # Both half-steps share one compiled gradient, which halves the time to compile; that of the weights is wasted
      # on the validation batch.
      (value, (batch_stats, accuracy)), (by_weights, by_alphas) = both()
    else:
      (value, (batch_stats, accuracy)), (by_weights, by_alphas) = jax.lax.cond(
        half == ALPHAS, lambda: self._unrolled(loss, state, split, halves, batch), both
      )
    state = jax.lax.cond(
      half == ALPHAS,
      lambda: self.move_alphas(state, by_alphas),
      lambda: self.move_weights(state, by_weights, batch_stats),
    )
    return state, value, accuracy

  def _unrolled(self, loss, state, split, halves, batch):
    search = self._config.search
    rate = self._rate(state.step) if search.inner_learning_rate is None else search.inner_learning_rate
    value, gradient = unrolled_gradient(
      loss, state, batch, self.batch(state, split, halves, WEIGHTS), rate, search.momentum, search.weight_decay
    )
    return value, (jax.tree.map(jnp.zeros_like, state.params), gradient)

  def _loss(self, params, alphas, batch, step, batch_stats):
    rate = None
    if self._skip_dropout is not None:
      # P-DARTS lets the rate decay exponentially over the bilevel phase; its 0.2 per epoch over 15 epochs is e^-3.
      progress = (step - self._warmup) / max(self._updates - self._warmup, 1)
      rate = self._skip_dropout * jnp.exp(-3 * jnp.maximum(progress, 0))
    return supernet_loss(self._network, self._live, params, alphas, batch_stats, batch, rate)

  def move_alphas(self, state: SearchState, gradient: dict[str, jax.Array]) -> SearchState:
    """The alphas' half of an update."""
    updates, alpha_state = self.alpha_optimizer.update(gradient, state.alpha_state, state.alphas)
    return state.replace(alphas=optax.apply_updates(state.alphas, updates), alpha_state=alpha_state)

  def move_weights(self, state: SearchState, gradient: Tree, batch_stats: Tree) -> SearchState:
    """The weights' half of an update; batch statistics move here alone."""
    updates, weight_state = self.weight_optimizer.update(gradient, state.weight_state, state.params)
    return state.replace(
      params=optax.apply_updates(state.params, updates), weight_state=weight_state, batch_stats=batch_stats
    )
