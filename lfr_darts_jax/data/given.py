"""Images that a user gives to be classified: arrays, images of Pillow, files, folders, patterns, and lists of these."""

from collections.abc import Sequence
import glob
import os
import pathlib
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from lfr_darts_jax.data import file_tree
from lfr_darts_jax.data.file_tree import NO_IMAGES, Leftovers
from lfr_darts_jax.errors import UsageError, short
from lfr_darts_jax.runtime import paths

Given: TypeAlias = Any  # What `items` takes, which nests.
COLOURS = (1, 3, 4)  # Channels of one image: grey, RGB, RGBA.


class Item(NamedTuple):
  """One image.

  Attributes:
    name: its path; None where it is no file.
    image: its path, an image of Pillow's, or uint8 `[height, width, channels]` as the network sees it.
  """

  name: str | None
  image: str | Image.Image | np.ndarray


def items(given: Given, shape: tuple[int, ...], leftovers: Leftovers) -> list[Item]:
  """Lists images; no file is decoded yet.

  Args:
    given: uint8 `[n, *shape]`, images as the network sees them; one image of any size, as uint8 `[height, width]` or
      `[height, width, 1, 3 or 4]` or as Pillow has it; a path or a pattern, see `files`; a list of these.
    shape: height, width and channels of what the network sees.
    leftovers: where is counted what is not used.

  Raises:
    UsageError: where it is something else, or as of `files`.
  """
  if isinstance(given, str | os.PathLike):
    return [Item(path, path) for path in files(os.fspath(given), leftovers)]
  if isinstance(given, Image.Image):
    return [Item(None, given)]
  if isinstance(given, Sequence) and not isinstance(given, bytes):
    return [item for part in given for item in items(part, shape, leftovers)]
  if not hasattr(given, "__array__"):
    raise UsageError(f"images: {short(given)}; allowed are arrays, PIL images, paths, folders, and lists of these")
  array = np.asarray(given)
  if array.dtype == np.uint8 and array.shape[1:] == shape:
    return [Item(None, image) for image in array]
  if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in COLOURS)) and array.size:
    return [Item(None, Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array))]
  allowed = ", ".join(map(str, ("n", *shape)))
  raise UsageError(
    f"images: {array.dtype}{list(array.shape)}; allowed are uint8[{allowed}], and one image, uint8[height, width] or "
    "uint8[height, width, 1, 3 or 4]"
  )


def files(pattern: str, leftovers: Leftovers) -> list[str]:
  """The files that a pattern names.

  Args:
    pattern: a file; a folder, for the images in it and in those below it; or a glob of these, such as `scans/*.png`,
      where `**` stands for folders of any depth.
    leftovers: where is counted what is not used: in folders and of globs, what is no image. A file that is named
      itself is taken for one.

  Returns:
    Their paths, in the order of their names, each once.

  Raises:
    UsageError: where there is nothing, or a folder can't be read.
  """
  place = paths.expanded(pattern)
  if os.path.isdir(place):
    return _images_in(place, leftovers)
  if os.path.lexists(place):
    return [place]
  found = [path for path in sorted(glob.glob(place, recursive=True)) if not _is_litter(path, place)]
  if not found:
    raise UsageError(f"images: {pattern!r} is no file or folder here, and no pattern of any; allowed is one that is")
  listed: dict[str, None] = {}
  for path in found:
    if os.path.isdir(path):
      listed |= dict.fromkeys(_images_in(path, leftovers))
    elif file_tree.is_image(pathlib.Path(path)):
      listed[path] = None
    else:
      leftovers.add(NO_IMAGES, path)
  return list(listed)


def _images_in(folder: str, leftovers: Leftovers) -> list[str]:
  folder = folder.rstrip(os.sep) or os.sep
  found = file_tree.images(folder, folder, leftovers, "images").paths
  return [os.path.join(folder, os.fsdecode(path)) for path in found]


def _is_litter(path: str, pattern: str) -> bool:
  """Whether a part of a path is litter that the pattern does not spell out."""
  named = set(pattern.split(os.sep))
  return any(file_tree.is_litter(part) for part in path.split(os.sep) if part not in named and part not in (".", ".."))
