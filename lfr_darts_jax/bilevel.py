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
from lfr_darts_jax import parallel
from lfr_darts_jax import plans
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.network import Network
from lfr_darts_jax.parallel import WHOLE
from lfr_darts_jax.parallel import Devices
from lfr_darts_jax.relaxation import mixture_weights
from lfr_darts_jax.state import SearchState

Tree = Any
ALPHAS, WEIGHTS = 0, 1  # The two half-steps of an update, in order.
LOOK_AHEAD = 2  # What comes before them in order 2: the weights' next step, for the alphas to look back from.


class Batch(NamedTuple):
  """Normalised images `[batch, height, width, channels]`, labels `[batch]`, and a key for dropout."""

  images: jax.Array
  labels: jax.Array
  key: jax.Array


class Sums(NamedTuple):
  """Sums over the half-steps of a dispatch.

  Attributes:
    loss, accuracy, batches: each `[2]`: of alphas (validation batches), of weights (train batches).
    alpha_gradients: per searched cell, the norm of the alphas' gradient.
  """

  loss: jax.Array
  accuracy: jax.Array
  batches: jax.Array
  alpha_gradients: dict[str, jax.Array]


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


def mixed_derivative(
  loss: Callable[..., Any], params: Tree, alphas: dict[str, jax.Array], direction: Tree
) -> dict[str, jax.Array]:
  """The vector product with the mixed second derivative in order 2's gradient (DARTS, equation 7), exactly.

  DARTS takes a finite difference for it. Here the gradient by the alphas is differentiated along a direction of the
  weights, forward over reverse: twice the cost of that gradient, and no intermediates but its own.

  Args:
    loss: (params, alphas) to (loss, auxiliary).
    params, alphas: where to take it.
    direction: like `params`.

  Returns:
    d/de of the gradient of `loss(params + e direction, alphas)` by the alphas, at e = 0.
  """
  gradient = lambda p: jax.grad(lambda a: loss(p, a)[0])(alphas)
  return jax.jvp(gradient, (params,), (direction,))[1]


def skip_dropout_rate(initial: float, epoch: jax.Array, warmup: float, epochs: int) -> jax.Array:
  """Rate of dropout on skip_connects in an epoch of a P-DARTS stage, as its code has it.

  It falls twice: while weights train alone, linearly towards zero at the stage's end; then anew from its initial value,
  exponentially by 0.2 an epoch over P-DARTS's 15 bilevel epochs, that is by e^-3 over as many as there are.

  Args:
    initial: of the stage.
    epoch: from 0.
    warmup: epochs that train weights alone.
    epochs: of the stage.
  """
  alone = (epochs - epoch - 1) / epochs
  bilevel = jnp.exp(-3 * (epoch - warmup) / max(epochs - warmup, 1))
  return initial * jnp.where(epoch < warmup, alone, bilevel)


