"""Image files of the user's own, with their classes and splits, however these are told."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import os
import pathlib
from typing import NamedTuple

import numpy as np

from lfr_darts_jax.data import decoding
from lfr_darts_jax.data.file_tree import Files, joined
from lfr_darts_jax.data.identity import by_class
from lfr_darts_jax.data.splits import held_out, plain
from lfr_darts_jax.errors import UsageError, listed, nearest

SHOWN = 10  # Names in a message.
READERS, AT_ONCE = 16, 256  # Threads that look at files, for they wait for the disk; files for each at a time.


class FolderSource:
  """Files at random access, as they are on the disk; a `decoding.Source`."""

  def __init__(self, root: pathlib.Path, files: np.ndarray, labels: np.ndarray):
    """Takes paths below a folder, as bytes, since a million objects would take a gigabyte in every worker."""
    self._root, self._files, self._labels = root, files, labels

  def __len__(self) -> int:
    """Number of images."""
    return len(self._files)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its label; raises OSError where it can't be read."""
    with open(self._path(index), "rb") as file:
      return file.read(), int(self._labels[index])

  def name(self, index: int) -> str:
    """The path below the folder as text that can be written as UTF-8; other bytes become backslash escapes."""
    return self._files[index].decode("utf-8", "backslashreplace")

  def labels(self) -> np.ndarray:
    """See `decoding.Source`."""
    return self._labels

  def bad(self) -> list[int]:
    """The images that don't seem whole by the beginning and the end of their files, see `decoding.seems_whole`."""

    def bad_from(start: int) -> list[int]:
      return [index for index in range(start, min(start + AT_ONCE, len(self))) if not self._seems_whole(index)]

    with ThreadPoolExecutor(READERS) as pool, decoding.quiet():
      return [index for found in pool.map(bad_from, range(0, len(self), AT_ONCE)) for index in found]

  def _seems_whole(self, index: int) -> bool:
    try:
      return decoding.seems_whole(self._path(index))
    except OSError:
      return False

  def _path(self, index: int) -> str:
    path = os.path.join(self._root, os.fsdecode(self._files[index]))
    if not os.path.isfile(path):
      raise OSError(f"{path} is no file")  # A named pipe, for one, would block for ever.
    return path


class Listing(NamedTuple):
  """Images with their classes and splits, none of which is read.

  Attributes:
    root: the folder that they lie below.
    class_names: by label.
    files: `[n]` paths below it, as bytes: the train split by class and path, then, where there is one, the test split.
    sizes: `[n]`, bytes; -1 where that can't be told.
    labels: `[n]` int32.
    tested: `[n]`, which are of a test split; None where there is none.
    splits: what they are called, of "train" and "test".
    notes: what a user is told of it, in lines.
  """

  root: pathlib.Path
  class_names: tuple[str, ...]
  files: np.ndarray
  sizes: np.ndarray
  labels: np.ndarray
  tested: np.ndarray | None
  splits: dict[str, str]
  notes: tuple[str, ...]

  @property
  def counts(self) -> dict[str, dict[str, int]]:
    """The number of images of every class, by split that is there."""
    test = np.zeros(len(self.labels), bool) if self.tested is None else self.tested
    masks = {"train": ~test, "test": test}
    return {part: by_class(self.labels[masks[part]], self.class_names) for part in self.splits}

  def entries(self) -> Iterator[bytes]:
    """Every file's path below the root, in the form that names are compared in, and its size."""
    for path, size in zip(self.files, self.sizes, strict=True):
      yield os.fsencode(plain(os.fsdecode(path))) + b" %d" % size

  def source(self) -> FolderSource:
    """All images."""
    return FolderSource(self.root, self.files, self.labels)

  def test_mask(self, kept: np.ndarray, split_seed: int) -> np.ndarray:
    """Which images are for the test; without a test split a fifth of each class is held out.

    Args:
      kept: `[k]` indices of the images that are not left out as bad.
      split_seed: of the fifth.

    Returns:
      A mask `[k]`.

    Raises:
      UsageError: where a class or the test has no image left.
    """
    owner, labels, classes = f"config.data.dir: {str(self.root)!r}", self.labels[kept], len(self.class_names)
    tested = held_out(labels, classes, split_seed) if self.tested is None else self.tested[kept]
    if "train" in self.splits:
      counts = np.bincount(labels if self.tested is None else labels[~tested], minlength=classes)
      check_classes(owner, dict(zip(self.class_names, counts, strict=True)), "image left after bad files are skipped")
    if self.tested is not None and not tested.any():
      raise UsageError(
        f"{owner} has no image in {self.splits['test']} that is not skipped as bad; at least one is needed"
      )
    return tested


