"""Results as lines of JSON, one for every finished job: read, checked, added to."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import reading
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.files import write_atomically

MAX_BYTES = 100_000_000
Line = dict[str, Any]


def read(path: pathlib.Path) -> list[Line]:
  """The lines of a file, none where there is no file.

  Raises:
    UsageError: where one is not an object that names a method and a seed, or its genotype can't be read.
  """
  if not path.exists():
    return []
  found = []
  for number, text in enumerate(reading.read_text(path, MAX_BYTES).splitlines(), 1):
    name = f"{path}, line {number}"
    line = reading.parse_json(text, name)
    if not isinstance(line, dict) or not isinstance(line.get("method"), str):
      raise UsageError(f"{name}: {text[:60]}; allowed is an object that names a method")
    reading.numbers(line.get("seed"), f"{name}: seed", integers=True, low=0)
    if "genotype" in line:
      genotype(line)
    found.append(line)
  return found


def genotype(line: Line) -> genotypes.Genotype:
  """The genotype of a line."""
  return genotypes.parse(json.dumps(line["genotype"]))


def add(path: pathlib.Path, lines: Sequence[Line]) -> None:
  """Adds lines to a file; a process that is killed leaves all of them or none."""
  path.parent.mkdir(parents=True, exist_ok=True)
  before = path.read_text() if path.exists() else ""
  write_atomically(path, before + "".join(json.dumps(line) + "\n" for line in lines))
