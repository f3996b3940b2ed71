"""Where batches come from, to driver and trainer: a data set that lies on the devices, or one streamed to them."""

import collections
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import jax
import ml_collections
import numpy as np

from lfr_darts_jax import processes
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.data import photographs
from lfr_darts_jax.data import sources
from lfr_darts_jax.data import stream
from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.evaluate import evaluate
from lfr_darts_jax.evaluate import evaluate_stream
from lfr_darts_jax.network import Network
from lfr_darts_jax.parallel import Devices

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Feed:
  """Batches of some parts of a data set, by step. This one's lie on the devices."""

  def __init__(self, resident: batches.Resident):
    self._resident = resident

  def take(self, start: int, stop: int) -> batches.Feed:
    """What a dispatch from update `start` to update `stop` needs."""
    return self._resident

  def close(self) -> None:
    """Ends what was begun for it."""


class StreamFeed(Feed):
  """Batches that are read while the devices work on those before."""

  def __init__(self, streams: Sequence[stream.Stream], begins: Sequence[int], steps: int, devices: Devices):
    """Starts nothing yet.

    Args:
      streams: one for each part.
      begins: the first update that a part is needed for.
      steps: updates of a dispatch, at most; each is handed over as one array of so many.
      devices: that the batches are split over.
    """
    self._streams, self._begins, self._steps, self._devices = streams, begins, steps, devices
    self._open: list[Any] = []
    self._coming: collections.deque[futures.Future[Any]] = collections.deque()
    self._pool: futures.ThreadPoolExecutor | None = None
    self._next = -1

  def take(self, start: int, stop: int) -> batches.Feed:
    """See `Feed`.

    Raises:
      RunError: where an image can't be read.
    """
    if start != self._next:
      self._restart(start)
    steps = [self._ahead() for _ in range(start, stop)]
    self._next = stop
    images, labels = steps[0][0]
    shape = self._steps, len(self._streams)
    # Zeros that are never written take no time.
    all_images, all_labels = np.zeros((*shape, *images.shape), np.uint8), np.zeros((*shape, *labels.shape), np.int32)
    for i, parts in enumerate(steps):
      for j, (images, labels) in parts.items():
        all_images[i, j], all_labels[i, j] = images, labels
    images, labels = self._devices.split((all_images, all_labels), 2)
    return batches.Streamed(images, labels, self._devices.replicate(np.int32(start)))

  def close(self) -> None:
    """See `Feed`."""
    if self._pool:
      # What is being read must end before the worker processes do.
      self._pool.shutdown(cancel_futures=True)
    self._pool, self._next = None, -1
    self._coming.clear()
    while self._open:
      self._open.pop().close()

  def _restart(self, start):
    self.close()
    self._open = [s.batches(max(start, begin)) for s, begin in zip(self._streams, self._begins, strict=True)]
    self._pool = futures.ThreadPoolExecutor(1, "feed")
    self._reading = start

  def _ahead(self):
    """The next step's batches; as many steps are kept on their way as a dispatch takes."""
    assert self._pool is not None
    while len(self._coming) <= self._steps:
      self._coming.append(self._pool.submit(self._read, self._reading))
      self._reading += 1
    return self._coming.popleft().result()

  def _read(self, step):
    return {i: next(part) for i, part in enumerate(self._open) if step >= self._begins[i]}


