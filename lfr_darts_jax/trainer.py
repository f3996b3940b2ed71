"""Trains a derived network from scratch (DARTS, section 3.2 and appendix A.2)."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from lfr_darts_jax import checkpoint
from lfr_darts_jax import feeds
from lfr_darts_jax import forecast
from lfr_darts_jax import losses
from lfr_darts_jax import optimizers
from lfr_darts_jax import parallel
from lfr_darts_jax import recovery
from lfr_darts_jax import workdir as places
from lfr_darts_jax.checkpoint import Checkpoints
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.data import sources
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.metrics import Metrics
from lfr_darts_jax.network import Network
from lfr_darts_jax.parallel import WHOLE
from lfr_darts_jax.parallel import Devices
from lfr_darts_jax.profiling import Profiler
from lfr_darts_jax.progress import Progress
from lfr_darts_jax.state import TrainState
from lfr_darts_jax.storage import Path


def check_batch_size(config: ml_collections.ConfigDict, train_images: int) -> None:
  """Checks that the train split fills a batch.

  Raises:
    UsageError: where it does not.
  """
  if config.train.batch_size > train_images:
    raise UsageError(
      f"config.train.batch_size: {config.train.batch_size}; allowed are at most {train_images}, the size of the train "
      "split"
    )


def drop_path_rate(peak: float, epoch: jax.Array, epochs: int) -> jax.Array:
  """Probability of dropping an edge in an epoch: from zero to almost the peak, as DARTS's `train.py` raises it."""
  return peak * epoch / epochs


