"""Checksums of a folder's files, kept in the folder: they tell truncated, changed and missing files from whole ones."""

import hashlib
import pathlib
import re

from lfr_darts_jax import files

NAME, MAX_BYTES = "SHA256SUMS", 10_000_000


def write(folder: pathlib.Path) -> None:
  """Brings a folder's files to the disk and writes their sums beside them, as `sha256sum -c` reads them."""
  paths = sorted(path for path in folder.rglob("*") if path.is_file())
  for path in paths:
    files.sync(path)
  lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
  files.write_atomically(folder / NAME, "".join([*lines, _end(lines)]))


def fault(folder: pathlib.Path) -> str | None:
  """What is wrong with a folder, None where every file is as it was when its sums were written.

  Files that came later are let be: file managers and network file systems leave some.
  """
  try:
    with (folder / NAME).open("rb") as file:
      *lines, end = file.read(MAX_BYTES).decode().splitlines(keepends=True) or [""]
    # Without the last line one could not tell that others are missing before it.
    if end != _end(lines):
      return f"{NAME} is incomplete"
    for line in lines:
      match = re.fullmatch(r"([0-9a-f]{64})  (.+)\n", line)
      if not match:
        return f"{NAME} is not as it was written"
      digest, name = match.groups()
      path = folder / name
      # A sum may be asked of a folder's own files alone, not of a device that never ends.
      if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return f"{name} is missing"
      if _digest(path) != digest:
        return f"{name} is not as it was written"
  except FileNotFoundError:
    return f"{NAME} is missing"
  except UnicodeDecodeError:
    return f"{NAME} is not as it was written"
  except OSError as error:
    return f"{error.filename or folder} can't be read: {error.strerror}"
  return None


def _digest(path):
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _end(lines):
  return f"# {len(lines)} files\n"
