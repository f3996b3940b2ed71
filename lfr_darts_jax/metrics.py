"""One place that writes scalars: TensorBoard and metrics.jsonl."""

from collections.abc import Mapping
import io
import itertools
import json
import time
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from lfr_darts_jax import config as schema
from lfr_darts_jax import files
from lfr_darts_jax import processes
from lfr_darts_jax import reading
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.events import Events
from lfr_darts_jax.storage import Path
from lfr_darts_jax.storage import Staged

NAME, EVENTS, PHASES = "metrics.jsonl", "tensorboard", ("search", "train", "test")
PUT_SECONDS = 60  # A store gets whole files alone, which lines would be too many of.
OUTCOME = "entropy/"  # Begins a name in the last line of an iteration of the search, and in no other.
# The largest entry is the end of an iteration that searches all cells, with 16 nodes: 0.2 MB.
MAX_LINE, MAX_BYTES = 1_000_000, 1_000_000_000


def read(workdir: Path) -> list[dict[str, Any]]:
  """The entries of a work directory's `metrics.jsonl`, without the half of a line that a killed process left.

  Raises:
    UsageError: where a whole line is no entry, or the file is larger than any run writes.
  """
  path = workdir / NAME
  if not path.exists():
    return []
  *lines, _ = reading.read_text(path, MAX_BYTES).split("\n")
  return [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _entry(line, name):
  if len(line) > MAX_LINE:
    raise UsageError(f"{name}: {len(line)} characters; allowed are at most {MAX_LINE}")
  entry = reading.parse_json(line, name, allow_nan=True)
  if not isinstance(entry, dict) or entry.get("phase") not in PHASES:
    raise UsageError(f"{name}: {short(entry)}; allowed is an object whose phase is {', '.join(PHASES)}")
  for key in ("iteration", "step"):
    reading.numbers(entry.get(key), f"{name}: {key}", integers=True, low=0)
  return entry


class Metrics:
  """Writes scalars and arrays of a run by step, never by clock, so that a resumed run writes the same lines.

  Of several processes, the first one writes. In a directory they are there at once, in a store from time to time, and
  when `flush` or `close` is called.
  """

  def __init__(self, workdir: Path, config: ml_collections.ConfigDict):
    """Opens `metrics.jsonl` and the TensorBoard events of a work directory.

    Args:
      workdir: the directory.
      config: the config, which TensorBoard shows as a table.
    """
    rows = [f"|{name}|{value}|" for name, value in schema.flatten(config).items()]
    self._config = "\n".join(["|field|value|", "|---|---|", *rows])
    self._workdir = workdir
    self._opened: Staged | None = None
    self._put = time.monotonic()
    self._writers: dict[str, Events] = {}

  def rewind(self, phase: str, iteration: int, step: int, event_step: int) -> list[dict[str, Any]]:
    """Drops what a run to be resumed at this position has written beyond it; arguments as of `write`.

    The outcome of the position's own iteration lies beyond it, since an iteration is resumed before its end.

    Returns:
      The entries that are left.
    """
    return processes.agree(lambda: self._rewind(phase, iteration, step, event_step))

  def _rewind(self, phase, iteration, step, event_step):
    self.close()
    self._writer(phase, purge_step=event_step)
    if not self._path.exists():
      return []
    position = (PHASES.index(phase), iteration, step, False)
    ends = lambda entry: any(name.startswith(OUTCOME) for name in entry)
    at = lambda entry: (PHASES.index(entry["phase"]), entry["iteration"], entry["step"], ends(entry))
    kept = list(itertools.takewhile(lambda entry: at(entry) <= position, read(self._path.parent)))
    files.write_atomically(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept

  def write(self, phase: str, iteration: int, step: int, values: Mapping[str, Any], event_step: int) -> None:
    """Writes values of one step.

    Args:
      phase: one of `PHASES`.
      iteration: of the search, from 0; 0 in other phases.
      step: updates done in the iteration, or in the training.
      values: scalars, arrays and nested lists by name.
      event_step: the step under which TensorBoard shows them.

    Raises:
      OSError: where the disk takes no more; the last line may be a half.
      RunError: where a store can't be reached.
    """
    if not processes.primary():
      return
    entry = {"phase": phase, "iteration": iteration, "step": step, **{k: _plain(v) for k, v in values.items()}}
    with files.writing(self._path), self._path.open("a") as file:
      file.write(json.dumps(entry) + "\n")
    writer = self._writer(phase)
    for name, value in values.items():
      if isinstance(value, (int, float, np.generic)):
        writer.scalar(name, value, event_step)
      elif isinstance(value, np.ndarray):
        writer.histogram(name, value, event_step)
    writer.flush()
    if time.monotonic() - self._put >= PUT_SECONDS:
      self.flush()

  def write_image(self, name: str, png: bytes) -> None:
    """Shows a PNG in TensorBoard."""
    if not processes.primary():
      return
    with Image.open(io.BytesIO(png)) as image:
      self._writer("pictures").image(name, np.asarray(image.convert("RGB")))

  def flush(self) -> None:
    """Has a store hold all that was written so far; a checkpoint must not be ahead of it."""
    if self._opened:
      self._opened.put()
    self._put = time.monotonic()

  def close(self) -> None:
    """Writes out what the event files and a store still lack; what is written later goes into new event files."""
    while self._writers:
      self._writers.popitem()[1].close()
    if self._opened:
      self._opened.close()
      self._opened = None

  @property
  def _staged(self):
    self._opened = self._opened or Staged(self._workdir, NAME)
    return self._opened

  @property
  def _path(self):
    return self._staged.here / NAME

  def _writer(self, phase, purge_step=None):
    if phase not in self._writers:
      self._writers[phase] = Events(self._staged.here / EVENTS / phase, purge_step)
      self._writers[phase].text("config", self._config)
    return self._writers[phase]


def _plain(value):
  if isinstance(value, np.ndarray):
    return np.round(value.astype(float), 6).tolist()
  return float(value) if isinstance(value, np.floating) else int(value) if isinstance(value, np.integer) else value