class Updates:
  """The updates of one supernet, many in one dispatch.

  Attributes:
    weight_optimizer: of the weights.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: Network,
    iteration: plans.Iteration,
    updates: int,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
    devices: Devices | None = None,
  ):
    """Prepares the updates.

    Args:
      config: the config.
      network: the supernet.
      iteration: which of its cells have alphas, and the schedules of these and of dropout on skip_connects.
      updates: length of the iteration.
      mean, deviation: of the train split, per channel.
      devices: that share every batch; None for the first one.
    """
    self._devices = devices or parallel.first()
    self._batching = self._devices.batching(network.batching.group)
    self._config, self._iteration, self._updates = config, iteration, updates
    self._network = network.clone(batching=self._batching)
    self._mean, self._deviation = mean, deviation
    self._warmup = iteration.warmup_updates(updates)
    self._rate = optimizers.search_schedule(config, updates)
    self.weight_optimizer = optimizers.search_weights(config, updates)
    self._compiled: Any = None

  def initial(self, variables: dict[str, Tree], alphas: dict[str, jax.Array], key: jax.Array) -> SearchState:
    """The state in which an iteration starts, with all candidates of the supernet's cells.

    Args:
      variables: parameters and batch statistics of the supernet.
      alphas: per searched cell, `[edges, operations]`.
      key: raw random key, see `SearchState`.
    """
    cells, operations = self._network.cells, self._network.operations
    live = {c.name: jnp.array(c.live(operations)) for c in cells if c.name in self._iteration.searched}
    return SearchState(
      step=jnp.int32(0),
      params=variables["params"],
      batch_stats=variables["batch_stats"],
      alphas=alphas,
      live=live,
      weight_state=self.weight_optimizer.init(variables["params"]),
      alpha_state=self._alpha_optimizer(live).init(alphas),
      key=key,
    )

  @property
  def compiled(self) -> bool:
    """Whether `run` starts at once."""
    return self._compiled is not None

  def compile(self, state: SearchState, feed: batches.Feed) -> None:
    """Compiles `run` for arguments of these shapes; nothing is computed."""
    many = self._devices.spmd(self._many, WHOLE, batches.spec(feed), WHOLE)
    self._compiled = jax.jit(many, donate_argnums=0).lower(state, feed, self._devices.replicate(np.int32(0))).compile()

  def run(self, state: SearchState, feed: batches.Feed, stop: int) -> tuple[SearchState, Sums]:
    """Runs updates until `stop`; compiles them first where `compile` has not.

    Args:
      state: where to start; donated.
      feed: of two parts: the weights' half and the alphas'.
      stop: number of updates done in the iteration when it returns.
    """
    if not self.compiled:
      self.compile(state, feed)
    return self._compiled(state, feed, self._devices.replicate(np.int32(stop)))

  def order_keys(self, state: SearchState) -> jax.Array:
    """The random keys of the order of a feed's two parts: of the weights' half and of the alphas'."""
    return jnp.stack([jax.random.split(jax.random.fold_in(state.key, half))[0] for half in (WEIGHTS, ALPHAS)])

  def batch(self, state: SearchState, ready: batches.Batches, half: jax.Array | int) -> Batch:
    """The images at hand of the batch of a half-step (`ALPHAS` or `WEIGHTS`) at `state.step`."""
    augment_key = jax.random.split(jax.random.fold_in(state.key, half))[1]
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(augment_key, state.step))
    size = self._config.search.batch_size
    images, labels = ready.batch(augment_key, state.step, 1 - half, size, self._config, self._batching)
    return Batch(augment.normalize(images, self._mean, self._deviation), labels, dropout_key)

  def _many(self, state, feed, stop):
    """A loop over gradients, all of which one compiled function takes; the warm-up needs those of the weights alone."""
    order_2 = self._config.search.order == 2

    def first(step):
      return jnp.where(step < self._warmup, WEIGHTS, LOOK_AHEAD if order_2 else ALPHAS)

    def body(carry, ready):
      state, ahead, stage, sums = carry
      state, ahead, loss, accuracy, norms = self._take(state, ahead, ready, stage)
      counts = (stage != LOOK_AHEAD) * jnp.array([loss, accuracy, 1.0])
      half = _half(stage)
      *totals, gradients = sums
      totals = [s.at[half].add(v) for s, v in zip(totals, counts, strict=True)]
      sums = Sums(*totals, jax.tree.map(jnp.add, gradients, norms))
      state = state.replace(step=state.step + (stage == WEIGHTS))
      following = jnp.select([stage == LOOK_AHEAD, stage == ALPHAS], [ALPHAS, WEIGHTS], first(state.step))
      return state, ahead, following, sums

    ahead = state.params if order_2 else None
    start = (state, ahead, first(state.step), Sums(*(jnp.zeros(2),) * 3, self._no_norms()))
    keys, size = self.order_keys(state), self._config.search.batch_size
    state, _, _, sums = batches.loop(feed, keys, size, stop, body, start)
    return state, sums

  def _take(self, state, ahead, ready, stage):
    """One gradient, and the step that it is for.

    Both halves share one compiled gradient, which halves the time to compile; that of the weights is wasted on the
    validation batch in order 1.
    """
    batch = self.batch(state, ready, _half(stage))
    loss = functools.partial(self._loss, step=state.step, batch_stats=state.batch_stats, live=state.live)
    at = state.params
    if ahead is not None:
      at = jax.tree.map(functools.partial(jnp.where, stage == ALPHAS), ahead, state.params)
    (value, (batch_stats, accuracy)), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
      at, state.alphas, batch
    )
    value, accuracy, (by_weights, by_alphas) = self._devices.mean((value, accuracy, gradients))
    if self._batching.group is not None:
      batch_stats = self._devices.mean(batch_stats)

    def move_alphas():
      gradient = by_alphas
      if ahead is not None:
        train = self.batch(state, ready, WEIGHTS)
        correction = mixed_derivative(lambda p, a: loss(p, a, train), state.params, state.alphas, by_weights)
        correction = self._devices.mean(correction)
        rate = self._inner_rate(state.step)
        gradient = jax.tree.map(lambda g, c: g - rate * c, by_alphas, correction)
      norms = {name: jnp.linalg.norm(g).astype(jnp.float32) for name, g in gradient.items()}
      return self.move_alphas(state, gradient), ahead, norms

    def move_weights():
      return self.move_weights(state, by_weights, batch_stats), ahead, self._no_norms()

    def look_ahead():
      return state, self._unrolled(state, by_weights), self._no_norms()

    branches = [move_alphas, move_weights] + ([look_ahead] if ahead is not None else [])
    state, ahead, norms = jax.lax.switch(stage, branches)
    return state, ahead, value, accuracy, norms

  def _no_norms(self):
    return {name: jnp.float32(0) for name in self._iteration.searched}

  def _inner_rate(self, step):
    search = self._config.search
    return self._rate(step) if search.inner_learning_rate is None else search.inner_learning_rate

  def _unrolled(self, state, gradient):
    search, momentum = self._config.search, optax.tree.get(state.weight_state, "trace")
    rate = self._inner_rate(state.step)
    return unrolled_weights(gradient, state.params, momentum, rate, search.momentum, search.weight_decay)

  def _loss(self, params, alphas, batch, step, batch_stats, live):
    rate = None
    if self._iteration.skip_dropout is not None:
      epochs = self._config.search.epochs
      per_epoch = self._updates // epochs
      rate = skip_dropout_rate(self._iteration.skip_dropout, step // per_epoch, self._warmup / per_epoch, epochs)
    return supernet_loss(self._network, live, params, alphas, batch_stats, batch, rate)

  def move_alphas(self, state: SearchState, gradient: dict[str, jax.Array]) -> SearchState:
    """The alphas' half of an update."""
    optimizer = self._alpha_optimizer(state.live)
    updates, alpha_state = optimizer.update(gradient, state.alpha_state, state.alphas)
    return state.replace(alphas=optax.apply_updates(state.alphas, updates), alpha_state=alpha_state)

  def _alpha_optimizer(self, live):
    return optimizers.search_alphas(self._config, self._iteration.alpha_learning_rate(self._updates), live)

  def move_weights(self, state: SearchState, gradient: Tree, batch_stats: Tree) -> SearchState:
    """The weights' half of an update; batch statistics move here alone."""
    updates, weight_state = self.weight_optimizer.update(gradient, state.weight_state, state.params)
    return state.replace(
      params=optax.apply_updates(state.params, updates), weight_state=weight_state, batch_stats=batch_stats
    )


def _half(stage):
  """Whose batch a stage needs."""
  return jnp.where(stage == ALPHAS, ALPHAS, WEIGHTS)
