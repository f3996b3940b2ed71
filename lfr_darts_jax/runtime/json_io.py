"""Files that anybody may have written: read within bounds, checked against a schema, refused in one line."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import paths
from lfr_darts_jax.runtime.paths import Path

T = TypeVar("T")


def read_bytes(path: Path, most: int) -> bytes:
  """Reads a file.

  Args:
    path: the file.
    most: bytes that it may have.

  Raises:
    UsageError: where it can't be read, is no file, or is larger.
  """
  if not paths.is_file(path):
    raise UsageError(f"{path}: is no file; allowed is one")
  try:
    with path.open("rb") as file:
      content: bytes = file.read(most + 1)
  except OSError as error:
    if not paths.is_local(path):
      raise  # A bucket that can't be reached is no wrong input.
    raise UsageError(f"{path}: {error.strerror}; allowed is a file that can be read") from None
  if len(content) > most:
    raise UsageError(f"{path}: more than {most} bytes; allowed are at most so many")
  return content


def read_text(path: Path, most: int) -> str:
  """Reads a text file; arguments and errors as of `read_bytes`, and a UsageError where it is not UTF-8."""
  content = read_bytes(path, most)
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise UsageError(f"{path}: byte {error.start} is not UTF-8; allowed is a text file in it") from None


def read_json(path: Path, kind: type[T], most: int) -> T:
  """Reads a JSON file; arguments and errors as of `read_bytes` and `parse`."""
  return parse(read_bytes(path, most), kind, str(path))


def parse(text: bytes | str, kind: type[T], name: str) -> T:
  """Parses JSON.

  Args:
    text: the JSON.
    kind: what it must hold: a type, dataclass or `msgspec.Struct`.
    name: of the text, for the message.

  Raises:
    UsageError: where it is no JSON, is nested too deeply, or holds something else.
  """
  return _checked(lambda: msgspec.json.decode(text, type=kind), name)


def convert(value: Any, kind: type[T], name: str) -> T:
  """Takes a value out of parsed JSON; arguments and errors as of `parse`."""
  return _checked(lambda: msgspec.convert(value, kind), name)


def dumps(value: Any) -> str:
  """The indented JSON text of a value, with a line break at its end."""
  return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def _checked(decode: Callable[[], T], name: str) -> T:
  try:
    return decode()
  except RecursionError:
    raise UsageError(f"{name}: nested too deeply; allowed is JSON of fewer levels") from None
  except ValueError as error:  # msgspec's, and those of __post_init__.
    raise UsageError(f"{name}: {error}; allowed is what a run writes there") from None
