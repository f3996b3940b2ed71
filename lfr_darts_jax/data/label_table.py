"""Labels of images of the user's own from a CSV file: columns `file`, `label`, and `split` where it tells that."""

import collections
from collections.abc import Iterator
import csv
import os
import pathlib
import posixpath
from typing import NamedTuple
import unicodedata

import numpy as np

from lfr_darts_jax.data import file_tree, splits
from lfr_darts_jax.data.file_tree import File, Files, Leftovers, packed
from lfr_darts_jax.data.image_files import Listing, assemble
from lfr_darts_jax.data.image_folder import folder
from lfr_darts_jax.data.splits import plain
from lfr_darts_jax.errors import UsageError, listed, short

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
  rows = list(_rows(table, owner))
  if not rows:
    raise UsageError(f"{owner} has no rows; allowed is one for every image")
  base, leftovers = _base(at, rows[0].file), Leftovers(frozenset((os.path.relpath(table, at),)))
  files = _files(base, at, rows, owner)
  choice, notes = _splits(rows, owner, (train_split, test_split), alone, leftovers)
  images = {part: _by_class(rows, files, names) for part, names in choice.parts.items()}
  if base != at:
    notes.append(f"the paths in {str(table)!r} begin from {base!r}")
  there = file_tree.images(at, at, leftovers).paths
  unnamed = there[~np.isin(there, packed(files).paths)]
  if len(unnamed):
    leftovers.add("images that the table does not name", os.fsdecode(unnamed[0]), len(unnamed))
  return assemble(root, images, choice.named, owner, [*notes, *leftovers.line()])


def _by_class(rows: list[Row], files: list[File], names: tuple[str, ...]) -> dict[str, Files]:
  """The images of every class in some splits, by their paths."""
  found: dict[str, list[tuple[list[str], File]]] = {}
  for row, file in zip(rows, files, strict=True):
    if row.split in names:
      found.setdefault(row.label, []).append((plain(row.file).split("/"), file))
  return {label: packed([file for _, file in sorted(own)]) for label, own in found.items()}


def _find(root: pathlib.Path, name: str) -> pathlib.Path:
  there = [path for path in (pathlib.Path(os.path.expanduser(name)), root / name) if path.is_file()]
  if not there:
    raise UsageError(
      f"config.data.labels: {short(name)} is not there; allowed is a CSV file, by its path or below config.data.dir"
    )
  if not os.path.samefile(there[0], there[-1]):
    raise UsageError(f"config.data.labels: {short(name)} is here and below config.data.dir; allowed is its whole path")
  return there[0]


def _rows(table: pathlib.Path, owner: str) -> Iterator[Row]:
  """The rows of a table; raises UsageError where one is wrong by itself."""
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
        if not cells:
          continue
        if len(cells) != len(columns):
          raise UsageError(f"{owner}: line {line} has {len(cells)} values, {listed(cells)}; allowed are {len(columns)}")
        values = dict(zip(columns, map(str.strip, cells), strict=True))
        for column, value in values.items():
          if not value:
            raise UsageError(f"{owner}: line {line} has an empty {column} ({listed(cells)}); allowed is some text")
        yield Row(line, values["file"], plain(values["label"]), plain(values.get("split", ONLY)).casefold())
  except UnicodeDecodeError as error:
    raise UsageError(f"{owner}: byte {error.start} is not UTF-8; allowed is a CSV file in it") from None
  except csv.Error as error:
    raise UsageError(f"{owner} can't be read as CSV: {error}; allowed are files that can") from None


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


def _files(base: str, at: str, rows: list[Row], owner: str) -> list[File]:
  """The file of every row; raises UsageError where one is not there, not below the folder, or has two rows."""
  lines: dict[str, int] = {}
  files = []
  for row in rows:
    name = posixpath.normpath(row.file)
    said = f"{owner}: line {row.line}: {short(row.file)}"
    if posixpath.isabs(name) or name.split("/")[0] == "..":
      raise UsageError(f"{said}; allowed are paths below {base!r}")
    path = _found(base, name)
    if path is None:
      raise UsageError(f"{said} is no file below {base!r}; allowed are those that are there")
    if (before := lines.setdefault(path, row.line)) != row.line:
      raise UsageError(f"{said} stands in line {before} already; allowed is one line, with one label, for every image")
    files.append(file_tree.file(path, at))
  return files


def _splits(
  rows: list[Row], owner: str, asked: tuple[str | None, str | None], alone: bool, leftovers: Leftovers
) -> tuple[splits.Choice, list[str]]:
  """The splits to train and to test on, and what a user is told."""
  counts = collections.Counter(row.split for row in rows)
  if ONLY in counts:
    if name := asked[0] or asked[1]:
      raise UsageError(f"config.data.train_split, test_split: {short(name)}; allowed is None, as {owner} has no splits")
    return splits.Choice((ONLY,), (), ()), []
  roles = {name: splits.role(name) for name in counts}
  choice = splits.choose(roles, *asked, owner, alone)
  for name in choice.unused:
    if not roles[name]:
      leftovers.add("images of other splits", name, counts[name])
  named, known = choice.named, {name: counts[name] for name in choice.unused if roles[name]}
  return choice, splits.said(roles, named.get("train"), named.get("test"), known)
