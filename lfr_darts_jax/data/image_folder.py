"""Images of the user's own in folders of classes: `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone."""

from collections.abc import Sequence
import os
import pathlib

import numpy as np

from lfr_darts_jax.data import file_tree, splits
from lfr_darts_jax.data.file_tree import NO_IMAGES, Files, Leftovers, is_folder
from lfr_darts_jax.data.image_files import Listing, assemble
from lfr_darts_jax.data.splits import plain
from lfr_darts_jax.errors import UsageError, listed, short

Roles = dict[str, str | None]
SELF = "."  # The split of a folder that holds the classes itself.
OUTSIDE = "images outside of class folders"
LAYOUT = "train/<class>/*, or <class>/*"


def list_folder(root: pathlib.Path, train_split: str | None, test_split: str | None, alone: bool = False) -> Listing:
  """Lists the images of a folder.

  Args:
    root: the folder.
    train_split, test_split, alone: see `splits.choose`; splits are folders in it, or "." for all of them.

  Raises:
    UsageError: where it is none, its splits or classes can't be told, or one of its folders can't be read.
  """
  owner = f"config.data.dir: {str(root)!r}"
  at, leftovers = folder(root), Leftovers()
  # Of what is trained already a folder named test is the test, and not what a test is held out of.
  itself = "test" if alone and splits.role(root.resolve().name) in ("validation", "test") else "train"
  roles = _roles(owner, at, {name for name in (train_split, test_split) if name}) or {SELF: itself}
  choice = splits.choose(roles, train_split, test_split, owner, alone)
  images = {part: _of_splits(at, names, leftovers) for part, names in choice.parts.items()}
  named = choice.named
  if SELF in roles:
    classes = listed(sorted({name for found in images.values() for name in found}))
    notes = [f"no folder in {str(root)!r} is named train: taken for classes are {classes}", *_beside(root)]
  else:
    _count_files(at, at, leftovers)
    used = [files for classes in images.values() for files in classes.values()]
    unused = {name: _others(os.path.join(at, name), at, used) for name in choice.unused}
    known = {name: count for name, count in unused.items() if roles[name]}
    notes = [f"taken for splits: {like}"] if (like := _like_splits(roles)) else []
    notes += splits.said(roles, named.get("train"), named.get("test"), known)
    for name, count in unused.items():
      if count and name not in known:
        leftovers.add("images in folders that are no splits", name, count)
  _check_layout(owner, root, named, images, leftovers)
  return assemble(root, images, named, owner, [*notes, *leftovers.line()])


def folder(root: pathlib.Path) -> str:
  """The absolute path of a folder; raises UsageError where it is none."""
  if not root.is_dir():
    raise UsageError(f"config.data.dir: {str(root)!r} is no folder; allowed is one that holds {LAYOUT}")
  return os.path.abspath(root)


def _roles(owner: str, at: str, asked: set[str]) -> Roles | None:
  """What the folders in a folder are by their names; None where they are classes and no splits.

  Args:
    owner: the field and its value.
    at: the folder.
    asked: splits that a user names.
  """
  folders = [entry for entry in file_tree.entries(at) if is_folder(entry)]
  roles = {entry.name: splits.role(entry.name) for entry in folders}
  if "train" in roles.values() or asked - {SELF}:
    return roles
  within = {e.name: splits.role_within(e.name) for e in folders if any(map(is_folder, file_tree.entries(e.path)))}
  if "train" in within.values():
    others = [name for name in roles if not within.get(name)]
    if others:  # A class may well be called train_station.
      raise UsageError(
        f"{owner} holds {_like_splits(within)} by their names, and {listed(others)}; allowed are splits alone, or "
        f"{LAYOUT}"
      )
    return within
  return roles if any(roles.values()) and SELF not in asked else None


def _like_splits(roles: Roles) -> str:
  """The folders that are splits by a word in their names."""
  return ", ".join(f"{short(name)} ({its})" for name, its in roles.items() if its and splits.role(name) is None)


def _of_splits(at: str, names: tuple[str, ...], leftovers: Leftovers) -> dict[str, Files]:
  """The images of every class of some splits; classes whose names differ by their Unicode form alone are one."""
  found: dict[str, list[Files]] = {}
  for name in names:
    split = at if name == SELF else os.path.join(at, name)
    for entry in filter(is_folder, file_tree.entries(split)):
      try:
        entry.name.encode()
      except UnicodeEncodeError:  # Such a name could not be written to the report, hours later.
        raise UsageError(
          f"config.data.dir: {split!r} has the class folder {entry.name!r}; allowed are names in UTF-8"
        ) from None
      found.setdefault(plain(entry.name), []).append(file_tree.images(entry.path, at, leftovers))
    _count_files(split, at, leftovers)
  return {class_name: file_tree.joined(parts) for class_name, parts in found.items()}


def _others(folder: str, at: str, used: Sequence[Files]) -> int:
  """How many images lie in a folder, without those that links lead to from where images are used."""
  found = file_tree.images(folder, at, Leftovers())
  distinct = lambda parts: len(np.unique(file_tree.joined(parts).keys, axis=0))
  return distinct([*used, found]) - distinct(used) if used else len(found.paths)


def _count_files(folder: str, at: str, leftovers: Leftovers) -> None:
  """Counts the files in a folder that should hold nothing but folders."""
  for entry in file_tree.entries(folder):
    if not is_folder(entry):
      leftovers.add(OUTSIDE if file_tree.is_image(entry) else NO_IMAGES, entry.path[len(at) + 1 :])


def _check_layout(
  owner: str, root: pathlib.Path, named: dict[str, str], images: dict[str, dict[str, Files]], leftovers: Leftovers
) -> None:
  """Refuses what is likely to be another layout of folders, with the way out."""
  for part, classes in images.items():
    if not classes and leftovers.count(OUTSIDE):
      raise UsageError(
        f"{owner}: {named[part]} holds images, and no class folders; allowed are {LAYOUT}, or config.data.labels, a "
        "CSV file that tells the classes"
      )
    if part == "test" and not any(len(files.paths) for files in classes.values()):
      raise UsageError(
        f"{owner}: {named[part]} holds no images in class folders; allowed are test/<class>/*, or the folder of the "
        "train split as config.data.dir, of which a part is held out for the test"
      )
  if named.get("train") == SELF and len(images["train"]) == 1:
    (only,) = images["train"]
    raise UsageError(
      f"{owner} holds the folder {short(only)} alone; allowed are {LAYOUT}; is it config.data.dir={root / only}?"
    )


def _beside(root: pathlib.Path) -> list[str]:
  """What is said where the folder is a train split itself and others lie beside it."""
  here = root.resolve()
  if splits.role(here.name) != "train" or not os.access(here.parent, os.R_OK):
    return []
  others = sorted(path.name for path in here.parent.iterdir() if splits.role(path.name) in ("validation", "test"))
  return [f"not used, beside a train split: {listed(others)}; config.data.dir={here.parent} has all"] if others else []
