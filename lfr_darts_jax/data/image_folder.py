"""Images of the user's own: `train/<class>/*` and optionally `test/<class>/*`, of whatever kind and quality."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import pathlib
from typing import NamedTuple
import warnings

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from lfr_darts_jax.errors import UsageError

Arrays = tuple[np.ndarray, np.ndarray]
IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
# What the suffixes promise, whichever of them a file has. Pillow opens more by content: an EPS file named .png would
# start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
TIFF_WHITE_IS_ZERO = 0  # Pillow inverts such images of up to 8 bits alone.
HELD_OUT = 5  # One in so many images is kept for the test where the folder has no test split.
SHOWN = 10  # Names in an error message.


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


def load_folder(
  listing: Listing, size: int, channels: int, split_seed: int, skip_bad_files: bool
) -> tuple[Arrays, Arrays, tuple[str, ...]]:
  """Decodes every image of a folder, both splits, so that a bad file is reported before a search and not after it.

  Args:
    listing: its images. Without a test split a fifth of each class is held out; bad files that are skipped change
      nothing else, as if they had been deleted.
    size: height and width that images are resized to, pixels.
    channels: 1 for grey, 3 for RGB.
    split_seed: of the fifth.
    skip_bad_files: whether files that `decode` refuses are left out.

  Returns:
    uint8 images `[n, size, size, channels]` and int32 labels `[n]` of the train split, the same of the test split, and
    the files left out, as paths relative to the folder.

  Raises:
    UsageError: where a class has no image left, or files are bad and not to be skipped.
  """
  root, class_names, files, has_test = listing
  train = root / "train"
  images, groups, bad = _decode_all([(path, i) for i, found in enumerate(files) for path in found], size, channels)
  skipped = tuple(_relative(path, root) for path in bad)
  if skipped and not skip_bad_files:
    raise UsageError(
      f"config.data.dir: {len(bad)} of {len(images) + len(bad)} files in {_shown(root)} can't be read as images: "
      f"{_list(skipped)}; allowed are whole {', '.join(FORMATS)} files of at most {Image.MAX_IMAGE_PIXELS} pixels, or "
      "--config.data.skip_bad_files=True, which leaves the others out"
    )
  counts = np.bincount(groups, minlength=len(files)).tolist()
  _check_classes(train, class_names, counts[: len(class_names)], "no image left after bad files are skipped")
  labels = (groups % len(class_names)).astype(np.int32)
  held_out = groups >= len(class_names) if has_test else _held_out(counts, split_seed)
  if has_test and not held_out.any():
    raise UsageError(
      f"config.data.dir: {_shown(root / 'test')} holds no image that is not skipped as bad; at least one is needed"
    )
  _check_held_out(train, held_out)
  return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out]), skipped


class EncodedFolder:
  """Images of a folder at random access, as they are on the disk; a source of `stream.Stream`."""

  def __init__(self, root: pathlib.Path, files: Sequence[pathlib.Path], labels: np.ndarray):
    """Takes files below a folder, and their labels."""
    self._root, self._labels = os.fsencode(root), labels
    # A million paths as objects would take a gigabyte, in every worker.
    self._files = np.array([os.fsencode(path.relative_to(root)) for path in files])

  def __len__(self) -> int:
    """Number of images."""
    return len(self._files)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """Encoded images and their labels."""
    return [(_content(self._path(i)), int(self._labels[i])) for i in indices]

  def name(self, index: int) -> str:
    """What to call an image in a message."""
    return _shown(self._path(index))

  def _path(self, index):
    return pathlib.Path(os.fsdecode(os.path.join(self._root, self._files[index])))


def encoded_folder(listing: Listing, split_seed: int) -> tuple[EncodedFolder, EncodedFolder]:
  """The train split and the test split of a folder, none of whose images is read; arguments as of `load_folder`.

  Raises:
    UsageError: where there is nothing to be held out.
  """
  root, class_names, files, has_test = listing
  counts = list(map(len, files))
  groups = np.repeat(np.arange(len(files)), counts)
  held_out = groups >= len(class_names) if has_test else _held_out(counts, split_seed)
  _check_held_out(root / "train", held_out)
  everything, labels = [path for found in files for path in found], (groups % len(class_names)).astype(np.int32)
  part = lambda mask: EncodedFolder(root, [everything[i] for i in np.flatnonzero(mask)], labels[mask])
  return part(~held_out), part(held_out)


def decode(path: pathlib.Path, size: int, channels: int) -> np.ndarray:
  """Decodes one image: the first frame, upright as EXIF says, 8 bits a channel, resized without keeping its aspect.

  Transparent images are laid over white, whatever colour hides where they are transparent: logos, icons and drawings,
  most of what has transparency, are made for a white page, and their black strokes would vanish over black.

  Args:
    path: a file of one of `FORMATS`, which its content decides, not its name.
    size: height and width to resize to, pixels.
    channels: 1 for grey, 3 for RGB.

  Returns:
    uint8 `[size, size, channels]`.

  Raises:
    Exception: of any type, where the file is no whole image, has more than `Image.MAX_IMAGE_PIXELS` pixels, or numbers
      whose range is unknown (32-bit, signed or floating-point grey).
  """
  _check_file(path)
  with _warnings(), Image.open(path, formats=FORMATS) as image:
    ImageOps.exif_transpose(image, in_place=True)
    resized = _eight_bits(image).resize((size, size), Image.Resampling.BILINEAR)
  return np.asarray(_over_white(resized, channels)).reshape(size, size, channels)


def flatten(image: Image.Image, channels: int) -> Image.Image:
  """An open image at its own size as `decode` sees it; raises what that does."""
  with _warnings():
    ImageOps.exif_transpose(image, in_place=True)
    return _over_white(_eight_bits(image), channels)


def _content(path):
  _check_file(path)
  return path.read_bytes()


def _check_file(path):
  if not path.is_file():
    raise OSError(f"{path} is no file")  # A named pipe, for one, would block for ever.


@contextlib.contextmanager
def _warnings():
  with warnings.catch_warnings():
    # Of odd metadata, once a file, while the image is whole.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Between its limit and twice that, Pillow only warns.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    yield


def _over_white(image, channels):
  if image.mode == "RGBA":
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(image):
  """Converts an image to L, RGB or RGBA; the latter where it has transparency of any kind."""
  if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
    image = _high_byte(image)
  if image.mode in ("I", "F"):
    raise ValueError(f"mode {image.mode}: the values of black and white are unknown")
  if image.has_transparency_data:
    return image.convert("RGBA")
  return image if image.mode == "L" else image.convert("RGB")


def _high_byte(image):
  """Scales grey of 16 or, in TIFF, 12 bits, which Pillow would clip at 255, as it scales 16-bit colour."""
  tags = image.tag_v2 if image.format == "TIFF" else {}
  bits = tags.get(BITSPERSAMPLE, (16,))[0]
  grey = np.asarray(image)
  if tags.get(PHOTOMETRIC_INTERPRETATION) == TIFF_WHITE_IS_ZERO:
    grey = 2**bits - 1 - grey
  scaled = Image.fromarray((grey >> (bits - 8)).astype(np.uint8))
  if "transparency" in image.info:
    opaque = grey != image.info["transparency"]
    scaled.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
  return scaled


def _decode_all(files, size, channels):
  """Decodes `(path, group)` pairs to images, their groups and the paths of bad files; holds one file at a time."""
  images = np.empty((len(files), size, size, channels), np.uint8)
  groups, bad = [], []
  for path, group in files:
    try:
      images[len(groups)] = decode(path, size, channels)
    except MemoryError:
      raise  # That is the machine's fault, not the file's.
    except Exception:  # Decoders raise all sorts of errors on broken files; each means a bad one.
      bad.append(path)
    else:
      groups.append(group)
  return images[: len(groups)], np.array(groups, np.int32), bad


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


def _check_held_out(train, held_out):
  if not held_out.any():
    raise UsageError(
      f"config.data.dir: {_shown(train)} has one image per class; at least one class with two is allowed, or a test "
      "folder beside it"
    )


def _held_out(counts, split_seed):
  """Draws a fifth of each class as a mask over images in order of class."""
  rng = np.random.default_rng([split_seed, 2])
  masks = []
  for count in counts:
    # Two images are needed for one in each part; a class with a single one is trained on only.
    cut = min(max(round(count / HELD_OUT), 1), count - 1)
    masks.append(np.isin(np.arange(count), rng.permutation(count)[:cut]))
  return np.concatenate(masks)


def _class_names(train):
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


def _check_classes(train, class_names, counts, missing):
  empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
  if empty:
    raise UsageError(
      f"config.data.dir: {_shown(train)}: {len(empty)} of {len(class_names)} classes have {missing}: {_list(empty)}; "
      "allowed are classes with at least one"
    )


def _image_files(folder, class_names):
  return [
    sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
    for name in class_names
  ]


def _list(names):
  """The first names on one line; repr escapes line breaks and control characters."""
  more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
  return ", ".join(map(repr, names[:SHOWN])) + more


def _relative(path, root):
  """The path below root as text that can be written as UTF-8; other bytes become backslash escapes."""
  return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _shown(path):
  return repr(str(path))


def _suffixes():
  return f"*{', *'.join(sorted(IMAGE_SUFFIXES))}"
