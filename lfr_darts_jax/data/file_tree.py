"""A folder of the user's as it lies there: litter is passed over, links are followed, what is no image is counted."""

from collections.abc import Sequence
import fnmatch
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from lfr_darts_jax.data import decoding
from lfr_darts_jax.data.splits import plain
from lfr_darts_jax.errors import UsageError, listed

# What systems and programs leave behind, at every depth; hidden files and folders among it.
LITTER = (".*", "*~", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")
_LITTER = re.compile("|".join(map(fnmatch.translate, LITTER)))
IMAGE_SUFFIXES = frozenset(
  (
    *(".bmp", ".dib", ".gif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
  )
)
# Of files that may lie beside every image, which would each have to be opened otherwise.
OTHER_SUFFIXES = frozenset((".csv", ".json", ".md", ".npy", ".txt", ".xml", ".yaml", ".yml"))
NO_IMAGES = "files that are no images"
NAMES = 3  # Of a kind in a message.
UNKNOWN_SIZE = -1  # Of a file that can't be looked at, and will be found to be bad.

File = tuple[bytes, int, int, int]  # Path below the root, size, device and inode.


class Files(NamedTuple):
  """Many files, without an object for each.

  Attributes:
    paths: `[n]` bytes, below a root.
    sizes: `[n]`, bytes; -1 where that can't be told.
    keys: `[n, 2]`, device and inode, which are the same where links lead to one file.
  """

  paths: np.ndarray
  sizes: np.ndarray
  keys: np.ndarray


def packed(files: Sequence[File]) -> Files:
  """Files as arrays."""
  paths, sizes, devices, inodes = zip(*files, strict=True) if files else ((), (), (), ())
  keys = np.stack([np.array(devices, np.uint64), np.array(inodes, np.uint64)], axis=1)
  return Files(np.array(paths, np.bytes_), np.array(sizes, np.int64), keys)


def joined(parts: Sequence[Files]) -> Files:
  """Files one after the other."""
  return Files(*map(np.concatenate, zip(*parts, strict=True)))


class Leftovers:
  """What lies in a folder and is not used, by kind: how many there are, and the names of the first ones."""

  def __init__(self, known: frozenset[str] = frozenset()):
    """Starts with none; what is known is not counted."""
    self._found: dict[str, tuple[int, list[str]]] = {}
    self._known = known

  def add(self, kind: str, name: str, count: int = 1) -> None:
    """Counts some of a kind, all of the same name."""
    if name in self._known:
      return
    before, names = self._found.get(kind, (0, []))
    self._found[kind] = before + count, [*names, name][: NAMES + 1]

  def count(self, kind: str) -> int:
    """How many of a kind there are."""
    return self._found.get(kind, (0, []))[0]

  def line(self) -> list[str]:
    """What a user is told of it: one line, or none where nothing is left over."""
    more = lambda names: ", ..." if len(names) > NAMES else ""
    found = self._found.items()
    said = [f"{count} {kind} ({listed(names[:NAMES], shown=repr)}{more(names)})" for kind, (count, names) in found]
    return [f"not used: {'; '.join(said)}"] if said else []


def is_litter(name: str) -> bool:
  """Whether a file or folder of this name is passed over."""
  return bool(_LITTER.fullmatch(name.casefold()))


def entries(folder: str, field: str = "config.data.dir") -> list[os.DirEntry[str]]:
  """What a folder holds, by name, without litter; `field` is what names it.

  Raises:
    UsageError: where it can't be read.
  """
  try:
    with os.scandir(folder) as found:
      kept = [entry for entry in found if not is_litter(entry.name)]
  except OSError as error:
    raise UsageError(
      f"{field}: the folder {folder!r} can't be read ({error.strerror}); allowed are folders that can"
    ) from None
  return sorted(kept, key=lambda entry: (plain(entry.name), entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
  """Whether it is a folder or leads to one; what can't be looked at is a file, which will be found to be bad."""
  try:
    return entry.is_dir()
  except OSError:
    return False


def is_image(entry: os.DirEntry[str] | pathlib.Path) -> bool:
  """Whether a file is meant as an image: by its suffix, and by what it holds where that tells nothing."""
  suffix = os.path.splitext(entry.name)[1].lower()
  if suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES:
    return suffix in IMAGE_SUFFIXES
  try:
    return os.path.isfile(entry) and decoding.is_image(os.fspath(entry))
  except OSError:
    return True  # It will be found to be bad.


def images(folder: str, root: str, leftovers: Leftovers, field: str = "config.data.dir") -> Files:
  """The images in a folder and in those below it, in an order that depends on their names alone.

  What a link leads to is looked through once, and not where it lies above: links may lead in a circle.

  Args:
    folder: the folder.
    root: what paths begin from; the folder itself or one above it.
    leftovers: where is counted what is not used.
    field: what names the folder, for errors as of `entries`.
  """
  found: list[File] = []
  seen = {_key(str(path)) for path in (root, *_between(folder, root))}

  def look_through(path: str) -> None:
    for entry in entries(path, field):
      if not is_folder(entry):
        if is_image(entry):
          found.append(file(entry.path, root))
        else:
          leftovers.add(NO_IMAGES, entry.path[len(root) + 1 :])
      elif (key := _key(entry.path)) in seen:
        leftovers.add("folders that links lead to again", entry.path[len(root) + 1 :])
      else:
        seen.add(key)
        look_through(entry.path)

  look_through(folder)
  return packed(found)


def file(path: str, root: str) -> File:
  """What is kept of a file below a root."""
  name = os.fsencode(path[len(root) + 1 :])
  try:
    its = os.stat(path)
  except OSError:
    return name, UNKNOWN_SIZE, 0, 0
  return name, its.st_size, its.st_dev, its.st_ino


def _key(path: str) -> tuple[int, int]:
  its = os.stat(path)
  return its.st_dev, its.st_ino


def _between(folder: str, root: str) -> list[str]:
  """The folders from one below the root down to a folder."""
  parts = folder[len(root) + 1 :].split("/")
  return ["/".join((root, *parts[:count])) for count in range(1, len(parts) + 1) if parts != [""]]
