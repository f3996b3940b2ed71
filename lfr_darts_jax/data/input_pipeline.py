"""Where batches come from: a data set that lies on the devices, or one that is streamed to them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import augment
from lfr_darts_jax.data.decoding import Arrays, Source
from lfr_darts_jax.data.in_memory import ArrayDataset, EpochBatches, InMemoryChunk
from lfr_darts_jax.data.streaming.batches import StreamedChunk
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime.distributed import REPLICATED, Devices, sharded

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
Chunk = InMemoryChunk | StreamedChunk
StepBatches = EpochBatches | StreamedChunk
STATISTICS_BATCH = 64


def chunk_spec(chunk: Chunk) -> Any:
  """How a chunk lies on the devices, for `Devices.shard_map`."""
  streamed: Any = StreamedChunk(sharded(2), sharded(2), REPLICATED)  # type: ignore[arg-type]
  return REPLICATED if isinstance(chunk, InMemoryChunk) else streamed


def compile_steps(take: Callable[..., Any], devices: Devices, state: Any, chunk: Chunk) -> jax.stages.Compiled:
  """Compiles what takes the steps of a chunk, for arguments of these shapes; nothing is computed.

  Args:
    take: from a state, a chunk and the number of the last step, an int32 on the devices, to the next state and sums.
    devices: that share every batch.
    state: donated when the result is called.
    chunk: what it needs of the data.
  """
  steps = devices.shard_map(take, REPLICATED, chunk_spec(chunk), REPLICATED)
  return jax.jit(steps, donate_argnums=0).lower(state, chunk, devices.replicate(np.int32(0))).compile()


def run_steps(
  chunk: Chunk, keys: jax.Array, batch_size: int, stop: jax.Array, step: Callable[[Any, StepBatches], Any], start: Any
) -> Any:
  """Takes steps until number `stop`; an epoch's order is drawn once, since sorting may take longer than a step.

  Args:
    chunk, keys, batch_size: see `InMemoryChunk.epoch`.
    stop: steps done at the end.
    step: from a carry and the batches that hold its step's to the next carry.
    start: the carry, whose first entry has its `step`.

  Returns:
    The last carry.
  """

  def epoch(carry: Any) -> Any:
    batches, end = chunk.epoch(keys, carry[0].step, batch_size)
    end = jnp.minimum(stop, end)
    return jax.lax.while_loop(lambda carry: carry[0].step < end, lambda carry: step(carry, batches), carry)

  return jax.lax.while_loop(lambda carry: carry[0].step < stop, epoch, start)


class BatchIterator(Protocol):
  """Training batches by step."""

  def chunk(self, start: int, stop: int) -> Chunk:
    """What the device needs for steps `start` to `stop`; raises RunError where an image can't be read."""

  def close(self) -> None:
    """Ends what was begun for it."""