class Resident:
  """A split that lies on every device.

  Attributes:
    count: images.
    image_shape: height, width and channels.
  """

  def __init__(self, arrays: sources.Arrays, devices: Devices):
    self._images, self._labels = arrays
    self.count, self.image_shape = len(self._labels), self._images.shape[1:]
    self._devices = devices
    self._split: batches.Split | None = None

  def statistics(self) -> Statistics:
    """Mean and deviation per channel."""
    return augment.statistics(self._images)

  def feed(
    self, parts: np.ndarray | None, batch_size: int, order: tuple[int, ...], begins: Sequence[int], steps: int
  ) -> Feed:
    """Training batches.

    Args:
      parts: `[parts, n]`, indices of the images; None for one part with all.
      batch_size: images of a batch.
      order: seed of the order of a stream; here the order is that of the key in the state.
      begins: see `StreamFeed`.
      steps: updates of a dispatch at most.

    Raises:
      UsageError: where the batches can't be made.
    """
    parts = np.arange(self.count, dtype=np.int32)[None] if parts is None else parts
    return Feed(self._devices.replicate(batches.Resident(self._on_devices(), parts)))

  def evaluate(
    self,
    network: Network,
    variables: Any,
    indices: np.ndarray,
    batch_size: int,
    statistics: Statistics,
    mixtures: dict[str, jax.Array] | None = None,
  ) -> Evaluation:
    """Classifies some images; arguments as of `evaluate.evaluate`."""
    return evaluate(
      network, variables, self._on_devices(), indices, batch_size, *statistics, mixtures, devices=self._devices
    )

  def images(self, indices: np.ndarray) -> np.ndarray:
    """Some images as the test sees them, uint8."""
    return self._images[indices]

  def _on_devices(self):
    if self._split is None:
      self._split = self._devices.replicate(batches.Split(self._images, self._labels))
    return self._split


class Streamed:
  """A split that stays where it is; attributes and methods as of `Resident`."""

  def __init__(self, source: sources.Source, config: ml_collections.ConfigDict, devices: Devices):
    self._source, self._config, self._devices = source, config, devices
    self._workers = stream.worker_count(config)
    self.count = len(source)
    self.image_shape = config.data.image_size, config.data.image_size, config.data.channels

  def statistics(self) -> Statistics:
    """Mean and deviation per channel, of a sample."""
    return stream.statistics(self._config, self._source)

  def feed(
    self, parts: np.ndarray | None, batch_size: int, order: tuple[int, ...], begins: Sequence[int], steps: int
  ) -> Feed:
    """See `Resident`."""
    chosen = [None] if parts is None else list(parts)
    # The parts share the host's workers; each needs one, unless they are threads.
    workers = self._workers and max(self._workers // len(chosen), 1)
    of_host = jax.process_index(), processes.count(), workers
    view = photographs.TrainView.of(self._config)
    streams = [
      stream.Stream(self._source, part, batch_size, (*order, i), view, *of_host) for i, part in enumerate(chosen)
    ]
    return StreamFeed(streams, begins, steps, self._devices)

  def evaluate(
    self,
    network: Network,
    variables: Any,
    indices: np.ndarray,
    batch_size: int,
    statistics: Statistics,
    mixtures: dict[str, jax.Array] | None = None,
  ) -> Evaluation:
    """See `Resident`."""
    of_host = jax.process_index(), processes.count(), self._workers
    view = photographs.TestView.of(self._config)
    padded = stream.evaluation_batches(self._source, indices, batch_size, view, *of_host)
    try:
      return evaluate_stream(network, variables, padded, len(indices), *statistics, mixtures, devices=self._devices)
    finally:
      padded.close()

  def images(self, indices: np.ndarray) -> np.ndarray:
    """See `Resident`."""
    if not len(indices):
      return np.zeros((0, *self.image_shape), np.uint8)
    view = photographs.TestView.of(self._config)
    read = stream.evaluation_batches(self._source, indices, len(indices), view)
    try:
      return next(read)[0]
    finally:
      read.close()


Split = Resident | Streamed


def open_split(split: sources.Arrays | sources.Source, config: ml_collections.ConfigDict, devices: Devices) -> Split:
  """A split of a data set, to be put on the devices or streamed to them, as `data.loading` says."""
  if config.data.loading == "stream":
    return Streamed(split, config, devices)  # type: ignore[arg-type]
  return Resident(split, devices)  # type: ignore[arg-type]
