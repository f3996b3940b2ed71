"""Files that are whole or not there, and what a user is told where the disk takes no more."""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import shutil

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# When a run that ended with such an error may go on.
DISK_ERRORS = {**dict.fromkeys(NO_SPACE, "once there is space"), errno.EROFS: "once it can be written"}


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file, text as UTF-8, under a temporary name and moves it into place.

  Raises:
    OSError: where that fails; a file of that name is as it was.
  """
  temporary = partial(path)
  try:
    with writing(path):
      temporary.write_bytes(content.encode() if isinstance(content, str) else content)
      sync(temporary)
      os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


def partial(path: pathlib.Path) -> pathlib.Path:
  """The name under which something is written, or deleted, that is to be whole or not there."""
  return path.with_name(f".{path.name}.partial")


def remove_partials(folder: pathlib.Path) -> None:
  """Deletes what dead processes left half written in a folder; living ones must not write there meanwhile."""
  for path in folder.glob(".*.partial"):
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink()


def sync(path: pathlib.Path) -> None:
  """Has the operating system bring a file to the disk, so that it outlives a loss of power."""
  with path.open("rb") as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
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
