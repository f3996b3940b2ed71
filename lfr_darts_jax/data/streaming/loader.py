"""Batches of images that stay where they are until they are needed, read and decoded by Grain's worker processes.

Batch t of a training is a pure function of (seed, t), as that of a data set on the device is: resuming starts at t,
whatever the number of workers or hosts. Hosts share every batch: of the images in order, host p of P reads the p-th,
the (p + P)-th, and so on.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import multiprocessing
import os
import signal
import threading
from typing import Any
import weakref

from absl import flags
import grain
import numpy as np

from lfr_darts_jax.data.decoding import Source
from lfr_darts_jax.data.streaming.transforms import Transform
from lfr_darts_jax.errors import RunError, UsageError

MOST_WORKERS = 32
SIGNALS = signal.SIGINT, signal.SIGTERM
ORPHANED = 1  # Exit status of a worker whose run is gone.
NO_LABEL = -1  # Of an image that can't be read.
Batch = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Host:
  """What a host does of the work.

  Attributes:
    index: of this host.
    count: hosts that share every batch.
    workers: processes that read and decode; 0 for threads of this one.
  """

  index: int = 0
  count: int = 1
  workers: int = 0

  def share(self, batch_size: int) -> int:
    """Images of a batch that are this host's.

    Raises:
      UsageError: where the hosts can't share it equally.
    """
    if batch_size % self.count:
      raise UsageError(f"batch size: {batch_size}; allowed are multiples of {self.count}, the number of processes")
    return batch_size // self.count


@dataclasses.dataclass(frozen=True)
class Load:
  """From a position in `indices` to an image, its label, and whether it is real.

  Attributes:
    source: the images.
    indices: which of them; None for all.
    transform: what is seen of them.
    count: positions; those from there on are padding.
    bad: what comes in the place of an image that can't be decoded: an "error", "none", which has the label -1, or the
      "next" one in `indices` that can.
  """

  source: Source
  indices: np.ndarray | None
  transform: Transform
  count: int
  bad: str = "error"

  def __call__(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.int32, bool]:
    """Loads one image: uint8 `[height, width, channels]`; one that comes in the place of another is not real.

    Raises:
      RunError: where it can't be read.
    """
    if position >= self.count:
      return self._nothing(0)
    for further in range(self.count if self.bad == "next" else 1):
      index = (int(position) + further) % self.count
      index = index if self.indices is None else int(self.indices[index])
      try:
        encoded, label = self.source[index]
      except OSError as error:
        raise RunError(f"the data can't be read: {error}") from None
      try:
        return self.transform(encoded, rng), np.int32(label), not further
      except MemoryError:
        raise  # The fault of the machine, not of the file.
      except Exception as error:  # Decoders raise all sorts of errors on broken files.
        if self.bad == "error":
          raise RunError(
            f"{self.source.name(index)!r} can't be read as an image: {error}; the same command with "
            "--config.data.skip_bad_files=True continues without it"
          ) from None
    if self.bad == "none":
      return self._nothing(NO_LABEL)
    raise RunError("no image of the stream can be read")

  def _nothing(self, label: int) -> tuple[np.ndarray, np.int32, bool]:
    return np.zeros((*self.transform.size, self.transform.channels), np.uint8), np.int32(label), False


def train_batches(
  source: Source,
  indices: np.ndarray | None,
  batch_size: int,
  seed: int | Sequence[int],
  transform: Transform,
  host: Host = Host(),
  first: int = 0,
  ahead: int = 1,
  skip_bad: bool = False,
) -> "Batches":
  """Endless training batches, from number `first` on.

  Every epoch has an order of its own; what does not fill its last batch is left out.

  Args:
    source: the images.
    indices: which of them; None for all.
    batch_size: images per batch over all hosts.
    seed: of order and transforms.
    transform: what is seen of an image.
    host: what this host does of the work.
    first: number of the first batch.
    ahead: batches to have ready.
    skip_bad: whether the next image that can be decoded comes in the place of one that can't, instead of an error.

  Returns:
    An iterator of uint8 images `[batch_size / hosts, height, width, channels]`, int32 labels, and whether each is
    itself.

  Raises:
    UsageError: where the images don't fill a batch, or the hosts can't share it equally.
  """
  count = len(source) if indices is None else len(indices)
  if not 0 < batch_size <= count:
    raise UsageError(f"batch size: {batch_size}; allowed are 1 to {count}, the number of images")
  share, used = host.share(batch_size), count // batch_size * batch_size
  order = grain.MapDataset.range(count).seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
  load = Load(source, indices, transform, count, "next" if skip_bad else "error")
  images = order.shuffle()[:used].repeat().random_map(load)
  return Batches(images[host.index :: host.count].batch(share)[first:], host.workers, ahead)


def eval_batches(
  source: Source,
  indices: np.ndarray | None,
  batch_size: int,
  transform: Transform,
  host: Host = Host(),
  skip_bad: bool = False,
) -> "Batches":
  """Every image exactly once over all hosts, in order; arguments and errors as of `train_batches`.

  Returns:
    An iterator of images, labels, and which of them are real; the last batch is filled up with zeros, which with the
    label -1 stand for images that can't be decoded, too, where `skip_bad` asks for it. Every host gets the same number
    of batches.
  """
  count = len(source) if indices is None else len(indices)
  filled = -(-count // batch_size) * batch_size
  images = (
    grain.MapDataset.range(filled)
    .seed(0)
    .random_map(Load(source, indices, transform, count, "none" if skip_bad else "error"))
  )
  return Batches(images[host.index :: host.count].batch(host.share(batch_size)), host.workers)


class Batches(Iterator[Batch]):
  """The batches of a Grain data set; `close` ends the workers."""

  def __init__(self, dataset: grain.MapDataset, workers: int, ahead: int = 1):
    """Starts to read.

    Args:
      dataset: of batches.
      workers: processes that make them; 0 for threads.
      ahead: batches to have ready.
    """
    if not flags.FLAGS.is_parsed():
      # Grain asks its flags, which nobody parses where this package is called from Python.
      flags.FLAGS.mark_as_parsed()
    grain.config.update("py_traceback_filtering", "off")  # Grain writes into the text of errors otherwise.
    threads = 1 if workers else len(os.sched_getaffinity(0))
    made = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
      made = made.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), init_worker)
    batches: Any = iter(grain.experimental.ThreadPrefetchIterDataset(made, prefetch_buffer_size=ahead))
    # Threads and processes that start now inherit that signals wait, until `init_worker` ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    batches.start_prefetch()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    self._open = [batches]
    # Python takes modules apart at the end, without which Grain can't close.
    self._end = weakref.finalize(self, _close, self._open)

  def __next__(self) -> Batch:
    """The next batch.

    Raises:
      RunError: where an image can't be read, or a worker ended.
    """
    if not self._open:
      raise StopIteration
    try:
      return next(self._open[0])
    except (RunError, StopIteration):
      raise
    except RuntimeError as error:
      raise RunError(f"the input stopped: {error} Is there memory enough? The same command continues") from error

  def close(self) -> None:
    """Ends the workers; there are no more batches then."""
    self._end()


def _close(opened: list[Any]) -> None:
  while opened:
    opened.pop().close()


def worker_count(configured: int | None) -> int:
  """`data.workers`, or how many there are where it is None."""
  return min(len(os.sched_getaffinity(0)), MOST_WORKERS) if configured is None else configured


def init_worker(index: int, count: int) -> None:
  """Prepares a worker process: signals are the run's, devices too, and it does not outlive the run.

  Ctrl-C and a scheduler's SIGTERM reach every process of a run, and the run needs batches until it may stop: then it
  ends its workers. Where it is killed before that, they end on their own.

  Args:
    index, count: of the worker, unused.
  """
  import cv2

  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  os.environ["JAX_PLATFORMS"] = "cpu"  # One process may hold a TPU.
  cv2.setNumThreads(1)  # There is a worker for every core.


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent
  parent.join()
  os._exit(ORPHANED)
