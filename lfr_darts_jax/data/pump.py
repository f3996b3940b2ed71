"""Runs the workers of a stream, and puts the parts that they make together to batches.

One worker is Grain's prefetching by one process, and the parts are dealt to the workers in turn: their order does not
depend on how many there are.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import dataclasses
import os
import sys
from typing import Any

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


def start(order: MapDataset, loader: Loader, share: int, first: int, workers: int) -> "Batches":
  """Starts to make batches.

  Args:
    order: `(position, entry)` of every image, see `Loader`.
    loader: makes parts of them.
    share: images of a batch.
    first: number of the batch to begin with.
    workers: processes; 0 for threads of this one.

  Raises:
    UsageError: where the machine has too little shared memory for the processes.
  """
  processes.allow()
  part = next(n for n in range(min(share, PART), 0, -1) if share % n == 0)
  parts = order.batch(part)[first * (share // part) :]
  if not workers:
    threads = len(os.sched_getaffinity(0))
    options = ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return Batches([_Worker(iter(parts.map(loader).to_iter_dataset(options)))], share, part)
  workers = min(workers, len(parts))
  options, alone = ReadOptions(num_threads=0, prefetch_buffer_size=0), MultiprocessingOptions(num_workers=1)
  made = []
  shape = (part, loader.view.size, loader.view.size, loader.view.channels)
  for i, slots in enumerate(make_slots(workers, shape)):
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
