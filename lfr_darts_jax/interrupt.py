"""Ctrl-C and SIGTERM end a run at the next safe point, after its state is saved."""

from collections.abc import Callable
import signal
import types


class Interrupted(Exception):
  """A signal asked the run to stop; its state is saved."""

  def __init__(self, number: int):
    super().__init__(f"stopped by {signal.Signals(number).name}; the same command continues")
    self.number = number


class Interrupt:
  """Remembers the first SIGINT or SIGTERM while it is entered; a second one ends the process at once."""

  def __init__(self) -> None:
    self._number: int | None = None
    self._before: dict[int, object] = {}

  def __enter__(self) -> "Interrupt":
    self._before = {n: signal.signal(n, self._remember) for n in (signal.SIGINT, signal.SIGTERM)}
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)  # type: ignore[arg-type]

  def _remember(self, number: int, frame: types.FrameType | None) -> None:
    if self._number is not None:
      raise KeyboardInterrupt
    self._number = number

  def safe_point(self, save: Callable[[bool], None]) -> None:
    """A point at which a run may stop.

    Args:
      save: saves the state; its argument says whether the run stops here, so that it must.

    Raises:
      Interrupted: where a signal had come before `save` was called. One that comes meanwhile waits for the next point,
        since `save` did not know of it.
    """
    number = self._number
    save(number is not None)
    if number is not None:
      raise Interrupted(number)
