"""TensorBoard's event files, where tensorboardX is installed.

tensorboardX's own writer works in a thread. Where the disk takes no more, the thread ends, and the run waits for it
forever: here whoever adds to a file writes it.
"""

import importlib.util
import pathlib
import time
from typing import Any

import numpy as np

from lfr_darts_jax.runtime import paths

# TensorFlow's: each a tenth above the last.
_POSITIVE = 1e-12 * 1.1 ** np.arange(775)
BUCKETS = np.concatenate([-_POSITIVE[::-1], [0], _POSITIVE])


def installed() -> bool:
  """Whether event files can be written."""
  return importlib.util.find_spec("tensorboardX") is not None


class EventFile:
  """One event file. Errors of the disk are raised where it is written, and name it."""

  def __init__(self, folder: pathlib.Path, purge_step: int | None = None):
    """Begins a file; needs tensorboardX.

    Args:
      folder: made where it is not there.
      purge_step: where given, TensorBoard drops what earlier files of the folder hold from this step on.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2

    self._folder, self._proto = folder, event_pb2
    with paths.naming(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._writer = EventsWriter(str(folder / "events"))
    if purge_step is not None:
      self._write(step=purge_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

  def add(self, kind: str, name: str, value: Any, step: int = 0) -> None:
    """Adds a value.

    Args:
      kind: "scalar", "histogram" of an array, "image" of uint8 `[height, width, 3]`, or "text" in Markdown.
      name: its tag.
      value: as `kind` says.
      step: under which TensorBoard shows it.
    """
    from tensorboardX import summary

    more: dict[str, dict[str, Any]] = {"histogram": {"bins": BUCKETS}, "image": {"dataformats": "HWC"}}
    self._write(step=step, summary=getattr(summary, kind)(name, value, **more.get(kind, {})))

  def flush(self) -> None:
    """Writes what was added to the disk."""
    with paths.naming(self._folder):
      self._writer.flush()

  def close(self) -> None:
    """Ends the file."""
    with paths.naming(self._folder):
      self._writer.close()

  def _write(self, **fields: Any) -> None:
    with paths.naming(self._folder):
      self._writer.write_event(self._proto.Event(wall_time=time.time(), **fields))
