"""Ctrl-C, SIGTERM and preemption notices stop a run at the next safe point, after its state is saved."""

from collections.abc import Callable
from concurrent import futures
import contextlib
import signal
import threading
import types
from typing import Any, TypeVar

from lfr_darts_jax.runtime import distributed

POLL_SECONDS = 0.1
Result = TypeVar("Result")


class Interrupted(Exception):
  """A signal asked the run to stop; its state is saved."""

  def __init__(self, number: int):
    """Takes the signal's number."""
    super().__init__(f"stopped by {signal.Signals(number).name}; the same command continues")
    self.number = number


class Preemption:
  """Remembers the first SIGINT or SIGTERM while it is entered; a second one ends the process at once.

  It can be entered again inside itself, in any thread. Where that is not first in the main thread, signals stay what
  they were, since Python lets no other thread have them.
  """

  def __init__(self) -> None:
    """Has seen no signal yet."""
    self._number: int | None = None
    self._before: dict[int, object] = {}
    self._lock, self._entered = threading.Lock(), 0

  def __enter__(self) -> "Preemption":
    with self._lock:
      if not self._entered:
        self._take_over()
      self._entered += 1
    return self

  def __exit__(self, *unused: object) -> None:
    with self._lock:
      self._entered -= 1
      if not self._entered:
        for number, handler in self._before.items():
          signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

  def _take_over(self) -> None:
    with contextlib.suppress(ValueError):
      for number in (signal.SIGINT, signal.SIGTERM):
        # One that was not set from Python could not be put back.
        if signal.getsignal(number) is not None:
          self._before[number] = signal.signal(number, self._remember)

  def _remember(self, number: int, frame: types.FrameType | None) -> None:
    if self._number is not None:
      raise KeyboardInterrupt
    self._number = number

  def maybe_stop(self, save: Callable[[bool], None], preempted: bool = False) -> None:
    """A point at which a run may stop.

    Args:
      save: saves the state; its argument says whether the run stops here, so that it must.
      preempted: whether the machine's notice of preemption has come, which counts as SIGTERM.

    Raises:
      Interrupted: where a signal had come before `save` was called. One that comes meanwhile waits for the next point,
        since `save` did not know of it.
    """
    # One process that is to stop stops all of them, at the same point.
    number = distributed.host_max(self._number or (signal.SIGTERM if preempted else 0))
    save(number != 0)
    if number:
      raise Interrupted(number)

  def run_interruptible(self, work: Callable[[], Result], save: Callable[[bool], None]) -> Result:
    """Does long work, during which the state does not change, and stops as soon as a signal comes.

    Python's signal handlers wait until a call into the compiler returns, so a thread does the work; it is abandoned
    where the run stops. Several processes wait for its end, since a single one can't save what all have.

    Args:
      work: what to do.
      save: see `maybe_stop`; called where a signal has come, and only then.

    Returns:
      What `work` returns.

    Raises:
      Interrupted: after a signal; the state is saved.
    """
    future: futures.Future[Any] = futures.Future()

    def target() -> None:
      try:
        future.set_result(work())
      except BaseException as error:
        future.set_exception(error)

    threading.Thread(target=target, daemon=True).start()
    while not futures.wait([future], POLL_SECONDS).done:
      if self._number is not None and distributed.process_count() == 1:
        self.maybe_stop(save)
    result = future.result()
    distributed.slow_barrier("long work")
    return result
