"""Memory that a worker process and the run share, used again and again.

Grain would hand every array over in new shared memory, whose pages cost a tenth of the decoding to get.
"""

from multiprocessing import shared_memory
import os
import shutil
import time

import numpy as np

from lfr_darts_jax.errors import UsageError

SLOTS = 8  # More than a worker has on its way: one being made, and three or four in Grain's queues.
POLL_SECONDS = 1e-3
SHARED_MEMORY = "/dev/shm"  # Of Linux.


class Slots:
  """Places for arrays of one shape, which one thread of the worker fills and the run frees.

  Attributes:
    name: of the memory.
  """

  def __init__(self, shape: tuple[int, ...], name: str | None = None):
    """Makes new places, or opens those that another process has made.

    Args:
      shape: of the uint8 arrays.
      name: of the memory; None for new memory, which is to be unlinked.
    """
    size = SLOTS * int(np.prod(shape))
    self._memory = shared_memory.SharedMemory(name, create=name is None, size=size + SLOTS)
    self._arrays = np.ndarray((SLOTS, *shape), np.uint8, self._memory.buf)
    # New memory is zeros: all are free.
    self._taken = np.ndarray(SLOTS, np.uint8, self._memory.buf, offset=size)
    self.name = self._memory.name

  def take(self) -> int:
    """Takes a free place, for which it waits."""
    while self._taken.all():
      time.sleep(POLL_SECONDS)
    slot = int(np.argmin(self._taken))
    self._taken[slot] = 1
    return slot

  def array(self, slot: int) -> np.ndarray:
    """The array of a place that is taken."""
    return self._arrays[slot]

  def free(self, slot: int) -> None:
    """Gives a place back."""
    self._taken[slot] = 0

  def unlink(self) -> None:
    """Gives the memory back to the system, as soon as the other process has ended too."""
    # Memory with views of it can't be closed.
    del self._arrays, self._taken
    self._memory.close()
    self._memory.unlink()


def make_slots(count: int, shape: tuple[int, ...]) -> list[Slots]:
  """New slots for so many workers.

  Raises:
    UsageError: where the machine has too little shared memory, of which a process would die when it writes there.
  """
  needed = count * SLOTS * int(np.prod(shape))
  if os.path.isdir(SHARED_MEMORY) and (free := shutil.disk_usage(SHARED_MEMORY).free) < needed:
    raise UsageError(
      f"config.data.workers: {count}; {SHARED_MEMORY} has {free / 1e6:.0f} MB free of the {needed / 1e6:.0f} that they "
      "take; allowed are fewer, 0 (threads), or more such memory (docker run --shm-size)"
    )
  return [Slots(shape) for _ in range(count)]
