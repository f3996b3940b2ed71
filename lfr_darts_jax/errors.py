"""The errors whose text is for users, and how it is kept to one line."""

from collections.abc import Callable, Iterable
import difflib
import errno
from typing import Any

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# When a run that ended with such an error of the operating system may go on.
DISK_ERRORS = {**dict.fromkeys(NO_SPACE, "once there is space"), errno.EROFS: "once it can be written"}
MAX_LINE, MAX_VALUE, MAX_NAMES = 1_900, 60, 5


class UsageError(ValueError):
  """Wrong input; its text is one line that names the field, the value and what is allowed."""

  def __init__(self, text: str):
    """Takes the text, see `one_line`."""
    super().__init__(one_line(text))


class RunError(RuntimeError):
  """What stopped a run that had begun rightly; its text is one line."""

  def __init__(self, text: str):
    """Takes the text, see `one_line`."""
    super().__init__(one_line(text))


def one_line(text: str) -> str:
  """Text for a terminal: on one line, without control characters, at most `MAX_LINE` characters.

  What is too long loses its middle, since a message begins with the field and ends with what is allowed.
  """
  line = " ".join(text.split())
  line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
  half = (MAX_LINE - 5) // 2
  return line if len(line) <= MAX_LINE else f"{line[:half]} ... {line[-half:]}"


def short(value: Any) -> str:
  """A value in a message, at most `MAX_VALUE` characters of it."""
  try:
    text = repr(value)
  except (RecursionError, ValueError):  # A nested one, or an integer of more digits than Python writes.
    return f"a value of type {type(value).__name__} that is too large to be shown"
  return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."


def listed(names: Iterable[str], most: int = MAX_NAMES, shown: Callable[[str], str] = short) -> str:
  """Names in a message: the first ones, and how many more there are; `repr` shows paths, whose ends must be seen."""
  names = list(names)
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(map(shown, names[:most])) + more


def nearest(name: str, known: Iterable[str]) -> str:
  """A known name for one that may be mistyped, as an addition to a message: empty where none is near."""
  plain = {other.casefold(): other for other in known}
  near = difflib.get_close_matches(name.casefold(), plain, n=1)
  return f"; did you mean {short(plain[near[0]])}?" if near else ""
