"""Several processes at one study: each takes jobs that no other has, and adds its lines when no other does."""

from collections.abc import Iterator
import contextlib
import pathlib

import filelock

from experiments import lines, study as studies


@contextlib.contextmanager
def claim(folder: pathlib.Path) -> Iterator[bool]:
  """Whether this process may do the job of a folder; no other may until it is done, or this one has died."""
  try:
    held = _lock(folder).acquire(timeout=0)
  except filelock.Timeout:
    held = None
  with held or contextlib.nullcontext():
    yield held is not None


@contextlib.contextmanager
def due(workdir: pathlib.Path, place: str, path: pathlib.Path, key: tuple[str, int]) -> Iterator[bool]:
  """Whether a job is this process's to do, and says so: its file has no line of it, and no other process is at it.

  Args:
    workdir: of the study's runs.
    place: of the job below it.
    path: of the lines.
    key: method and seed.
  """
  with claim(workdir / place) as mine:
    own = mine and key not in studies.done(lines.read(path))
    if own:
      print(f"== {place}", flush=True)
    yield own


def turn(workdir: pathlib.Path) -> filelock.BaseFileLock:
  """Waits, on entry, until no other process adds lines to the study whose runs lie in a folder."""
  return _lock(workdir / "lines")


def _lock(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  return filelock.FileLock(path.with_name(f".{path.name}.lock"))