def assemble(
  root: pathlib.Path,
  images: Mapping[str, Mapping[str, Files]],
  splits: dict[str, str],
  owner: str,
  notes: Sequence[str],
) -> Listing:
  """Makes a listing.

  Args:
    root: what the files lie below.
    images: of "train" and, where there is a test split, "test": those of every class.
    splits: see `Listing`.
    owner: the field that tells the classes, and its value.
    notes: see `Listing`.

  Raises:
    UsageError: where there are no two classes, one has no image in the train split, or one file is two images.
  """
  test = {name: files for name, files in images.get("test", {}).items() if len(files.paths)}
  train = images.get("train", {})
  known = train if "train" in images else test
  names, notes = tuple(sorted(known)), [*notes]
  if len(train) < 2 and "train" in images:
    found = f" ({listed(names)})" if names else ""
    raise UsageError(f"{owner} has {len(names)} classes{found}; at least two are allowed")
  check_classes(owner, {name: len(known[name].paths) for name in names}, "image")
  if unknown := sorted(test.keys() - set(names)):
    raise UsageError(
      f"{owner} has the classes {listed(unknown)} in {splits['test']} alone; allowed are those of {splits['train']}, "
      f"{listed(names)}{nearest(unknown[0], names)}"
    )
  if test and (missing := [name for name in names if name not in test]):
    notes.append(f"{splits['test']} has no images of {len(missing)} of {len(names)} classes: {listed(missing)}")
  groups = [(label, files[name]) for files in (train, test) for label, name in enumerate(names) if name in files]
  files = joined([files for _, files in groups])
  group = np.repeat(np.arange(len(groups)), [len(files.paths) for _, files in groups])
  again = _again(root, files, group)
  if again:
    first = os.fsdecode(files.paths[again[0]])
    notes.append(f"{len(again)} links to images that are there already are left out, such as {first!r}")
  kept = np.setdiff1d(np.arange(len(group)), again)
  labels = np.array([label for label, _ in groups], np.int32)
  tested = group[kept] >= len(train) if test else None
  return Listing(root, names, files.paths[kept], files.sizes[kept], labels[group[kept]], tested, splits, tuple(notes))


def check_classes(owner: str, counts: Mapping[str, int], what: str) -> None:
  """Raises UsageError where a class has none of what is counted."""
  if empty := [name for name, count in counts.items() if not count]:
    raise UsageError(
      f"{owner}: {len(empty)} of {len(counts)} classes have no {what}: {listed(empty, SHOWN)}; allowed are classes "
      "with at least one"
    )


def _again(root: pathlib.Path, files: Files, group: np.ndarray) -> list[int]:
  """The indices of files that are there before, reached by links, in the same group; refuses those of two groups."""
  order = np.lexsort((np.arange(len(group)), *files.keys.T))
  numbered = files.keys[order[1:], 1] != 0
  same = np.flatnonzero(numbered & np.all(files.keys[order[:-1]] == files.keys[order[1:]], axis=1))
  again = []
  for first, second in zip(order[same], order[same + 1], strict=True):
    one, other = (os.fsdecode(files.paths[index]) for index in (first, second))
    if not _is_linked(root / one, root / other):
      continue
    if group[first] != group[second]:
      raise UsageError(
        f"config.data.dir: {one!r} and {other!r} are the same file; allowed is an image in one class of one split"
      )
    again.append(int(second))
  return sorted(again)


def _is_linked(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether links make two paths one file; some file systems give two files the same number."""
  return one.resolve() == other.resolve() or one.stat().st_nlink > 1
