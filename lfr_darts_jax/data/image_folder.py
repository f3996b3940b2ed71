"""Images of the user's own: `train/<class>/*` and optionally `test/<class>/*`."""

from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from lfr_darts_jax.data.decoding import FORMATS
from lfr_darts_jax.errors import UsageError

IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
HELD_OUT = 5  # One in so many images is kept for the test where the folder has no test split.
SHOWN = 10  # Names in an error message.


class FolderSource:
  """Files at random access, as they are on the disk; a `decoding.Source`.

  Attributes:
    labels: `[n]` int32.
  """

  def __init__(self, root: pathlib.Path, files: np.ndarray, labels: np.ndarray):
    """Takes paths below a folder, as bytes, since a million objects would take a gigabyte in every worker."""
    self._root, self._files, self.labels = root, files, labels

  def __len__(self) -> int:
    """Number of images."""
    return len(self._files)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its label; raises OSError where it can't be read."""
    path = self._root / os.fsdecode(self._files[index])
    if not path.is_file():
      raise OSError(f"{path} is no file")  # A named pipe, for one, would block for ever.
    return path.read_bytes(), int(self.labels[index])

  def name(self, index: int) -> str:
    """The path below the folder as text that can be written as UTF-8; other bytes become backslash escapes."""
    return self._files[index].decode("utf-8", "backslashreplace")

  def part(self, mask: np.ndarray, labels: np.ndarray) -> "FolderSource":
    """Those that a mask `[n]` has, under other labels `[n]`."""
    return FolderSource(self._root, self._files[mask], labels[mask])


class Listing(NamedTuple):
  """The images of a folder, none of which is read.

  Attributes:
    root: holds `train/<class>/*` and optionally `test/<class>/*`.
    class_names: by label.
    files: of every class in the train split, then, where there is one, in the test split.
    has_test: whether there is one.
  """

  root: pathlib.Path
  class_names: tuple[str, ...]
  files: list[list[pathlib.Path]]
  has_test: bool

  @property
  def counts(self) -> dict[str, dict[str, int]]:
    """The number of images of every class, by split that is there."""
    count, sizes = len(self.class_names), list(map(len, self.files))
    splits = {"train": sizes[:count]} | ({"test": sizes[count:]} if self.has_test else {})
    return {split: dict(zip(self.class_names, own, strict=True)) for split, own in splits.items()}

  def entries(self) -> Iterator[bytes]:
    """Every file's path below the root and its size, in an order that depends on nothing else."""
    for path in (path for found in self.files for path in found):
      try:
        size = path.stat().st_size
      except OSError:
        size = -1  # It will be found to be bad.
      yield os.fsencode(path.relative_to(self.root).as_posix()) + b" %d" % size

  def source(self) -> FolderSource:
    """All images; as label each has the number of its list in `files`."""
    paths = [os.fsencode(path.relative_to(self.root)) for found in self.files for path in found]
    return FolderSource(self.root, np.array(paths), np.repeat(np.arange(len(self.files)), list(map(len, self.files))))

  def splits(self, groups: np.ndarray, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images are for the test, and their labels; without a test split a fifth of each class is held out.

    Args:
      groups: `[n]` number of the list in `files` that each image left is of, in order.
      split_seed: of the fifth.

    Raises:
      UsageError: where a class or the test has no image left.
    """
    counts = np.bincount(groups, minlength=len(self.files)).tolist()
    train, known = self.root / "train", len(self.class_names)
    _check_classes(train, self.class_names, counts[:known], "no image left after bad files are skipped")
    test = groups >= known if self.has_test else _held_out(counts, split_seed)
    if not test.any():
      missing = f"{_shown(train)} has one image per class; allowed is a class with two, or a test folder beside it"
      if self.has_test:
        missing = f"{_shown(self.root / 'test')} holds no image that is not skipped as bad; at least one is needed"
      raise UsageError(f"config.data.dir: {missing}")
    return test, (groups % known).astype(np.int32)


def refuse_bad(root: pathlib.Path, bad: Sequence[str], count: int) -> None:
  """Refuses a folder for the names of its bad files, of `count` files in all; raises UsageError where there are any."""
  if bad:
    raise UsageError(
      f"config.data.dir: {len(bad)} of {count} files in {_shown(root)} can't be read as images: {_list(bad)}; allowed "
      f"are whole {', '.join(FORMATS)} files of at most {Image.MAX_IMAGE_PIXELS} pixels, or "
      "--config.data.skip_bad_files=True, which leaves the others out"
    )


def list_folder(root: pathlib.Path) -> Listing:
  """Lists the images of a folder.

  Raises:
    UsageError: where there are no two classes, or a class has no image.
  """
  train = root / "train"
  if not train.is_dir():
    raise UsageError(f"config.data.dir: {_shown(root)}; allowed is a folder that holds train/<class>/*")
  class_names = _class_names(train)
  files = _image_files(train, class_names)
  _check_classes(train, class_names, list(map(len, files)), f"no images, which are files named {_suffixes()}")
  has_test = (root / "test").is_dir()
  if has_test:
    files += _image_files(root / "test", class_names)
    if not any(files[len(class_names) :]):
      raise UsageError(
        f"config.data.dir: {_shown(root / 'test')} holds no images of the classes in {_shown(train)}; allowed are "
        f"files named {_suffixes()}"
      )
  return Listing(root, class_names, files, has_test)


def _held_out(counts: Sequence[int], split_seed: int) -> np.ndarray:
  """Draws a fifth of each class as a mask over images in order of class."""
  rng = np.random.default_rng([split_seed, 2])
  masks = []
  for count in counts:
    # Two images are needed for one in each part; a class with a single one is trained on only.
    cut = min(max(round(count / HELD_OUT), 1), count - 1)
    masks.append(np.isin(np.arange(count), rng.permutation(count)[:cut]))
  return np.concatenate(masks)


def _class_names(train: pathlib.Path) -> tuple[str, ...]:
  names = tuple(sorted(p.name for p in train.iterdir() if p.is_dir() and not p.name.startswith(".")))
  if len(names) < 2:
    raise UsageError(f"config.data.dir: {_shown(train)} has {len(names)} class folders; at least two are allowed")
  for name in names:
    try:
      name.encode()
    except UnicodeEncodeError:  # Such a name could not be written to the report, hours later.
      raise UsageError(
        f"config.data.dir: {_shown(train)} has the class folder {name!r}; allowed are names in UTF-8"
      ) from None
  return names


def _check_classes(train: pathlib.Path, class_names: Sequence[str], counts: Sequence[int], missing: str) -> None:
  empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
  if empty:
    raise UsageError(
      f"config.data.dir: {_shown(train)}: {len(empty)} of {len(class_names)} classes have {missing}: {_list(empty)}; "
      "allowed are classes with at least one"
    )


def _image_files(folder: pathlib.Path, class_names: Sequence[str]) -> list[list[pathlib.Path]]:
  return [
    sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
    for name in class_names
  ]


def _list(names: Sequence[str]) -> str:
  """The first names on one line; repr escapes line breaks and control characters."""
  more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
  return ", ".join(map(repr, names[:SHOWN])) + more


def _shown(path: pathlib.Path) -> str:
  return repr(str(path))


def _suffixes() -> str:
  return f"*{', *'.join(sorted(IMAGE_SUFFIXES))}"
