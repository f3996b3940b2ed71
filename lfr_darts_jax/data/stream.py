"""Batches of a data set too large for the device, from a random-access source, decoded by worker processes (Grain).

Batch t of a training is a pure function of (seed, t), as the batches on the device are: resuming starts at t, whatever
the number of workers or of hosts was and is. Hosts share every batch: of the images in order, process p of P reads the
p-th, the (p + P)-th, and so on.
"""

import os

from grain import MapDataset
import ml_collections
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.data.loader import Loader
from lfr_darts_jax.data.loader import with_position
from lfr_darts_jax.data.photographs import TestView
from lfr_darts_jax.data.photographs import TrainView
from lfr_darts_jax.data.pump import PART
from lfr_darts_jax.data.pump import Batches
from lfr_darts_jax.data.pump import start
from lfr_darts_jax.data.sources import Source
from lfr_darts_jax.errors import UsageError

MOST_WORKERS = 32


class Stream:
  """Endless training batches."""

  def __init__(
    self,
    source: Source,
    indices: np.ndarray | None,
    batch_size: int,
    seed: int | tuple[int, ...],
    view: TrainView,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
  ):
    """Prepares a stream; nothing is read yet.

    Args:
      source: the images.
      indices: which of them; None for all.
      batch_size: images per batch over all processes.
      seed: of order and views.
      view: what is seen of an image.
      process_index, process_count: of this host among those that share the batches.
      workers: processes that read and decode; 0 for threads of this one.

    Raises:
      UsageError: where the images don't fill a batch, or the processes can't share it equally.
    """
    self._count = len(source) if indices is None else len(indices)
    if not 0 < batch_size <= self._count:
      raise UsageError(f"batch size: {batch_size}; allowed are 1 to {self._count}, the number of images")
    self._batch_size, self._share = batch_size, _share(batch_size, process_count)
    self._mine, self._workers = slice(process_index, None, process_count), workers
    order, views = np.random.SeedSequence(seed).spawn(2)
    self._order_seed = int(order.generate_state(1)[0])
    self._loader = Loader(source, indices, view, self._count, int(views.generate_state(1, np.uint64)[0]))

  def batches(self, first: int = 0) -> Batches:
    """All batches from number `first` on.

    Returns:
      An iterator of uint8 images `[batch_size / process_count, size, size, channels]` and their int32 labels.

    Raises:
      UsageError: where the machine has too little shared memory for the workers.
    """
    used = self._count // self._batch_size * self._batch_size
    order = MapDataset.range(self._count).shuffle(seed=self._order_seed)[:used].repeat()
    order = order.map_with_index(with_position)[self._mine]
    return start(order, self._loader, self._share, first, self._workers)


def evaluation_batches(
  source: Source,
  indices: np.ndarray | None,
  batch_size: int,
  view: TestView,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
) -> Batches:
  """Every image exactly once over all processes, in order.

  Args:
    source, indices, batch_size, process_index, process_count, workers: see `Stream`; a batch may be larger than the
      number of images.
    view: what is seen of an image.

  Returns:
    An iterator of uint8 images `[batch_size / process_count, size, size, channels]`, their int32 labels, and which of
    them are real, bool; the last batch is filled up with zeros. Every process gets the same number of batches.

  Raises:
    UsageError: where the processes can't share a batch equally, or there is too little shared memory.
  """
  count = len(source) if indices is None else len(indices)
  share = _share(batch_size, process_count)
  filled = -(-count // batch_size) * batch_size
  order = MapDataset.range(filled).map_with_index(with_position)[process_index::process_count]
  return start(order, Loader(source, indices, view, count), share, 0, workers, padded=True)


def statistics(config: ml_collections.ConfigDict, source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation per channel, as `augment.statistics`, of `data.statistics_images` images as the test sees them.

  Every process takes the same ones.
  """
  sample = np.random.default_rng([config.seed, 4]).permutation(len(source))[: config.data.statistics_images]
  counts = np.zeros((config.data.channels, augment.VALUES), np.int64)
  batches = evaluation_batches(source, np.sort(sample), PART, TestView.of(config))
  for images, _, real in batches:
    counts += augment.counts(images[real])
  return augment.moments(counts)


def worker_count(config: ml_collections.ConfigDict) -> int:
  """`data.workers`, or how many there are where it is None."""
  return min(len(os.sched_getaffinity(0)), MOST_WORKERS) if config.data.workers is None else config.data.workers


def _share(batch_size, process_count):
  share, rest = divmod(batch_size, process_count)
  if rest:
    raise UsageError(f"batch size: {batch_size}; allowed are multiples of {process_count}, the number of processes")
  return share
