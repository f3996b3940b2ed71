"""Labels of images of the user's own from a CSV file: columns `file`, `label`, and `split` where it tells that."""

import collections
from collections.abc import Iterator, Mapping
import csv
import os
import pathlib
import posixpath
from typing import NamedTuple
import unicodedata

import numpy as np

from lfr_darts_jax.data import file_tree, splits
from lfr_darts_jax.data.file_tree import File, Files, Leftovers, joined, packed
from lfr_darts_jax.data.image_files import Listing, assemble
from lfr_darts_jax.data.image_folder import folder
from lfr_darts_jax.data.splits import plain
from lfr_darts_jax.errors import UsageError, listed, short
from lfr_darts_jax.runtime import paths

COLUMNS, OPTIONAL = ("file", "label"), ("split",)
ONLY = "all rows"  # The name of their split where there is no column.
DELIMITERS = ",;\t"  # Spreadsheets write the second where numbers have commas.


class Row(NamedTuple):
  """An image of the table: the number of its line, and what stands in its columns."""

  line: int
  file: str
  label: str
  split: str


def list_table(
  root: pathlib.Path, name: str, train_split: str | None, test_split: str | None, alone: bool = False
) -> Listing:
  """Lists the images that a table names.

  Args:
    root: the folder that its paths begin from.
    name: of the CSV file: its path, or that below the folder.
    train_split, test_split, alone: see `splits.choose`; splits are the values of its column.

  Raises:
    UsageError: where it can't be read, or a row of it is wrong.
  """
  at = folder(root)
  table = _find(root, name)
  owner = f"config.data.labels: {str(table)!r}"
  groups, base = _groups(table, at, owner)
  leftovers = Leftovers(frozenset((os.path.relpath(table, at),)))
  choice, notes = _splits(groups, owner, (train_split, test_split), alone, leftovers)
  if base != at:
    notes.append(f"the paths in {str(table)!r} begin from {base!r}")
  there = file_tree.images(at, at, leftovers).paths
  unnamed = there[~np.isin(there, joined(list(groups.values())).paths)]
  if len(unnamed):
    leftovers.add("images that the table does not name", os.fsdecode(unnamed[0]), len(unnamed))
  images: dict[str, dict[str, Files]] = {part: {} for part in choice.parts}
  for part, names in choice.parts.items():
    for label in sorted({label for name, label in groups if name in names}):
      images[part][label] = joined([groups[name, label] for name in names if (name, label) in groups])
  return assemble(root, images, choice.named, owner, [*notes, *leftovers.line()])


def _groups(table: pathlib.Path, at: str, owner: str) -> tuple[dict[tuple[str, str], Files], str]:
  """The files of every split and label, by path, and the folder that the table's paths begin from.

  Raises:
    UsageError: where a row is wrong, its file is not there or not below the folder, or has two rows.
  """
  found: dict[tuple[str, str], list[File]] = {}
  lines: dict[bytes, int] = {}
  base = ""
  for row in _rows(table, owner):
    base = base or _base(at, row.file)
    name = posixpath.normpath(row.file)
    said = f"{owner}: line {row.line}: {short(row.file)}"
    if posixpath.isabs(name) or name.split("/")[0] == "..":
      raise UsageError(f"{said}; allowed are paths below {base!r}")
    path = _found(base, name)
    if path is None:
      raise UsageError(f"{said} is no file below {base!r}; allowed are those that are there")
    file = file_tree.file(path, at)
    if (before := lines.setdefault(file[0], row.line)) != row.line:
      raise UsageError(f"{said} stands in line {before} already; allowed is one line, with one label, for every image")
    found.setdefault((row.split, row.label), []).append(file)
  if not found:
    raise UsageError(f"{owner} has no rows; allowed is one for every image")
  by_path = lambda file: plain(os.fsdecode(file[0])).split("/")
  return {key: packed(sorted(files, key=by_path)) for key, files in found.items()}, base