class Training:
  """The final training of one network in one work directory."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: Network,
    dataset: sources.Dataset | sources.StreamedDataset,
    workdir: Path,
    metrics: Metrics,
    progress: Progress,
    interrupt: Interrupt,
    devices: Devices | None = None,
  ):
    """Prepares a training; arguments as of `driver.Search`, with the network.

    Raises:
      UsageError: where a batch is larger than the train split, or there are checkpoints but none is whole.
    """
    check_batch_size(config, dataset.train_images)
    self._config, self._metrics, self._progress, self._interrupt = config, metrics, progress, interrupt
    self._devices = devices or parallel.everything()
    self._batching = self._devices.batching(network.batching.group)
    self._network = network.clone(batching=self._batching)
    self._split = feeds.open_split(dataset.train, config, self._devices)
    self.mean, self.deviation = self._split.statistics()
    self._per_epoch = dataset.train_images // config.train.batch_size
    self._total = config.train.epochs * self._per_epoch
    self._optimizer = optimizers.train_weights(config, self._per_epoch)
    self._profiler = Profiler(workdir, config.profile)
    self._checkpoints = Checkpoints(workdir / places.CHECKPOINTS, config)
    self._restored = self._checkpoints.restore(self._shapes, progress.say)

  def run(self) -> tuple[TrainState, float]:
    """Trains to the end, from the newest checkpoint where there is one.

    Returns:
      The final state, which is saved, and the seconds that the training took over all processes.

    Raises:
      Interrupted: after a signal; the state is saved.
    """
    restored, self._restored = self._restored, None
    state, meta = self._resume(restored)
    if int(state.step):
      self._progress.skip(forecast.TRAIN, self._work(int(state.step)))
      self._progress.say(f"continuing the training at update {int(state.step)} of {self._total}")
    began = time.monotonic() - meta["seconds"]
    updates, feed = None, self._open_feed(meta)
    try:
      while int(state.step) < self._total:
        try:
          stop = self._stop(int(state.step))
          batch = feed.take(int(state.step), stop)
          updates = updates or self._compile(state, meta, batch)
          state = self._dispatch(updates, state, batch, stop)
          meta["seconds"] = time.monotonic() - began
          self._interrupt.safe_point(
            lambda stopping: self._save(state, meta, stopping or stop == self._total), checkpoint.preempted(stop)
          )
        except recovery.NotFinite as error:
          allowed = self._config.recovery.retries
          retries = recovery.retry(error, "training", meta["retries"], allowed, self._progress.say)
          state, meta = self._resume(self._checkpoints.restore(self._shapes, self._progress.say))
          state, meta["retries"] = recovery.another_order(state, retries), retries
          feed.close()
          feed = self._open_feed(meta)
    finally:
      feed.close()
    return state, meta["seconds"]

  def _open_feed(self, meta):
    train = self._config.train
    # A stream has another order wherever the key in the state has.
    order = self._config.seed, 6, meta["retries"]
    return self._split.feed(None, train.batch_size, order, (0,), train.updates_per_dispatch)

  def _stop(self, start):
    """Where the dispatch that begins at an update ends: at fixed steps, so that a resumed run repeats the same ones."""
    chunk = self._config.train.updates_per_dispatch
    return min((start // chunk + 1) * chunk, self._total)

  def _resume(self, restored):
    """State of a checkpoint, or of the beginning; and, as kept with it, seconds and retries so far."""
    if restored is None:
      with self._waiting(forecast.build_seconds, f"building the network of {len(self._network.layout)} layers"):
        initial = self._interrupt.meanwhile(self._initial, lambda stopping: None)
        restored = initial, {"seconds": 0.0, "retries": 0}
    state, meta = self._devices.replicate(restored[0]), restored[1]
    self._metrics.rewind("train", 0, int(state.step), int(state.step))
    return state, meta

  def _compile(self, state, meta, feed):
    many = self._devices.spmd(self._many, WHOLE, batches.spec(feed), WHOLE)
    arguments = state, feed, self._devices.replicate(np.int32(0))
    compiled = lambda: jax.jit(many, donate_argnums=0).lower(*arguments).compile()
    with self._waiting(forecast.compile_seconds, f"compiling the training of {len(self._network.layout)} layers"):
      return self._interrupt.meanwhile(compiled, lambda stopping: self._save(state, meta, stopping))

  def _save(self, state, meta, now):
    """Saves where it is due, or `now`; never what could not be gone on with."""
    if now or self._checkpoints.due:
      step = int(state.step)
      recovery.check(step, state)
      self._metrics.flush()
      self._checkpoints.save(step, state, meta)

  def _shapes(self, meta):
    checkpoint.seconds(meta)
    checkpoint.retries(meta)
    return jax.eval_shape(self._initial)

  def _waiting(self, work, text):
    return self._progress.waiting(forecast.TRAIN_BUILD, work(self._network.layout, self._network.cells), text)

  def _dispatch(self, updates, state, feed, stop):
    began, start = time.monotonic(), int(state.step)
    with self._profiler.dispatch("train"):
      state, sums = updates(state, feed, self._devices.replicate(np.int32(stop)))
      loss, accuracy = map(float, sums)
    if not np.isfinite(loss):
      recovery.check(stop, {"params": state.params})
      recovery.check(stop, {"loss": np.float64(loss)})
    values = {"train_loss": loss / (stop - start), "train_accuracy": accuracy / (stop - start)}
    self._metrics.write("train", 0, stop, values, stop)
    seconds = time.monotonic() - began
    rate = (stop - start) * self._config.train.batch_size / seconds
    epoch = -(-stop // self._per_epoch)
    self._progress.advance(
      forecast.TRAIN,
      self._work(stop) - self._work(start),
      seconds,
      f"train epoch {epoch}/{self._config.train.epochs}",
      f"loss {values['train_loss']:.3f} accuracy {values['train_accuracy']:.3f} | {rate:.0f} images/s",
    )
    return state

  def _work(self, step):
    return step * forecast.train_seconds(self._config, self._network.layout, self._network.cells)

  def _initial(self) -> TrainState:
    weight_key, update_key = jax.random.split(jax.random.fold_in(jax.random.PRNGKey(self._config.seed), 1_000))
    image = jax.ShapeDtypeStruct((1, *self._split.image_shape), jnp.float32)
    variables = self._network.lazy_init(weight_key, image)
    return TrainState(
      step=jnp.int32(0),
      params=variables["params"],
      batch_stats=variables["batch_stats"],
      weight_state=self._optimizer.init(variables["params"]),
      key=update_key,
    )

  def _many(self, state, feed, stop):
    def body(carry, ready):
      state, loss, accuracy = carry
      state, value, right = self._update(state, ready)
      return state, loss + value, accuracy + right

    zero, order_key = jnp.zeros(()), jax.random.split(state.key, 4)[:1]
    state, *sums = batches.loop(feed, order_key, self._config.train.batch_size, stop, body, (state, zero, zero))
    return state, sums

  def _update(self, state, ready) -> tuple[TrainState, jax.Array, jax.Array]:
    train = self._config.train
    _, augment_key, cutout_key, dropout_key = jax.random.split(state.key, 4)
    at_step = lambda key: jax.random.fold_in(key, state.step)
    images, labels = ready.batch(at_step(augment_key), state.step, 0, train.batch_size, self._config, self._batching)
    images = augment.normalize(images, self.mean, self.deviation)
    if train.cutout:
      images = augment.cutout(images, at_step(cutout_key), train.cutout, self._batching)
    epoch = state.step // self._per_epoch
    drop_path = drop_path_rate(train.drop_path, epoch, train.epochs) if train.drop_path else None

    def objective(params) -> tuple[jax.Array, tuple[Any, jax.Array]]:
      outputs, updated = self._network.apply(
        {"params": params, "batch_stats": state.batch_stats},
        images,
        None,
        True,
        drop_path,
        rngs={"dropout": at_step(dropout_key)},
        mutable=["batch_stats"],
      )
      right = jnp.mean(jnp.argmax(outputs.logits, axis=-1) == labels)
      loss = losses.training_loss(outputs, labels, train.auxiliary_weight, train.label_smoothing)
      return loss, (updated["batch_stats"], right)

    (loss, (batch_stats, right)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    loss, right, gradient = self._devices.mean((loss, right, gradient))
    if self._batching.group is not None:
      batch_stats = self._devices.mean(batch_stats)
    updates, weight_state = self._optimizer.update(gradient, state.weight_state, state.params)
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      weight_state=weight_state,
    )
    return state, loss, right


def read(config: ml_collections.ConfigDict, network: Network, workdir: Path, step: int) -> dict[str, Any]:
  """Parameters and batch statistics of a work directory's checkpoint, of which nothing is changed.

  Raises:
    Broken: where the checkpoint of that step is not whole.
  """
  image = jax.ShapeDtypeStruct((1, config.data.image_size, config.data.image_size, config.data.channels), jnp.float32)
  optimizer = optimizers.train_weights(config, 1)

  def shapes(_):
    variables = network.lazy_init(jax.random.PRNGKey(0), image)
    return TrainState(
      step=jnp.int32(0),
      params=variables["params"],
      batch_stats=variables["batch_stats"],
      weight_state=optimizer.init(variables["params"]),
      key=jax.random.PRNGKey(0),
    )

  state, _ = checkpoint.read(workdir / places.CHECKPOINTS / str(step), lambda meta: jax.eval_shape(shapes, meta))
  return {"params": state.params, "batch_stats": state.batch_stats}
