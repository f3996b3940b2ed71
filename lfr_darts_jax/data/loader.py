"""Makes a part of a batch: reads, decodes and changes its images. What a worker of a stream does."""

import dataclasses
import functools

import numpy as np

from lfr_darts_jax.data.photographs import NUMBERS
from lfr_darts_jax.data.photographs import View
from lfr_darts_jax.data.photographs import take
from lfr_darts_jax.data.slots import Slots
from lfr_darts_jax.data.sources import Source
from lfr_darts_jax.errors import RunError


@dataclasses.dataclass(frozen=True)
class Part:
  """Some images of a batch. An object of our own, since Grain hands every array that it finds over in its own way.

  Attributes:
    images: uint8 `[n, size, size, channels]`, or the slot where they are.
    labels: int32 `[n]`.
    real: bool `[n]`, false for padding, which comes last.
  """

  images: np.ndarray | int
  labels: np.ndarray
  real: np.ndarray


@dataclasses.dataclass(frozen=True)
class Loader:
  """From `[n, 2]` integers, of the position in the endless order and the entry in `indices`, to a part of a batch.

  Attributes:
    source, indices: see `stream.Stream`.
    view: what is seen of an image.
    count: entries; those from there on are padding.
    seed: of the views.
    slots: name of the memory where images go; None for new arrays.

  Raises:
    RunError: where an image can't be read.
  """

  source: Source
  indices: np.ndarray | None
  view: View
  count: int
  seed: int = 0
  slots: str | None = None

  def __call__(self, entries: np.ndarray) -> Part:
    """Makes the part."""
    shape = (len(entries), self.view.size, self.view.size, self.view.channels)
    if self.slots is None:
      images = np.empty(shape, np.uint8)
      return Part(images, *self._fill(images, *entries.T))
    slots = _opened(self.slots, shape)
    slot = slots.take()
    try:
      return Part(slot, *self._fill(slots.array(slot), *entries.T))
    except BaseException:
      slots.free(slot)
      raise

  def _fill(self, images, positions, entries):
    real = entries < self.count
    images[~real] = 0
    indices = (entries[real] if self.indices is None else self.indices[entries[real]]).tolist()
    try:
      photographs, i = self.source.read(indices), 0
    except OSError as error:
      raise RunError(f"the data can't be read: {error}") from None
    try:
      # Plans first: the Python code stays in the processor's cache, out of which a decoder drives it.
      plans = []
      for i, numbers in zip(range(len(indices)), random_numbers(self.seed, positions), strict=False):
        plans.append(self.view.plan(photographs[i][0], numbers))
      for i, plan in enumerate(plans):
        image = take(photographs[i][0], plan, self.view.size, self.view.channels)
        images[i] = image.reshape(images.shape[1:])
    except MemoryError:
      raise  # That is the machine's fault, not the file's.
    except Exception as error:  # Decoders raise all sorts of errors on broken files.
      raise RunError(f"{self.source.name(indices[i])} can't be read as an image: {error}") from None
    labels = np.zeros(len(entries), np.int32)
    labels[real] = [label for _, label in photographs]
    return labels, real


def with_position(position: int, entry: int) -> np.ndarray:
  """An entry as `Loader` takes it. Here and not in `stream.py`, since workers import what they are sent."""
  return np.array((position, entry))


def random_numbers(seed: int, positions: np.ndarray) -> list[list[float]]:
  """`NUMBERS` numbers, uniform in [0, 1), for each of some positions in the endless order, equally far apart.

  They depend on the seed and the position alone: each position has a stretch of the counter that Philox encrypts.
  """
  first, last = int(positions[0]), int(positions[-1])
  step = max(1, (last - first) // max(1, len(positions) - 1))
  generator = np.random.Generator(np.random.Philox(key=seed, counter=first * NUMBERS // 4))
  return generator.random((last + 1 - first, NUMBERS))[::step].tolist()


@functools.cache
def _opened(name, shape):
  return Slots(shape, name)