def _find(root: pathlib.Path, name: str) -> pathlib.Path:
  there = [path for path in (pathlib.Path(paths.expanded(name)), root / name) if path.is_file()]
  if not there:
    raise UsageError(
      f"config.data.labels: {short(name)} is not there; allowed is a CSV file, by its path or below config.data.dir"
    )
  if not os.path.samefile(there[0], there[-1]):
    raise UsageError(f"config.data.labels: {short(name)} is here and below config.data.dir; allowed is its whole path")
  return there[0]


def _rows(table: pathlib.Path, owner: str) -> Iterator[Row]:
  """The rows of a table; raises UsageError where one is wrong by itself."""
  line = 1
  try:
    with table.open(encoding="utf-8-sig", newline="") as file:
      header = file.readline()
      delimiter = next((d for d in DELIMITERS if set(COLUMNS) <= set(_header(header, d))), DELIMITERS[0])
      columns = _header(header, delimiter)
      if not set(COLUMNS) <= set(columns) <= {*COLUMNS, *OPTIONAL} or len(set(columns)) < len(columns):
        raise UsageError(
          f"{owner} begins with the columns {listed(columns)}; allowed are {', '.join(COLUMNS)} and, where it tells "
          f"the splits, {OPTIONAL[0]}"
        )
      reader = csv.reader(file, delimiter=delimiter, strict=True)
      for cells in reader:
        line = reader.line_num + 1
        if cells:
          yield _row(cells, columns, line, owner)
  except UnicodeDecodeError as error:
    raise UsageError(f"{owner}: byte {error.start} is not UTF-8; allowed is a CSV file in it") from None
  except csv.Error as error:
    raise UsageError(f"{owner}: line {line + 1} can't be read as CSV: {error}; allowed are lines that can") from None


def _row(cells: list[str], columns: list[str], line: int, owner: str) -> Row:
  if len(cells) != len(columns):
    raise UsageError(f"{owner}: line {line} has {len(cells)} values, {listed(cells)}; allowed are {len(columns)}")
  values = dict(zip(columns, map(str.strip, cells), strict=True))
  for column, value in values.items():
    if not value:
      raise UsageError(f"{owner}: line {line} has an empty {column} ({listed(cells)}); allowed is some text")
  return Row(line, values["file"], plain(values["label"]), plain(values.get("split", ONLY)).casefold())


def _header(line: str, delimiter: str) -> list[str]:
  return [name.strip().casefold() for cells in csv.reader([line], delimiter=delimiter) for name in cells]


def _base(at: str, first: str) -> str:
  """The folder that the paths of a table begin from: the one that is told, or the only one in it that has the first."""
  if _found(at, first):
    return at
  inside = [entry.path for entry in file_tree.entries(at) if file_tree.is_folder(entry) and _found(entry.path, first)]
  return inside[0] if len(inside) == 1 else at


def _found(base: str, name: str) -> str | None:
  """The path of a file, whatever Unicode form its name has on the disk."""
  forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
  return next((path for form in forms if os.path.isfile(path := f"{base}/{form}")), None)


def _splits(
  groups: Mapping[tuple[str, str], Files],
  owner: str,
  asked: tuple[str | None, str | None],
  alone: bool,
  leftovers: Leftovers,
) -> tuple[splits.Choice, list[str]]:
  """The splits to train and to test on, and what a user is told."""
  counts: collections.Counter[str] = collections.Counter()
  for (name, _), files in groups.items():
    counts[name] += len(files.paths)
  if ONLY in counts:
    for field, value in zip(("train_split", "test_split"), asked, strict=True):
      if value is not None:
        raise UsageError(f"config.data.{field}: {short(value)}; allowed is None, as {owner} has no column split")
    return splits.Choice((ONLY,), (), ()), []
  roles = {name: splits.role(name) for name in sorted(counts)}
  choice = splits.choose(roles, *asked, owner, alone)
  for name in choice.unused:
    if not roles[name]:
      leftovers.add("images of other splits", name, counts[name])
  named, known = choice.named, {name: counts[name] for name in choice.unused if roles[name]}
  return choice, splits.said(roles, named.get("train"), named.get("test"), known)
