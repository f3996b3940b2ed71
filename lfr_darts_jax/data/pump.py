"""Runs the workers of a stream, and puts the parts that they make together to batches.

One worker is Grain's prefetching by one process, and the parts are dealt to the workers in turn: their order does not
depend on how many there are.
"""

import collections
from collections.abc import Iterator
from concurrent import futures
import dataclasses
import os
import threading
from typing import Any
import weakref

from grain import MapDataset
from grain import MultiprocessingOptions
from grain import ReadOptions
import numpy as np

from lfr_darts_jax.data import workers as processes
from lfr_darts_jax.data.loader import Loader
from lfr_darts_jax.data.slots import Slots
from lfr_darts_jax.data.slots import make_slots
from lfr_darts_jax.errors import RunError

PART = 64  # Images at most that are made at a time; a batch is put together of equal parts.
CLOSE_SECONDS = 30  # Patience with a worker that is to end, but is reading.


def start(order: MapDataset, loader: Loader, share: int, first: int, workers: int, padded: bool = False) -> "Batches":
  """Starts to make batches.

  Args:
    order: `(position, entry)` of every image, see `Loader`.
    loader: makes parts of them.
    share: images of a batch.
    first: number of the batch to begin with.
    workers: processes; 0 for threads of this one.
    padded: see `Batches`.

  Raises:
    UsageError: where the machine has too little shared memory for the processes.
  """
  processes.allow()
  part = next(n for n in range(min(share, PART), 0, -1) if share % n == 0)
  parts = order.batch(part)[first * (share // part) :]
  if not workers:
    threads = len(os.sched_getaffinity(0))
    options = ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return Batches([_Worker(iter(parts.map(loader).to_iter_dataset(options)))], share, part, padded)
  workers = min(workers, len(parts))
  options, alone = ReadOptions(num_threads=0, prefetch_buffer_size=0), MultiprocessingOptions(num_workers=1)
  made = []
  shape = (part, loader.view.size, loader.view.size, loader.view.channels)
  for i, slots in enumerate(make_slots(workers, shape)):
    load = dataclasses.replace(loader, slots=slots.name)
    dataset = parts[i::workers].map(load).to_iter_dataset(options).mp_prefetch(alone, processes.prepare)
    made.append(_Worker(iter(dataset), slots))
  return Batches(made, share, part, padded)


class Batches(Iterator[tuple[np.ndarray, ...]]):
  """Batches of a stream; `close`, its deletion or the end of the program ends the workers."""

  def __init__(self, workers: list["_Worker"], share: int, part: int, padded: bool):
    """Starts the work.

    Args:
      workers: make parts of batches in turn.
      share: images of a batch.
      part: images of a part.
      padded: whether batches say which of their images are real.
    """
    self._share, self._part, self._padded = share, part, padded
    self._pool = futures.ThreadPoolExecutor(len(workers), "input", processes.hold_signals)
    self._coming = collections.deque(map(self._ask, workers))
    self._end = weakref.finalize(self, _end, workers, self._coming, self._pool)

  def __next__(self) -> tuple[np.ndarray, ...]:
    """The next batch.

    Raises:
      RunError: where an image can't be read, or a worker ended.
    """
    if not self._coming:
      raise StopIteration
    try:
      return self._batch()
    except BaseException as error:
      self.close()  # Parts are missing from now on.
      if isinstance(error, RuntimeError) and not isinstance(error, RunError):
        raise RunError(f"the input stopped: {error} Is there memory enough? The same command continues") from error
      raise

  def _ask(self, worker):
    return worker, self._pool.submit(next, worker.parts)

  def _batch(self):
    images, parts = None, []
    for at in range(0, self._share, self._part):
      worker, future = self._coming.popleft()
      parts.append(future.result())
      images = worker.fetch(parts[-1].images, images, slice(at, at + self._part), self._share)
      self._coming.append(self._ask(worker))
    labels = np.concatenate([part.labels for part in parts])
    return (images, labels, np.concatenate([part.real for part in parts])) if self._padded else (images, labels)

  def close(self) -> None:
    """Ends the workers."""
    self._end()


def _end(workers, coming, pool):
  # Grain's iterators are not to be closed while they are asked.
  futures.wait([future for _, future in coming], CLOSE_SECONDS)
  coming.clear()
  pool.shutdown(wait=False)
  # All at a time, since each takes a second.
  threads = [threading.Thread(target=worker.close) for worker in workers]
  try:
    for thread in threads:
      thread.start()
  except RuntimeError:  # When the program ends, Python may start no more.
    for worker in workers:
      worker.close()
  for thread in threads:
    if thread.ident is not None:
      thread.join()
  workers.clear()


@dataclasses.dataclass
class _Worker:
  """A process, or this one's threads.

  Attributes:
    parts: Grain's iterator over parts of batches.
    slots: where their images are; None where the parts hold them.
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
