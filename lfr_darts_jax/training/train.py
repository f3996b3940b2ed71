"""Trains a derived network (DARTS, section 3.2 and appendix A.2)."""

from collections.abc import Callable
import contextlib
import functools
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import ml_collections
import msgspec
import numpy as np
import optax

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import augment, datasets, input_pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.cell import Rates
from lfr_darts_jax.models.spaces import AnyNetwork, with_sharding
from lfr_darts_jax.runtime import checkpoint, distributed, nan_guard, target, workdir as workdirs
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.runtime.session import ChunkResult, Session, check_finite
from lfr_darts_jax.training import losses, optimizers, vector

Tree = Any
STATISTICS = "statistics"  # In the metadata of a checkpoint, where they are not those of the train split.


class TrainState(struct.PyTreeNode):
  """State of the final training.

  Attributes:
    step: steps done, int32 scalar.
    params: weights of the network.
    batch_stats: running statistics of its batch norms.
    opt_state: state of the optimizer.
    average: of the variables over the steps, where `train.ema` asks for it.
    key: raw random key, from which those of every step are folded.
  """

  step: jax.Array
  params: Tree
  batch_stats: Tree
  opt_state: optax.OptState
  key: jax.Array
  average: Tree | None = None

  @property
  def variables(self) -> dict[str, Tree]:
    """What is tested: the average, or parameters and batch statistics as they are."""
    return self.average or {"params": self.params, "batch_stats": self.batch_stats}


class Base(NamedTuple):
  """What a training starts from instead of random weights.

  Attributes:
    take: from fresh variables of the network to those that it starts with.
    statistics: mean and standard deviation of the images that these were trained on, per channel.
  """

  take: Callable[[Tree], Tree]
  statistics: input_pipeline.Statistics


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


class TrainSteps:
  """The steps of a final training; `step` takes one, `chunk` many.

  Attributes:
    steps_per_epoch: batches that the train split fills.
    total: steps of the training.
    statistics: mean and standard deviation by which images are normalised, per channel.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: AnyNetwork,
    train_images: int,
    statistics: input_pipeline.Statistics,
    devices: Devices | None = None,
    class_weights: losses.ClassWeights = None,
  ):
    """Prepares the steps.

    Args:
      config: the config.
      network: what to train.
      train_images: of the train split.
      statistics: see the class.
      devices: that share every batch; None for the first one.
      class_weights: of the loss, by class.
    """
    self._class_weights = class_weights
    self._config, self._devices = config, devices or distributed.first_device()
    self._sharding = self._devices.sharding(network.settings.sharding.group)
    self._network = with_sharding(network, self._sharding)
    self.statistics = statistics
    self.steps_per_epoch = train_images // config.train.batch_size
    self.total = config.train.epochs * self.steps_per_epoch
    self._optimizer = optimizers.train_weights(config, self.steps_per_epoch)

  def initial_state(
    self, image_shape: tuple[int, ...], take: Callable[[Tree], Tree] = lambda variables: variables
  ) -> TrainState:
    """The state before the first step, by `config.seed`.

    Args:
      image_shape: height, width and channels.
      take: see `Base`.
    """
    with target.host():
      weight_key, step_key = jax.random.split(jax.random.fold_in(jax.random.PRNGKey(self._config.seed), 1_000))
      variables = take(self._network.lazy_init(weight_key, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)))
      params = variables["params"]
      opt_state, average = self._optimizer.init(params), jax.tree.map(jnp.array, variables)
      if not self._config.train.ema:
        average = None
      return TrainState(jnp.int32(0), params, variables["batch_stats"], opt_state, step_key, average)

  def compile(self, state: TrainState, chunk: input_pipeline.Chunk) -> jax.stages.Compiled:
    """`chunk` for arguments of these shapes, compiled: from state, chunk and stop to state and sums."""
    return input_pipeline.compile_steps(self.chunk, self._devices, state, chunk)

  def chunk(self, state: TrainState, chunk: input_pipeline.Chunk, stop: jax.Array) -> Any:
    """Takes steps until number `stop`; returns the state after them, and the sums of their losses and accuracies."""

    def step(carry: Any, batches: input_pipeline.StepBatches) -> Any:
      state, loss, accuracy = carry
      state, step_loss, step_accuracy = self.step(state, batches)
      return state, loss + step_loss, accuracy + step_accuracy

    zero, order_key = jnp.zeros(()), jax.random.split(state.key, 4)[:1]
    size, state = self._config.train.batch_size, self.packed(state)
    state, *sums = input_pipeline.run_steps(chunk, order_key, size, stop, step, (state, zero, zero))
    return vector.unpack_state(state), sums

  def packed(self, state: TrainState) -> TrainState:
    """The state as `step` takes it; on accelerators with a vector in the place of each tree."""
    return state if target.is_cpu() else vector.pack_state(state)

  def step(self, state: TrainState, batches: input_pipeline.StepBatches) -> tuple[TrainState, jax.Array, jax.Array]:
    """One step; returns the state after it, its loss in nats, and its accuracy from 0 to 1."""
    train = self._config.train
    images, labels, dropout_key = self._batch(state, batches)
    epoch = state.step // self.steps_per_epoch
    rates = Rates(path=drop_path_rate(train.drop_path, epoch, train.epochs) if train.drop_path else None)

    def objective(params: Tree) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
      variables = {"params": vector.unpacked(params), "batch_stats": vector.unpacked(state.batch_stats)}
      rngs = {"dropout": dropout_key}
      outputs, updated = self._network.apply(variables, images, None, True, rates, rngs=rngs, mutable=["batch_stats"])
      loss = losses.training_loss(outputs, labels, train.auxiliary_weight, train.label_smoothing, self._class_weights)
      return loss, (vector.like(updated["batch_stats"], state.batch_stats), losses.accuracy(outputs.logits, labels))

    (loss, (batch_stats, accuracy)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    loss, accuracy, gradient = self._devices.mean((loss, accuracy, gradient))
    if self._sharding.group is not None:
      batch_stats = self._devices.mean(batch_stats)
    updates, opt_state = self._optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
    if train.ema:
      new = {"params": params, "batch_stats": batch_stats}
      # Short at first: what a young average still holds of the initial values makes a network that knows nothing.
      decay = jnp.minimum(train.ema, state.step / (state.step + 9))
      average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.average, new)
      state = state.replace(average=average)
    return state, loss, accuracy

  def _batch(self, state: TrainState, batches: input_pipeline.StepBatches) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised images, labels and a key for dropout."""
    train = self._config.train
    _, augment_key, cutout_key, dropout_key = jax.random.split(state.key, 4)
    at_step = lambda key: jax.random.fold_in(key, state.step)
    size = train.batch_size
    images, labels = batches.batch(at_step(augment_key), state.step, 0, size, self._config, self._sharding)
    images = augment.normalize(images, *self.statistics)
    if train.cutout:
      images = augment.cutout(images, at_step(cutout_key), train.cutout, self._sharding)
    return images, labels, at_step(dropout_key)


