"""What a worker process of the input does besides its work: it leaves signals to the run, devices alone, and no trace.

Grain spawns its workers: each is a fresh interpreter that imports what it is sent.
"""

from collections.abc import Callable
import ctypes
import functools
import multiprocessing
from multiprocessing import spawn
import os
import signal
import sys
import threading
from typing import Any

from absl import flags
import grain

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ORPHANED = 1  # Exit status of a worker whose run is gone.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # Of glibc, in malloc.h.
PREFIX = "grain-"  # Of the names that Grain gives its processes.


def prepare(index: int, count: int) -> None:
  """Makes this process a good worker; called in it before its work.

  Ctrl-C and a scheduler's SIGTERM reach every process of a run, and the run still needs batches until it comes to a
  point where it may stop: then it ends its workers. Where it can't, since it was killed, they end on their own.

  Args:
    index, count: of this worker, unused.
  """
  import cv2

  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  threading.Thread(target=_outlive_nobody, daemon=True).start()
  # One process may hold a TPU. Nothing here computes with JAX; where something did, the CPU would be it.
  os.environ["JAX_PLATFORMS"] = "cpu"
  if "jax" in sys.modules:
    sys.modules["jax"].config.update("jax_platforms", "cpu")
  # There is a worker for every core.
  cv2.setNumThreads(1)
  _keep_memory()


def _keep_memory():
  """Has the C library keep what is freed: files and decoded images come and go, and new pages cost a tenth."""
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None:
    mallopt(M_MMAP_THRESHOLD, 2**25)
    mallopt(M_TRIM_THRESHOLD, 2**28)


def hold_signals() -> None:
  """Keeps signals from this thread, and from processes that it starts until they `prepare`."""
  signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _outlive_nobody():
  parent = multiprocessing.parent_process()
  assert parent
  parent.join()
  os._exit(ORPHANED)


def without_main(data: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
  """Wraps `spawn.get_preparation_data` so that workers don't run the program's main module again.

  A spawned process imports it, to find what is defined there. Workers need nothing of it: it would cost each of them
  hundreds of megabytes, and a script that calls `lfr_darts_jax.train` outside of `if __name__ == "__main__"` would
  start again in every one.
  """

  @functools.wraps(data)
  def prepared(name):
    return {k: v for k, v in data(name).items() if not (name.startswith(PREFIX) and k.startswith("init_main_"))}

  return prepared


def allow() -> None:
  """Makes this process ready for Grain, whose workers all start `without_main`."""
  if not hasattr(spawn.get_preparation_data, "__wrapped__"):
    spawn.get_preparation_data = without_main(spawn.get_preparation_data)  # type: ignore[assignment]
  if not flags.FLAGS.is_parsed():
    # Grain asks its flags, which nobody parses where this package is called from Python.
    flags.FLAGS.mark_as_parsed()
  # Grain writes into the text of errors otherwise.
  grain.config.update("py_traceback_filtering", "off")
