"""Files that are whole or not there."""

import os
import pathlib


def write_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a text file under a temporary name and moves it into place."""
  temporary = path.with_name(f".{path.name}.partial")
  temporary.write_text(text)
  os.replace(temporary, path)