class Training:
  """The final training of one network in one work directory.

  Attributes:
    steps: its steps.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: AnyNetwork,
    dataset: datasets.Dataset,
    session: Session,
    devices: Devices | None = None,
    base: Callable[[], Base] | None = None,
  ):
    """Prepares a training.

    Args:
      config: the config, validated.
      network: what to train.
      dataset: the data; of its train split alone.
      session: its checkpoints, metrics and progress.
      devices: that share every batch; None for all there are.
      base: opens what `train.init_from` names; called where there is no checkpoint yet, which holds all of it.

    Raises:
      UsageError: where a batch is larger than the train split, the weights of classes are not as many as these, or
        there are checkpoints but none is whole.
    """
    check_batch_size(config, dataset.train_images)
    self._config, self._session, self._layers = config, session, len(network.layout)
    self._devices = devices or distributed.all_devices()
    self._split = input_pipeline.open_split(dataset.train, config, self._devices)
    weights = losses.class_weights(config.train.class_weights, dataset.train_labels, len(dataset.class_names))
    # Shapes depend on no statistics, and these may be in a checkpoint.
    self.steps = TrainSteps(config, network, dataset.train_images, ((), ()), self._devices, weights)
    self._restored = session.restore(self._shapes)
    self._base = base() if base and self._restored is None else None
    self.steps.statistics = self._statistics()
    self._meta = {} if base is None else {STATISTICS: self.steps.statistics}

  def run(self) -> TrainState:
    """Trains to the end, from the newest checkpoint where there is one; the final state is saved.

    Raises:
      Interrupted: after a signal; the state is saved.
    """
    state = self._begin(self._restored)
    if self._base is not None:
      # From here on the run depends on no other directory.
      self._session.save(0, state, self._meta, True)
    self._restored = self._base = None
    if int(state.step):
      self._session.progress.say(f"continuing the training at update {int(state.step)} of {self.steps.total}")
    compiled: jax.stages.Compiled | None = None
    while int(state.step) < self.steps.total:
      with contextlib.closing(self._batches()) as batches:
        try:
          while (start := int(state.step)) < self.steps.total:
            stop = self._chunk_end(start)
            chunk = batches.chunk(start, stop)
            compiled = compiled or self._compile(state, chunk)
            last = self._devices.replicate(np.int32(stop))
            result = self._session.run_chunk("train", start, stop, lambda: compiled(state, chunk, last))
            state = result.state
            for hook in (self._check, self._log, self._save):
              hook(result)
        except nan_guard.NotFinite as error:
          state = self._begin(self._session.go_back(error, "training", self._shapes))
          state = nan_guard.reshuffle(state, self._session.clock.retries)
    return state

  def _begin(self, restored: tuple[TrainState, Any] | None) -> TrainState:
    """The state of a checkpoint, or the first one."""
    if restored is None:
      restored = self._session.wait(f"building the network of {self._layers} layers", self._initial), None
    step = int(restored[0].step)
    self._session.metrics.rewind("train", 0, step, step)
    return self._devices.replicate(restored[0])

  def _initial(self) -> TrainState:
    taken = () if self._base is None else (self._base.take,)
    return self.steps.initial_state(self._split.image_shape, *taken)

  def _statistics(self) -> input_pipeline.Statistics:
    """Those of the train split; of weights that were trained before, those that they were trained with."""
    if self._base is not None:
      return self._base.statistics
    if self._restored is not None and STATISTICS in self._restored[1]:
      return msgspec.convert(self._restored[1][STATISTICS], input_pipeline.Statistics)
    return self._split.statistics()

  def _shapes(self, meta: Any) -> Tree:
    if self._config.train.init_from is not None:
      channels = map(len, msgspec.convert(meta[STATISTICS], input_pipeline.Statistics))
      if set(channels) != {self._config.data.channels}:
        raise ValueError("statistics of other channels")
    return jax.eval_shape(functools.partial(self.steps.initial_state, self._split.image_shape))

  def _batches(self) -> input_pipeline.BatchIterator:
    train = self._config.train
    # A stream has another order wherever the key in the state has.
    seed = self._config.seed, 6, self._session.clock.retries
    return self._split.batches(None, train.batch_size, seed, (0,), train.steps_per_chunk)

  def _chunk_end(self, start: int) -> int:
    """Chunks end at fixed steps, so that a resumed run repeats the same ones."""
    size = self._config.train.steps_per_chunk
    return min((start // size + 1) * size, self.steps.total)

  def _compile(self, state: TrainState, chunk: input_pipeline.Chunk) -> jax.stages.Compiled:
    return self._session.wait(
      f"compiling the training of {self._layers} layers",
      lambda: self.steps.compile(state, chunk),
      lambda stopping: self._session.save(int(state.step), state, self._meta, stopping),
    )

  def _check(self, result: ChunkResult) -> None:
    check_finite(result, {}, result.sums[0])

  def _log(self, result: ChunkResult) -> None:
    count, train = result.stop - result.start, self._config.train
    loss, accuracy = (float(total) / count for total in result.sums)
    values = {"train_loss": loss, "train_accuracy": accuracy}
    self._session.metrics.write("train", 0, result.stop, values, result.stop)
    epoch = -(-result.stop // self.steps.steps_per_epoch)
    images_per_second = count * train.batch_size / result.seconds
    self._session.progress.advance(
      count,
      result.seconds,
      self.steps.total - result.stop,
      f"train epoch {epoch}/{train.epochs}",
      f"loss {loss:.3f} accuracy {accuracy:.3f} | {images_per_second:.0f} images/s",
    )

  def _save(self, result: ChunkResult) -> None:
    self._session.safe_point(result.stop, result.state, self._meta, final=result.stop == self.steps.total)


def load_variables(config: ml_collections.ConfigDict, network: AnyNetwork, workdir: Path, step: int) -> dict[str, Any]:
  """What is tested of a work directory's checkpoint, see `TrainState.variables`; nothing is changed.

  Raises:
    Broken: where the checkpoint of that step is not whole.
  """
  steps = TrainSteps(config, network, config.train.batch_size, ((), ()))
  initial = lambda: steps.initial_state(image_shape(config))
  folder = workdir / workdirs.CHECKPOINTS / str(step)
  state, _ = checkpoint.read(folder, lambda meta: jax.eval_shape(initial))
  return state.variables
