"""What a phase of a run, the search or the final training, has besides its method.

A loop takes its steps in chunks and calls hooks after each: functions of a `ChunkResult`. What all loops need stands
here: chunks that are timed and traced, long work that a signal may interrupt, checkpoints and stops at safe points, the
way back when numbers are no longer finite.
"""

from collections.abc import Callable
import time
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import ml_collections
import msgspec
import numpy as np

from lfr_darts_jax.errors import RunError
from lfr_darts_jax.runtime import checkpoint, nan_guard
from lfr_darts_jax.runtime.checkpoint import Checkpoints, Meta
from lfr_darts_jax.runtime.jax_setup import Profiler
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.runtime.preemption import Preemption
from lfr_darts_jax.runtime.progress import Progress

T = TypeVar("T")
Tree = Any
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class ChunkResult(NamedTuple):
  """A chunk of steps that was just taken.

  Attributes:
    start, stop: steps done before and after it.
    state: after it.
    sums: what was summed over it, on the host.
    seconds: that it took.
  """

  start: int
  stop: int
  state: Any
  sums: Any
  seconds: float


class Clock(msgspec.Struct):
  """What a session counts, over all processes that ran it one after another.

  Attributes:
    seconds: of the phase so far.
    step_seconds: of these, the seconds of steps alone, without what was compiled for them.
    retries: how often it went back because numbers were not finite.
  """

  seconds: Seconds = 0.0
  step_seconds: Seconds = 0.0
  retries: Annotated[int, msgspec.Meta(ge=0)] = 0


class Session:
  """One phase of a run in one work directory.

  Attributes:
    metrics, progress: where the phase writes and prints.
    clock: its counts.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: Path,
    folder: str,
    metrics: Metrics,
    progress: Progress | None = None,
    preemption: Preemption | None = None,
  ):
    """Opens the phase; nothing is written.

    Args:
      config: the config.
      workdir: the directory.
      folder: of its checkpoints, in the directory.
      metrics: where scalars go.
      progress: the line on the terminal.
      preemption: asked at every safe point.
    """
    self.metrics, self.progress = metrics, progress or Progress()
    self.clock = Clock()
    self._preemption = preemption or Preemption()
    self._checkpoints = Checkpoints(workdir / folder, config)
    self._profiler = Profiler(workdir, config.profile)
    self._allowed_retries = config.recovery.retries
    self._started = time.monotonic()

  def restore(self, shapes: Callable[[Meta], Tree]) -> tuple[Tree, Meta] | None:
    """State and metadata of the newest whole checkpoint, None where there is none; `shapes` as of `checkpoint.read`.

    Raises:
      UsageError: where there are checkpoints, but none is whole.
    """

    def checked(meta: Meta) -> Tree:
      msgspec.convert(meta["clock"], Clock)
      return shapes(meta)

    restored = self._checkpoints.restore(checked, self.progress.say)
    if restored is not None:
      clock = msgspec.convert(restored[1]["clock"], Clock)
      self.clock, self._started = clock, time.monotonic() - clock.seconds
    return restored

  def stop_clock(self) -> None:
    """Counts the seconds until now."""
    self.clock.seconds = time.monotonic() - self._started

  def wait(self, text: str, work: Callable[[], T], save: Callable[[bool], None] | None = None) -> T:
    """Does long work on the host, which a signal may interrupt.

    Args:
      text: what the terminal says meanwhile.
      work: what to do; the state must not change meanwhile.
      save: saves that state, see `Preemption.maybe_stop`; None where there is none yet.

    Raises:
      Interrupted: after a signal; the state is saved.
    """
    with self.progress.waiting(text):
      return self._preemption.run_interruptible(work, save or (lambda stopping: None))

  def run_chunk(self, program: str, start: int, stop: int, steps: Callable[[], tuple[Any, Any]]) -> ChunkResult:
    """Takes steps `start` to `stop` and waits for them; `steps` returns the state after them, and their sums."""
    began = time.monotonic()
    with self._profiler.trace(program):
      state, sums = steps()
      sums = jax.tree.map(np.asarray, sums)
    seconds = time.monotonic() - began
    self.clock.step_seconds += seconds
    return ChunkResult(start, stop, state, sums, seconds)

  def safe_point(self, number: int, state: Tree, meta: Meta, final: bool = False) -> None:
    """Saves a checkpoint where one is due, or where the run ends here.

    Args:
      number: of the checkpoint; steps of the phase, increasing.
      state, meta: what it holds.
      final: whether it is to be saved in any case.

    Raises:
      Interrupted: after a signal; the state is saved.
    """
    self.stop_clock()
    save = lambda stopping: self.save(number, state, meta, stopping or final)
    self._preemption.maybe_stop(save, checkpoint.preempted(number))

  def save(self, number: int, state: Tree, meta: Meta, force: bool) -> None:
    """Saves a checkpoint if one is due, or `force`; raises NotFinite rather than save NaNs."""
    if force or self._checkpoints.due:
      nan_guard.check(number, state)
      self.metrics.flush()
      self._checkpoints.save(number, state, {**meta, "clock": msgspec.to_builtins(self.clock)})

  def go_back(self, error: nan_guard.NotFinite, phase: str, shapes: Callable[[Meta], Tree]) -> Any:
    """What to go on from after numbers were not finite: as `restore`, with another order of data.

    Args:
      error: what went wrong.
      phase: of the run, in words.
      shapes: see `restore`.

    Raises:
      RunError: where the run has gone back as often as `recovery.retries` allows.
    """
    retries, allowed = self.clock.retries, self._allowed_retries
    if retries >= allowed:
      raise RunError(
        f"{phase}, {error}, after {retries} retries from the last good checkpoint; config.recovery.retries allows "
        f"{allowed}; a lower learning rate may help"
      ) from error
    how = f"back to the last good checkpoint, with another order of data ({retries + 1} of {allowed})"
    self.progress.say(f"{phase}, {error}; {how}")
    restored = self._checkpoints.restore(shapes, self.progress.say)
    self.clock.retries = retries + 1
    return restored


def check_finite(result: ChunkResult, watched: Tree, loss: Any) -> None:
  """A hook's check of a chunk: raises NotFinite for a loss or a number of `watched`, naming the array.

  The parameters would take long to look through after every chunk, and name the culprit better than the loss.
  """
  nan_guard.check(result.stop, watched)
  if not np.isfinite(loss).all():
    nan_guard.check(result.stop, {"params": result.state.params})
    nan_guard.check(result.stop, {"loss": np.asarray(loss)})
