"""One place that writes scalars: `metrics.jsonl`, and TensorBoard where it is installed."""

from collections.abc import Callable, Mapping
import contextlib
import io
import itertools
import json
import math
import time
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from PIL import Image

from lfr_darts_jax.runtime import distributed, json_io, paths, tensorboard
from lfr_darts_jax.runtime.optional import optional, tell
from lfr_darts_jax.runtime.paths import Path, Staged

NAME, EVENTS, PHASES = "metrics.jsonl", "tensorboard", ("search", "train", "test")
PUT_SECONDS = 60  # A bucket takes whole files alone; one per line would be too many.
PRUNED = "pruned_to"  # Names the operations kept by a round of pruning.
OUTCOME = "entropy/"  # Begins a name in the line that ends a stage of the search, and in no other.
STRENGTHS = "strengths/"  # Begins a name in the line behind it, where the losses of random paths were measured.
# The largest entry is the end of a stage that searches all cells, with 16 nodes: 0.2 MB.
MAX_LINE, MAX_BYTES = 1_000_000, 1_000_000_000

Entry = dict[str, Any]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Position(msgspec.Struct):
  """What every entry has."""

  phase: Literal["search", "train", "test"]
  iteration: Count
  step: Count


def read(workdir: Path) -> list[Entry]:
  """The entries of a work directory's `metrics.jsonl`, without the half of a line that a killed process left.

  Raises:
    UsageError: where a whole line is no entry, or the file is larger than any run writes.
  """
  path = workdir / NAME
  if not path.exists():
    return []
  *lines, _ = json_io.read_text(path, MAX_BYTES).split("\n")
  return [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _entry(line: str, name: str) -> Entry:
  # Longer lines are cut, and then refused as half a line.
  json_io.parse(line[:MAX_LINE], _Position, name)
  return json_io.parse(line, dict[str, Any], name)


class Metrics:
  """Writes scalars and arrays of a run by step, never by clock, so that a resumed run writes the same lines.

  Of several processes, the first one writes. In a directory lines are there at once, in a bucket from time to time, and
  when `flush` or `close` is called. Where TensorBoard's events can't be written, one line says so, and there are none.
  """

  def __init__(self, workdir: Path, config: Mapping[str, Any], say: Callable[[str], None] = tell):
    """Opens `metrics.jsonl` and the TensorBoard events of a work directory.

    Args:
      workdir: the directory.
      config: values by field, which TensorBoard shows as a table.
      say: prints a line.
    """
    self._config = "\n".join(["|field|value|", "|---|---|", *(f"|{name}|{value}|" for name, value in config.items())])
    self._workdir = workdir
    self._opened: Staged | None = None
    self._put = time.monotonic()
    self._say, self._shown = say, tensorboard.installed()
    self._writers: dict[str, tensorboard.EventFile] = {}

  def rewind(self, phase: str, stage: int, step: int, event_step: int, rounds: int = 0) -> list[Entry]:
    """Drops what a run that resumes at this position has written beyond it.

    The outcome of the position's own stage lies beyond it, since a stage is resumed before its end.

    Args:
      phase, stage, step, event_step: see `write`.
      rounds: of pruning that are done in the stage; later ones at the same step lie beyond the position.

    Returns:
      The entries that are left.
    """
    return distributed.broadcast_from_primary(lambda: self._rewind(phase, stage, step, event_step, rounds))

  def _rewind(self, phase: str, stage: int, step: int, event_step: int, rounds: int) -> list[Entry]:
    self.close()
    self._show(phase, lambda events: None, purge_step=event_step)
    if not self._path.exists():
      return []
    ends = lambda entry: any(name.startswith(OUTCOME) for name in entry)
    at = lambda entry: (PHASES.index(entry["phase"]), entry["iteration"], entry["step"], ends(entry))
    position = (PHASES.index(phase), stage, step, False)
    kept = list(itertools.takewhile(lambda entry: at(entry) <= position, read(self._path.parent)))
    pruned = lambda: [entry for entry in kept if PRUNED in entry and entry["iteration"] == stage]
    while kept and PRUNED in kept[-1] and len(pruned()) > rounds:
      kept.pop()
    paths.write_atomically(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept

  def write(self, phase: str, stage: int, step: int, values: Mapping[str, Any], event_step: int) -> None:
    """Writes values of one step.

    Args:
      phase: one of `PHASES`.
      stage: of the search, from 0; 0 in other phases.
      step: steps done in the stage, or in the training.
      values: scalars, arrays and nested lists by name.
      event_step: the step under which TensorBoard shows them.

    Raises:
      OSError: where the disk takes no more; the last line may be a half.
      RunError: where a bucket can't be reached.
    """
    if not distributed.is_primary():
      return
    entry = {"phase": phase, "iteration": stage, "step": step, **{name: _plain(v) for name, v in values.items()}}
    with paths.naming(self._path), self._path.open("a") as file:
      file.write(json.dumps(entry) + "\n")
    self._show(phase, lambda events: _add(events, values, event_step))
    if time.monotonic() - self._put >= PUT_SECONDS:
      self.flush()

  def write_image(self, name: str, png: bytes) -> None:
    """Shows a PNG in TensorBoard."""
    if distributed.is_primary():
      self._show("pictures", lambda events: events.add("image", name, _pixels(png)))

  def flush(self) -> None:
    """Has a bucket hold all that was written so far; a checkpoint must not be ahead of it."""
    if self._opened:
      self._opened.put()
    self._put = time.monotonic()

  def close(self) -> None:
    """Writes out what event files and a bucket still lack; what is written later goes into new event files."""
    while self._writers:
      with optional(f"the end of {EVENTS}", self._say) if self._shown else contextlib.suppress(Exception):
        self._writers.popitem()[1].close()
    if self._opened:
      self._opened.close()
      self._opened = None

  @property
  def _path(self) -> Path:
    self._opened = self._opened or Staged(self._workdir, NAME)
    return self._opened.here / NAME

  def _show(self, phase: str, add: Callable[[tensorboard.EventFile], None], purge_step: int | None = None) -> None:
    """Adds to the events of a phase, and to none any more after this has failed."""
    if not self._shown:
      return
    self._shown = False
    with optional(f"further events in {EVENTS}", self._say):
      if phase not in self._writers:
        self._writers[phase] = tensorboard.EventFile(self._path.parent / EVENTS / phase, purge_step)
        self._writers[phase].add("text", "config", self._config)
      add(self._writers[phase])
      self._shown = True


def _add(events: tensorboard.EventFile, values: Mapping[str, Any], step: int) -> None:
  for name, value in values.items():
    if isinstance(value, (int, float, np.generic, np.ndarray)):
      events.add("histogram" if isinstance(value, np.ndarray) else "scalar", name, value, step)
  events.flush()


def _pixels(png: bytes) -> np.ndarray:
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert("RGB"))


def _plain(value: Any) -> Any:
  """As JSON has it, which knows no NaN."""
  if isinstance(value, np.ndarray):
    return np.round(value.astype(float), 6).tolist()
  value = value.item() if isinstance(value, np.generic) else value
  return None if isinstance(value, float) and not math.isfinite(value) else value
