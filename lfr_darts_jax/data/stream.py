"""Batches of a data set too large for the device, from a random-access source, decoded by worker processes (Grain).

Batch t of a training is a pure function of (seed, t), as the batches on the device are: resuming starts at t, whatever
the number of workers or of hosts was and is. Hosts share every batch: of the images in order, process p of P reads the
p-th, the (p + P)-th, and so on.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import functools
import os
import sys
from typing import Any
from typing import Protocol

from grain import MapDataset
from grain import MultiprocessingOptions
from grain import ReadOptions
import numpy as np

from lfr_darts_jax.data import workers as processes
from lfr_darts_jax.data.photographs import TestView
from lfr_darts_jax.data.photographs import TrainView
from lfr_darts_jax.data.slots import Slots
from lfr_darts_jax.data.slots import make_slots
from lfr_darts_jax.errors import RunError
from lfr_darts_jax.errors import UsageError

ORDER, VIEWS = 1, 2  # What a seed is used for.
PART = 64  # Images at most that are made at a time; a share of a batch is put together of equal parts.
CLOSE_SECONDS = 30  # Patience with a worker that is to end, but is reading.


class Source(Protocol):
  """Encoded images at random access; must be picklable."""

  def __len__(self) -> int:
    """Number of images."""

  def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """Encoded images and their labels."""

  def name(self, index: int) -> str:
    """What to call an image in a message."""


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
    seed = seed if isinstance(seed, tuple) else (seed,)
    self._order_seed = int(np.random.SeedSequence((*seed, ORDER)).generate_state(1)[0])
    self._loader = _Loader(source, indices, view, (*seed, VIEWS), self._count)

  def batches(self, start: int = 0) -> "Batches":
    """All batches from number `start` on.

    Returns:
      An iterator of uint8 images `[batch_size / process_count, size, size, channels]` and their int32 labels.

    Raises:
      UsageError: where the machine has too little shared memory for the workers.
    """
    used = self._count // self._batch_size * self._batch_size
    order = MapDataset.range(self._count).shuffle(seed=self._order_seed)[:used].repeat()
    return _start(order.map_with_index(_with_position)[self._mine], self._loader, self._share, start, self._workers)


def evaluation_batches(
  source: Source,
  indices: np.ndarray | None,
  batch_size: int,
  view: TestView,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
) -> "Batches":
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
  order = MapDataset.range(filled).map_with_index(_with_position)[process_index::process_count]
  return _start(order, _Loader(source, indices, view, None, count), share, 0, workers)


def _share(batch_size, process_count):
  share, rest = divmod(batch_size, process_count)
  if rest:
    raise UsageError(f"batch size: {batch_size}; allowed are multiples of {process_count}, the number of processes")
  return share


def _with_position(position, entry):
  return np.array((position, entry))


def _start(order, loader, share, start, workers):
  part = next(n for n in range(min(share, PART), 0, -1) if share % n == 0)
  parts = order.batch(part)[start * (share // part) :]
  if not workers:
    threads = len(os.sched_getaffinity(0))
    options = ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return Batches([_Worker(iter(parts.map(loader).to_iter_dataset(options)))], share, part)
  workers = min(workers, len(parts))
  processes.allow()
  # Each is Grain's prefetching by one process: they are started, and closed, all at a time.
  options, alone = ReadOptions(num_threads=0, prefetch_buffer_size=0), MultiprocessingOptions(num_workers=1)
  made = []
  for i, slots in enumerate(make_slots(workers, (part, *loader.view.shape))):
    load = dataclasses.replace(loader, slots=slots.name)
    dataset = parts[i::workers].map(load).to_iter_dataset(options).mp_prefetch(alone, processes.prepare)
    made.append(_Worker(iter(dataset), slots))
  return Batches(made, share, part)


class Batches(Iterator[tuple[np.ndarray, ...]]):
  """Batches of a stream; `close`, or its deletion, ends the workers."""

  def __init__(self, workers: list["_Worker"], share: int, part: int):
    """Starts the work.

    Args:
      workers: make parts of batches in turn.
      share: images of a batch.
      part: images of a part.
    """
    self._workers, self._share, self._part = workers, share, part
    self._pool = futures.ThreadPoolExecutor(len(workers), "input")
    self._coming = collections.deque(map(self._ask, workers))

  def __next__(self) -> tuple[np.ndarray, ...]:
    """The next batch.

    Raises:
      RunError: where an image can't be read, or a worker ended.
    """
    if not self._workers:
      raise StopIteration
    try:
      return self._batch()
    except (StopIteration, RunError):
      self.close()
      raise
    except RuntimeError as error:
      self.close()
      raise RunError(f"the input stopped: {error} Is there memory enough? The same command continues") from error

  def _ask(self, worker):
    return worker, self._pool.submit(next, worker.parts)

  def _batch(self):
    images, others = None, []
    for at in range(0, self._share, self._part):
      worker, future = self._coming.popleft()
      place, *other = future.result()
      images = worker.fetch(place, images, slice(at, at + self._part), self._share)
      others.append(other)
      self._coming.append(self._ask(worker))
    return images, *map(np.concatenate, zip(*others, strict=True))

  def close(self) -> None:
    """Ends the workers, all at a time, since each takes a second."""
    workers, self._workers = self._workers, []
    # Grain's iterators are not to be closed while they are asked.
    futures.wait([future for _, future in self._coming], CLOSE_SECONDS)
    self._coming.clear()
    self._pool.shutdown(wait=False)
    if workers:
      with futures.ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(_Worker.close, workers))

  def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
    # When Python ends, Grain closes its iterators itself.
    if not ending():
      self.close()


@dataclasses.dataclass
class _Worker:
  """A process, or this one's threads.

  Attributes:
    parts: Grain's iterator over parts of batches: images, labels and so on.
    slots: where the images are; a part then holds the number of the slot. None where it holds the images.
  """

  parts: Any
  slots: Slots | None = None

  def fetch(self, place, images, at, count):
    """Puts the images of a part into those of its batch, which are made with the first part."""
    array = place if self.slots is None else self.slots.array(place)
    if self.slots is None and len(array) == count:
      return array
    if images is None:
      images = np.empty((count, *array.shape[1:]), array.dtype)
    images[at] = array
    if self.slots is not None:
      self.slots.free(place)
    return images

  def close(self):
    self.parts.close()
    if self.slots is not None:
      self.slots.unlink()


@functools.cache
def _opened(name, shape):
  return Slots(shape, name)


@dataclasses.dataclass(frozen=True)
class _Loader:
  """From entries of the order to a part of a batch.

  Attributes:
    source, indices: see `Stream`.
    view: of the training, or of the test.
    seed: of the views, together with an image's position in the endless order; None for the test.
    count: images; entries from there on are padding, in the test.
    slots: name of the memory where images go; None for new arrays.
  """

  source: Source
  indices: np.ndarray | None
  view: TrainView | TestView
  seed: tuple[int, ...] | None
  count: int
  slots: str | None = None

  def __call__(self, entries):
    shape = (len(entries), *self.view.shape)
    if self.slots is None:
      images = np.empty(shape, np.uint8)
      return images, *self._fill(images, *entries.T)
    slots = _opened(self.slots, shape)
    slot = slots.take()
    try:
      return slot, *self._fill(slots.array(slot), *entries.T)
    except BaseException:
      slots.free(slot)
      raise

  def _fill(self, images, positions, entries):
    real = entries < self.count
    labels = np.zeros(len(entries), np.int32)
    images[~real] = 0  # They come last.
    indices = entries[real] if self.indices is None else self.indices[entries[real]]
    for i, (encoded, label) in enumerate(self.source.read(indices.tolist())):
      rng = None if self.seed is None else np.random.default_rng((*self.seed, int(positions[i])))
      try:
        images[i] = self.view(encoded, rng)
      except MemoryError:
        raise  # That is the machine's fault, not the file's.
      except Exception as error:  # Decoders raise all sorts of errors on broken files.
        raise RunError(f"{self.source.name(int(indices[i]))} can't be read as an image: {error}") from None
      labels[i] = label
    return (labels,) if self.seed is not None else (labels, real)