class InMemorySplit:
  """A split that lies on every device.

  Attributes:
    count: images.
    image_shape: height, width and channels.
  """

  def __init__(self, arrays: Arrays, devices: Devices):
    """Takes uint8 images and int32 labels; nothing is copied yet."""
    self._images, self._labels = arrays
    self.count, self.image_shape = len(self._labels), self._images.shape[1:]
    self._devices = devices
    self._dataset: ArrayDataset | None = None  # On the devices.

  def statistics(self) -> Statistics:
    """Mean and standard deviation per channel."""
    return augment.statistics(self._images)

  def batches(
    self, splits: np.ndarray | None, batch_size: int, seed: Sequence[int], first_steps: Sequence[int], chunk: int
  ) -> BatchIterator:
    """Training batches.

    Args:
      splits: `[splits, n]` indices of the images; None for one split with all.
      batch_size: images.
      seed: of the order of a stream; here the order is that of the key in the state.
      first_steps: the first step for which each split is needed.
      chunk: steps in a chunk, at most.

    Raises:
      UsageError: where the batches can't be made.
    """
    splits = np.arange(self.count, dtype=np.int32)[None] if splits is None else splits
    if self._dataset is None:
      self._dataset = self._devices.replicate(ArrayDataset(self._images, self._labels))
    return _Always(self._devices.replicate(InMemoryChunk(self._dataset, splits)))

  def eval_batches(self, indices: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """This host's share of all images once, see `loader.eval_batches`."""
    padded = np.resize(indices, -(-len(indices) // batch_size) * batch_size)
    for start in range(0, len(padded), batch_size):
      own = padded[start : start + batch_size][jax.process_index() :: jax.process_count()]
      yield self._images[own], self._labels[own], np.ones(len(own), bool)

  def images(self, indices: np.ndarray) -> np.ndarray:
    """Some images as the test sees them, uint8."""
    return self._images[indices]


class _Always:
  """Batches that lie on the devices: every chunk needs the same."""

  def __init__(self, chunk: InMemoryChunk):
    self._chunk = chunk

  def chunk(self, start: int, stop: int) -> Chunk:
    return self._chunk

  def close(self) -> None:
    pass


class StreamedSplit:
  """A split that stays where it is; attributes and methods as of `InMemorySplit`."""

  def __init__(self, source: Source, config: ml_collections.ConfigDict, devices: Devices):
    """Reads nothing yet.

    Raises:
      UsageError: where the packages of the extra `stream` are missing.
    """
    try:
      from lfr_darts_jax.data.streaming import loader, transforms
    except ImportError as error:
      raise UsageError(
        f"config.data.loading: 'stream' needs {error.name}, which is missing; pip install 'lfr-darts-jax[stream]'"
      ) from None
    self._loader = loader
    self._source, self._devices = source, devices
    self._train, self._test = transforms.train_transform(config), transforms.test_transform(config)
    self._host = loader.Host(jax.process_index(), jax.process_count(), loader.worker_count(config.data.workers))
    self._sample, self._skip_bad = (config.seed, config.data.statistics_images), config.data.skip_bad_files
    self.count = len(source)
    self.image_shape = image_shape(config)

  def statistics(self) -> Statistics:
    """Mean and standard deviation per channel of `data.statistics_images` images; every process takes the same ones."""
    seed, count = self._sample
    sample = np.random.default_rng([seed, 4]).permutation(self.count)[:count]
    counts = np.zeros((self.image_shape[-1], augment.VALUES), np.int64)
    skip_bad = self._skip_bad
    batches = self._loader.eval_batches(self._source, np.sort(sample), STATISTICS_BATCH, self._test, skip_bad=skip_bad)
    for images, _, real in batches:
      counts += augment.counts(images[real])
    return augment.moments(counts)

  def batches(
    self, splits: np.ndarray | None, batch_size: int, seed: Sequence[int], first_steps: Sequence[int], chunk: int
  ) -> BatchIterator:
    """See `InMemorySplit`."""
    chosen: list[Any] = [None] if splits is None else list(splits)
    # The splits share the host's workers; each needs one, unless they are threads.
    host = self._host
    host = self._loader.Host(host.index, host.count, host.workers and max(host.workers // len(chosen), 1))

    def begin(split: int, first: int) -> Any:
      indices, own = chosen[split], (*seed, split)
      order = self._source, indices, batch_size, own
      return self._loader.train_batches(*order, self._train, host, first, chunk, self._skip_bad)

    return _Streams(begin, first_steps, chunk, self._devices)

  def eval_batches(self, indices: np.ndarray, batch_size: int) -> Any:
    """This host's share of all images once, see `loader.eval_batches`."""
    return self._loader.eval_batches(self._source, indices, batch_size, self._test, self._host, self._skip_bad)

  def images(self, indices: np.ndarray) -> np.ndarray:
    """See `InMemorySplit`."""
    if not len(indices):
      return np.zeros((0, *self.image_shape), np.uint8)
    batches = self._loader.eval_batches(self._source, indices, len(indices), self._test, skip_bad=self._skip_bad)
    try:
      return next(batches)[0]
    finally:
      batches.close()


class _Streams:
  """Batches that are read while the devices work on those before."""

  def __init__(self, begin: Callable[[int, int], Any], first_steps: Sequence[int], longest: int, devices: Devices):
    """Starts nothing yet.

    Args:
      begin: from a split and a step to its batches from there on.
      first_steps: the first step for which each split is needed.
      longest: steps of a chunk at most; each is handed over as one array of so many.
      devices: that the batches are split over.
    """
    self._begin, self._first_steps, self._longest, self._devices = begin, first_steps, longest, devices
    self._open: list[Any] = []
    self._next = -1
    self._told = False

  def chunk(self, start: int, stop: int) -> Chunk:
    if start != self._next:
      self.close()
      self._open = [self._begin(i, max(start, first)) for i, first in enumerate(self._first_steps)]
    steps = [
      [next(s) if step >= f else None for s, f in zip(self._open, self._first_steps, strict=True)]
      for step in range(start, stop)
    ]
    self._next = stop
    images, labels, _ = next(batch for batch in steps[0] if batch is not None)
    shape = self._longest, len(self._open)
    # Zeros that are never written take no time.
    all_images, all_labels = np.zeros((*shape, *images.shape), np.uint8), np.zeros((*shape, *labels.shape), np.int32)
    replaced = 0
    for i, batches in enumerate(steps):
      for j, batch in enumerate(batches):
        if batch is not None:
          all_images[i, j], all_labels[i, j], real = batch
          replaced += int(np.sum(~real))
    if replaced and not self._told:
      self._told = True
      print(f"{replaced} of the next {stop - start} steps' images can't be read; others take their places", flush=True)
    images, labels = self._devices.split((all_images, all_labels), 2)
    return StreamedChunk(images, labels, self._devices.replicate(np.int32(start)))

  def close(self) -> None:
    while self._open:
      self._open.pop().close()
    self._next = -1


Split = InMemorySplit | StreamedSplit


def open_split(split: Any, config: ml_collections.ConfigDict, devices: Devices) -> Split:
  """A split of a data set, to be put on the devices or streamed to them, as `data.loading` says.

  Args:
    split: `Arrays`, or a `Source` that is to be streamed.
    config: the config.
    devices: that share every batch.
  """
  return StreamedSplit(split, config, devices) if config.data.loading == "stream" else InMemorySplit(split, devices)
