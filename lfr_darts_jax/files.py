"""Files and folders that are whole or not there, and what a user is told where the disk takes no more."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import re
import shutil
import tempfile

from lfr_darts_jax import storage
from lfr_darts_jax.errors import DISK_ERRORS
from lfr_darts_jax.storage import Path


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes a file, text as UTF-8: under a temporary name, and moves it into place; into a store as one object.

  Raises:
    OSError, RunError: where that fails; a file of that name is as it was.
  """
  content = content.encode() if isinstance(content, str) else content
  if not storage.is_local(path):
    storage.write(path, content)
    return
  temporary = partial(path)
  try:
    with writing(path):
      temporary.write_bytes(content)
      sync(temporary)
      os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


@contextlib.contextmanager
def making(folder: Path) -> Iterator[pathlib.Path]:
  """Makes a folder that is whole or not there: yields a local one to be filled, which takes its place at the end.

  In a store it fills object by object. Until it is whole, `unfinished` lies beside it.

  Raises:
    OSError, RunError: where that fails; there is no folder of that name then, or `remove_partials` deletes it.
  """
  if storage.is_local(folder):
    temporary = partial(folder)
    try:
      with writing(folder):
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
  else:
    with tempfile.TemporaryDirectory(prefix="lfr_darts_") as here:
      with writing(pathlib.Path(here)):
        yield pathlib.Path(here)
      storage.write(unfinished(folder), b"")
      storage.put(pathlib.Path(here), folder)
      storage.remove(unfinished(folder))


def remove(folder: Path) -> None:
  """Deletes a folder; where that is interrupted, what is left does not go by its name, or `unfinished` is beside it."""
  if storage.is_local(folder):
    doomed = partial(folder)
    folder.rename(doomed)
    shutil.rmtree(doomed)
  else:
    storage.write(unfinished(folder), b"")
    storage.remove(folder)
    storage.remove(unfinished(folder))


def move(folder: Path, target: Path) -> None:
  """Gives a folder another name; in a store that copies it, and deletes it then."""
  if storage.is_local(folder):
    folder.rename(target)
  else:
    storage.move(folder, target)


def partial(path: Path) -> Path:
  """The name under which something is written, or deleted, that is to be whole or not there."""
  return path.with_name(f".{path.name}.partial")


def unfinished(folder: Path) -> Path:
  """The name of an object that lies beside a folder of a store as long as this is not whole."""
  return folder.with_name(f".{folder.name}.unfinished")


def whole(folder: Path) -> list[str]:
  """The names in a folder, without those of folders of a store that are not whole."""
  names = storage.names(folder)
  if storage.is_local(folder):
    return names
  return [name for name in names if unfinished(folder / name).name not in names]


def remove_partials(folder: Path) -> None:
  """Deletes what dead processes left half written in a folder; living ones must not write there meanwhile."""
  if storage.is_local(folder):
    for path in folder.glob(".*.partial"):
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink()
    return
  for name in storage.names(folder):
    half = re.fullmatch(r"\.(.+)\.unfinished", name)
    if half:
      storage.remove(folder / half[1])
      storage.remove(folder / name)


def sync(path: pathlib.Path) -> None:
  """Has the operating system bring a file to the disk, so that it outlives a loss of power."""
  with path.open("rb") as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Names a path in errors of what is done inside; Python names none where a file opened before can't be written."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = str(path)
    raise


def explain(error: OSError) -> str:
  """One line for an error of the operating system; says how to go on where the disk takes no more."""
  if error.errno not in DISK_ERRORS:
    return f"{type(error).__name__}: {error}"
  where = "" if error.filename is None else f"{error.filename}: "
  return f"{where}{os.strerror(error.errno).lower()}; the same command continues {DISK_ERRORS[error.errno]}"
