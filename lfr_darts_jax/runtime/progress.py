"""What the terminal shows of a run: where it stands, what it waits for, and the time left."""

from collections.abc import Iterator
import contextlib
import shutil
import sys
import time

LINE_SECONDS = 10.0  # Between progress lines where stdout is no terminal.
SMOOTHING = 0.3  # Weight of the newest measurement in the seconds per step.


class Progress:
  """The progress line of a run; the time left goes by the measured seconds per step."""

  def __init__(self, name: str = ""):
    """Starts with nothing measured.

    Args:
      name: what every line begins with, where several runs share one terminal.
    """
    self._name = f"{name} | " if name else ""
    self._seconds_per_step: float | None = None
    self._printed = time.monotonic()
    self._open = False

  def advance(self, steps: int, seconds: float, left: int, where: str, figures: str) -> None:
    """Counts steps just done, and shows where the run stands.

    Args:
      steps: that were done.
      seconds: that they took.
      left: steps of the phase that are to be done.
      where: the run stands.
      figures: of what was done.
    """
    rate, before = seconds / steps, self._seconds_per_step
    self._seconds_per_step = rate = rate if before is None else before + SMOOTHING * (rate - before)
    now = time.monotonic()
    if not _terminal() and now - self._printed < LINE_SECONDS:
      return
    self._show(f"{self._name}{where} | {duration(left * rate)} left | {figures}")
    self._printed = now

  @contextlib.contextmanager
  def waiting(self, text: str) -> Iterator[None]:
    """Announces a wait, and says how long it took where that was long."""
    began = time.monotonic()
    self._show(f"{self._name}{text} ...")
    yield
    seconds = time.monotonic() - began
    if seconds >= LINE_SECONDS:
      self.say(f"{text}: {duration(seconds)}")

  def say(self, text: str) -> None:
    """Prints lines that stay."""
    text = "\n".join(f"{self._name}{line}" for line in text.split("\n"))
    _print(f"\r\x1b[K{text}" if self._open else text)
    self._open = False

  def _show(self, text: str) -> None:
    if _terminal():
      # A line that wraps could not be overwritten.
      _print(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", end="")
      self._open = True
    else:
      _print(text)


def _terminal() -> bool:
  # What stands in for stdout may be nothing, closed, or have but a few of its methods.
  with contextlib.suppress(AttributeError, ValueError):
    return sys.stdout.isatty()
  return False


def _print(text: str, end: str = "\n") -> None:
  # A terminal that was closed, or a log on a disk that is full, ends no run.
  with contextlib.suppress(OSError, ValueError):
    print(text, end=end, flush=True)


def duration(seconds: float) -> str:
  """Seconds as "12 s", "3 min 05 s" or "2 h 07 min"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
