"""Files that anybody may have written: read within bounds, parsed as data, refused in one line."""

import collections
import json
import math
from typing import Any

import numpy as np

from lfr_darts_jax import storage
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.storage import Path


def read_bytes(path: Path, most: int) -> bytes:
  """Reads a file.

  Args:
    path: the file.
    most: bytes that it may have.

  Raises:
    UsageError: where it can't be read, is no file, or is larger.
  """
  if not storage.is_file(path):
    raise UsageError(f"{path}: is no file; allowed is one")
  try:
    with path.open("rb") as file:
      content: bytes = file.read(most + 1)
  except OSError as error:
    if not storage.is_local(path):
      raise  # A store that can't be reached is no wrong input.
    raise UsageError(f"{path}: {error.strerror}; allowed is a file that can be read") from None
  if len(content) > most:
    raise UsageError(f"{path}: more than {most} bytes; allowed are at most so many")
  return content


def read_text(path: Path, most: int) -> str:
  """Reads a text file; arguments and errors as of `read_bytes`.

  Raises:
    UsageError: where it is not UTF-8, too.
  """
  content = read_bytes(path, most)
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise UsageError(f"{path}: byte {error.start} is not UTF-8; allowed is a text file in it") from None


def parse_json(text: str, name: str, allow_nan: bool = False) -> Any:
  """Parses JSON.

  Args:
    text: the text.
    name: what it is, for the message.
    allow_nan: whether NaN and the infinities are taken too.

  Raises:
    UsageError: where it is no JSON, is nested too deeply, names a key twice in one object, or has text that can't be
      written as UTF-8.
  """

  def refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")

  try:
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=float if allow_nan else refuse)
    if "\\u" in text:  # Alone such an escape may spell half a character.
      json.dumps(value, ensure_ascii=False).encode()
  except RecursionError:
    raise UsageError(f"{name}: nested too deeply; allowed is JSON of fewer levels") from None
  except UnicodeEncodeError:
    raise UsageError(f"{name}: half of a surrogate pair; allowed is text that UTF-8 can express") from None
  except ValueError as error:
    raise UsageError(f"{name}: {error}; allowed is JSON") from None
  return value


def read_json(path: Path, most: int) -> dict[str, Any]:
  """Reads a file that holds one JSON object; arguments and errors as of `read_text` and `parse_json`."""
  value = parse_json(read_text(path, most), str(path))
  if not isinstance(value, dict):
    raise UsageError(f"{path}: {short(value)}; allowed is a JSON object")
  return value


def _unique(pairs):
  value = dict(pairs)
  if len(value) < len(pairs):
    ((name, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
    raise ValueError(f"the key {short(name)} stands twice in one object")
  return value


def numbers(
  value: Any, name: str, shape: tuple[int, ...] = (), *, integers: bool = False, low: float = -math.inf
) -> np.ndarray:
  """Takes numbers, or nested lists of them, out of what was parsed.

  Args:
    value: a part of it.
    name: what it is, for the message.
    shape: that it must have, () for one number.
    integers: whether it must be of integers.
    low: the smallest allowed; where one is given, so are NaN and infinity refused.

  Returns:
    Them as an array.

  Raises:
    UsageError: where they are something else.
  """
  bounded = low > -math.inf
  try:
    array = np.array(value)
    if array.dtype.kind in ("i" if integers else "if") and array.shape == shape:
      if not bounded or (np.all(array >= low) and np.all(array < math.inf)):
        return array
  except ValueError:  # Lists of unequal lengths, or too many levels.
    pass
  what = f"{'integers' if integers else 'numbers'}{f' from {low}' if bounded else ''}"
  raise UsageError(f"{name}: {short(value)}; allowed are {what}{f' in lists of shape {list(shape)}' if shape else ''}")
