"""What the terminal shows of a run: where it stands, what it waits for, and the time left."""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import shutil
import sys
import time

LINE_SECONDS = 10.0  # Between progress lines where stdout is no terminal.


class Progress:
  """The progress line of a whole run.

  Work is counted by part of the run, in seconds that it takes on a machine known to `forecast`. Every part learns how
  much slower or faster this machine is from its own time; one that has not begun goes by the others.
  """

  def __init__(self, total: Mapping[str, float], name: str = ""):
    """Starts with nothing done.

    Args:
      total: by part, the work of the whole run; parts that it leaves out have none.
      name: what every line begins with, of several runs on one terminal.
    """
    self._name = f"{name} | " if name else ""
    self._left = collections.defaultdict(float, total)
    self._work: dict[str, float] = collections.defaultdict(float)
    self._seconds: dict[str, float] = collections.defaultdict(float)
    self._printed = time.monotonic()
    self._open = False

  def skip(self, part: str, work: float) -> None:
    """Counts work that an earlier process did."""
    self._left[part] = max(self._left[part] - work, 0)

  def advance(self, part: str, work: float, seconds: float, where: str, figures: str) -> None:
    """Counts work just done, and shows where the run stands, the time left, and figures of what was done."""
    self._count(part, work, seconds)
    now = time.monotonic()
    if not sys.stdout.isatty() and now - self._printed < LINE_SECONDS:
      return
    self._show(f"{self._name}{where} | {duration(self.left())} left | {figures}")
    self._printed = now

  @contextlib.contextmanager
  def waiting(self, part: str, work: float, text: str) -> Iterator[None]:
    """Announces a wait, and counts it as work of a part."""
    began = time.monotonic()
    self._show(f"{self._name}{text} ...")
    yield
    seconds = time.monotonic() - began
    self._count(part, work, seconds)
    if seconds >= LINE_SECONDS:
      self.say(f"{text}: {duration(seconds)}")

  def left(self) -> float:
    """Seconds left of the run."""
    work, seconds = sum(self._work.values()), sum(self._seconds.values())
    overall = seconds / work if work else 1.0
    return sum(
      left * (self._seconds[part] / self._work[part] if self._work[part] else overall)
      for part, left in self._left.items()
    )

  def say(self, text: str) -> None:
    """Prints lines that stay."""
    text = "\n".join(f"{self._name}{line}" for line in text.split("\n"))
    print(f"\r\x1b[K{text}" if self._open else text, flush=True)
    self._open = False

  def _count(self, part, work, seconds):
    self.skip(part, work)
    self._work[part] += work
    self._seconds[part] += seconds

  def _show(self, text):
    if sys.stdout.isatty():
      # A line that wraps could not be overwritten.
      print(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
      self._open = True
    else:
      print(text, flush=True)


def duration(seconds: float) -> str:
  """Seconds as "12 s", "3 min 05 s" or "2 h 07 min"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
