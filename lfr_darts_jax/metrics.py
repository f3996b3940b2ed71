"""One place that writes scalars: terminal progress, TensorBoard, metrics.jsonl."""

from collections.abc import Mapping
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from lfr_darts_jax.files import write_atomically

PHASES = ("search", "train", "test")
LINE_SECONDS = 10.0  # Between progress lines where stdout is no terminal.


class Progress:
  """The progress line of a whole run: what is being done, and the time left.

  Work is measured in operations of single images, weighted by what they cost (see `forecast.layout_work`), so that a
  rate seen in one part of the run predicts the others.
  """

  def __init__(self, total: float):
    """Starts the clock.

    Args:
      total: work of the whole run.
    """
    self._total, self._done, self._here = total, 0.0, 0.0
    self._start = self._printed = time.monotonic()
    self._open = False

  def skip(self, work: float) -> None:
    """Counts work that an earlier process did."""
    self._done += work

  def advance(self, work: float, text: str) -> None:
    """Counts work just done, and shows where the run stands."""
    self._done += work
    self._here += work
    now = time.monotonic()
    if not sys.stdout.isatty() and now - self._printed < LINE_SECONDS:
      return
    left = (now - self._start) * max(self._total - self._done, 0) / max(self._here, 1e-9)
    line = f"{text} | {_duration(left)} left"
    if sys.stdout.isatty():
      print(f"\r\x1b[K{line}", end="", flush=True)
      self._open = True
    else:
      print(line, flush=True)
    self._printed = now

  def say(self, text: str) -> None:
    """Prints a line that stays."""
    print(f"\r\x1b[K{text}" if self._open else text, flush=True)
    self._open = False


def _duration(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class Metrics:
  """Writes scalars and arrays of a run by step, never by clock, so that a resumed run writes the same lines."""

  def __init__(self, workdir: pathlib.Path):
    """Opens `metrics.jsonl` and the TensorBoard events of a work directory."""
    self._path = workdir / "metrics.jsonl"
    self._events = workdir / "tensorboard"
    self._writers: dict[str, SummaryWriter] = {}

  def rewind(self, phase: str, iteration: int, step: int) -> None:
    """Drops the lines that a run to be resumed at this position has written beyond it."""
    if not self._path.exists():
      return
    position = (PHASES.index(phase), iteration, step)
    kept = []
    for line in self._path.read_text().splitlines():
      try:
        entry = json.loads(line)
      except json.JSONDecodeError:  # The half of a line that a killed process left.
        break
      if (PHASES.index(entry["phase"]), entry["iteration"], entry["step"]) > position:
        break
      kept.append(line + "\n")
    write_atomically(self._path, "".join(kept))

  def write(self, phase: str, iteration: int, step: int, values: Mapping[str, Any], event_step: int) -> None:
    """Writes values of one step.

    Args:
      phase: one of `PHASES`.
      iteration: of the search, from 0; 0 in other phases.
      step: updates done in the iteration, or in the training.
      values: scalars, arrays and nested lists by name.
      event_step: the step under which TensorBoard shows them.
    """
    entry = {"phase": phase, "iteration": iteration, "step": step, **{k: _plain(v) for k, v in values.items()}}
    with self._path.open("a") as file:
      file.write(json.dumps(entry) + "\n")
    if phase not in self._writers:
      self._writers[phase] = SummaryWriter(str(self._events / phase), purge_step=event_step)
    for name, value in values.items():
      if np.ndim(value) == 0 and value is not None:
        self._writers[phase].add_scalar(name, value, event_step)
      elif isinstance(value, np.ndarray):
        self._writers[phase].add_histogram(name, value, event_step)

  def close(self) -> None:
    """Flushes the event files."""
    for writer in self._writers.values():
      writer.close()


def _plain(value):
  if isinstance(value, np.ndarray):
    return np.round(value.astype(float), 6).tolist()
  return float(value) if isinstance(value, np.floating) else int(value) if isinstance(value, np.integer) else value
