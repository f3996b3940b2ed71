"""Results as lines of JSON, one for every finished job: read, checked, added to."""

from collections.abc import Sequence
import json
import pathlib
from typing import Annotated, Any

import msgspec

from lfr_darts_jax.runtime import json_io
from lfr_darts_jax.runtime.paths import write_atomically
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype

MAX_BYTES = 100_000_000
Line = dict[str, Any]


class _Job(msgspec.Struct):
  """What every line has."""

  method: str
  seed: Annotated[int, msgspec.Meta(ge=0)]


def read(path: pathlib.Path) -> list[Line]:
  """The lines of a file, none where there is no file.

  Raises:
    UsageError: where one is not an object that names a method and a seed, or its genotype can't be read.
  """
  if not path.exists():
    return []
  found = []
  for number, text in enumerate(json_io.read_text(path, MAX_BYTES).splitlines(), 1):
    name = f"{path}, line {number}"
    json_io.parse(text, _Job, name)
    line = json_io.parse(text, Line, name)
    if "genotype" in line:
      genotype(line)
    found.append(line)
  return found


def genotype(line: Line) -> Genotype:
  """The genotype of a line."""
  return formats.parse(json.dumps(line["genotype"]))


def add(path: pathlib.Path, lines: Sequence[Line]) -> None:
  """Adds lines to a file; a process that is killed leaves all of them or none."""
  path.parent.mkdir(parents=True, exist_ok=True)
  before = path.read_text() if path.exists() else ""
  write_atomically(path, before + "".join(json.dumps(line) + "\n" for line in lines))
