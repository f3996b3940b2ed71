"""TensorBoard's event files, written by whoever adds to them.

tensorboardX's own writer works in a thread. Where the disk takes no more, the thread ends, and the run waits for it
forever.
"""

import pathlib
import time

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.proto import summary_pb2

from lfr_darts_jax import files

# TensorFlow's: each a tenth above the last.
_POSITIVE = 1e-12 * 1.1 ** np.arange(775)
BUCKETS = np.concatenate([-_POSITIVE[::-1], [0], _POSITIVE])


class Events:
  """One event file. Errors of the disk come where it is written, and name it."""

  def __init__(self, folder: pathlib.Path, purge_step: int | None = None):
    """Begins a file.

    Args:
      folder: made where it is not there.
      purge_step: where given, TensorBoard drops what earlier files of the folder hold from this step on.
    """
    self._folder = folder
    with files.writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._writer = EventsWriter(str(folder / "events"))
    if purge_step is not None:
      self._write(step=purge_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

  def scalar(self, name: str, value: float, step: int) -> None:
    """Adds a number."""
    self._add(summary.scalar(name, value), step)

  def histogram(self, name: str, values: np.ndarray, step: int) -> None:
    """Adds the distribution of an array's values."""
    self._add(summary.histogram(name, values, BUCKETS), step)

  def image(self, name: str, pixels: np.ndarray) -> None:
    """Adds a picture, uint8 `[height, width, 3]`."""
    self._add(summary.image(name, pixels, dataformats="HWC"), 0)

  def text(self, name: str, text: str) -> None:
    """Adds a text in Markdown."""
    self._add(summary.text(name, text), 0)

  def flush(self) -> None:
    """Brings what was added to the disk."""
    with files.writing(self._folder):
      self._writer.flush()

  def close(self) -> None:
    """Ends the file."""
    with files.writing(self._folder):
      self._writer.close()

  def _add(self, values: summary_pb2.Summary, step: int) -> None:
    self._write(step=step, summary=values)

  def _write(self, **fields):
    with files.writing(self._folder):
      self._writer.write_event(event_pb2.Event(wall_time=time.time(), **fields))
