"""Files that are whole or not there."""

import os
import pathlib


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file, text as UTF-8, under a temporary name and moves it into place."""
  temporary = path.with_name(f".{path.name}.partial")
  temporary.write_bytes(content.encode() if isinstance(content, str) else content)
  os.replace(temporary, path)
