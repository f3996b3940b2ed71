"""A kill, and the process that it befalls."""

from collections.abc import Callable
import contextlib
import dataclasses
import os
import signal
import threading
from typing import Any

BEFORE, AFTER, TORN = "before", "after", "torn"


@dataclasses.dataclass(frozen=True)
class Kill:
  """What kills a run, and when.

  Attributes:
    point: a name in `points.POINTS`.
    occurrence: at which arrival at the point in one process, from 1.
    moment: `BEFORE` or `AFTER` what happens at the point, `TORN` with half of it done, or seconds into it.
    signal: name of the signal.
  """

  point: str
  occurrence: int
  moment: str | float
  signal: str = "SIGKILL"


class Strike:
  """Kills this process from within, once. The package knows nothing of it: what a point stands on is replaced."""

  def __init__(self, kill: Kill):
    self._kill, self._arrivals = kill, 0

  @contextlib.contextmanager
  def around(self, due: bool, tear: Callable[[], object] | None = None, ready: Callable[[], object] = lambda: None):
    """What it encloses is the point.

    Args:
      due: whether this is an arrival at the point at all.
      tear: does half of what is about to be done.
      ready: called at the arrival that counts.
    """
    self._arrivals += due
    if not due or self._arrivals != self._kill.occurrence:
      yield
      return
    ready()
    if self._kill.moment == TORN and tear:
      tear()
    if self._kill.moment in (BEFORE, TORN):
      self._now()
    elif isinstance(self._kill.moment, float):
      timer = threading.Timer(self._kill.moment, self._now)
      timer.daemon = True
      timer.start()
    yield
    if self._kill.moment == AFTER:
      self._now()

  def at(
    self, owner: Any, name: str, due: Callable[..., bool] = lambda *_: True, tear: Callable[..., object] | None = None
  ) -> None:
    """Makes the calls of a function the point; `due` and `tear` get its positional arguments."""
    original = getattr(owner, name)

    def struck(*args, **kwargs):
      with self.around(due(*args), tear and (lambda: tear(*args))):
        return original(*args, **kwargs)

    setattr(owner, name, struck)

  def _now(self):
    os.kill(os.getpid(), signal.Signals[self._kill.signal])
