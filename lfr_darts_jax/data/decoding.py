"""Encoded images of whatever kind and quality as pixels, by Pillow."""

from collections.abc import Iterator
import contextlib
import io
import os
from typing import Any, Protocol
import warnings

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

Arrays = tuple[np.ndarray, np.ndarray]
# Pillow opens more by content, whatever a file's name: an EPS file named .png would start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# By what files begin with, of the formats that come in large numbers: JPEG and PNG.
ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"\0\0\0\0IEND\xaeB`\x82"}
TIFF_WHITE_IS_ZERO = 0  # Pillow inverts such images of up to 8 bits alone.


class Source(Protocol):
  """Encoded images at random access; to be pickled, since processes read from it."""

  def __len__(self) -> int:
    """Number of images."""

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its label; raises OSError where it can't be read."""

  def name(self, index: int) -> str:
    """What to call an image in a message, on one line."""

  def labels(self) -> np.ndarray:
    """`[n]` int32, of all images; raises OSError where they lie with the images and one can't be read."""


def is_image(path: str) -> bool:
  """Whether the first bytes of a file are those of one of `FORMATS`, whole or not; raises OSError."""
  with open(path, "rb") as file, quiet():
    try:
      Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
      pass
    except Exception:  # Of any type, where it begins like one and goes on otherwise.
      return False
    return True


def seems_whole(path: str) -> bool:
  """Whether a file is likely to be decoded, mostly at the cost of a look at its beginning and its end.

  What is of no format that comes in large numbers, or ends otherwise, is decoded: some have something behind the image.
  To be called `quiet`; raises OSError.
  """
  with open(path, "rb") as file:
    start, size = file.read(12), os.fstat(file.fileno()).st_size
    if start[:4] + start[8:] == b"RIFFWEBP" and int.from_bytes(start[4:8], "little") + 8 == size:
      return True
    for magic, end in ENDS.items():
      if start.startswith(magic) and size > len(start):
        file.seek(size - len(end))
        if file.read() == end:
          return True
    file.seek(0)
    encoded = file.read()
  try:
    _decode(encoded, 1, None)
  except MemoryError:
    raise  # That is the machine's fault, not the file's.
  except Exception:  # Decoders raise all sorts of errors on broken files.
    return False
  return True


def decode_all(source: Source, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Decodes every image of a source; holds one file at a time.

  Args:
    source: the images.
    shape: height, width and channels of what is returned; images of other sizes are resized.

  Returns:
    uint8 images `[n, *shape]`, their int32 labels `[n]`, and the indices of bad ones, which are left out.
  """
  images = np.empty((len(source), *shape), np.uint8)
  labels: list[int] = []
  bad: list[int] = []
  for index in range(len(source)):
    try:
      encoded, label = source[index]
      images[len(labels)] = decode(encoded, shape[2], shape[:2])
    except MemoryError:
      raise  # That is the machine's fault, not the file's.
    except Exception:  # Decoders raise all sorts of errors on broken files; each means a bad one.
      bad.append(index)
    else:
      labels.append(label)
  return images[: len(labels)], np.array(labels, np.int32), bad


def decode(encoded: bytes, channels: int, size: tuple[int, ...] | None = None) -> np.ndarray:
  """Decodes one image: the first frame, upright as EXIF says, 8 bits a channel.

  Transparent images are laid over white, whatever colour hides where they are transparent: logos, icons and drawings,
  most of what has transparency, are made for a white page, and their black strokes would vanish over black.

  Args:
    encoded: a file of one of `FORMATS`.
    channels: 1 for grey, 3 for RGB.
    size: height and width to resize to, pixels, without keeping the aspect; None for its own.

  Returns:
    uint8 `[height, width, channels]`.

  Raises:
    Exception: of any type, where the file is no whole image, has more than `Image.MAX_IMAGE_PIXELS` pixels, or numbers
      whose range is unknown (32-bit, signed or floating-point grey).
  """
  with quiet():
    return _decode(encoded, channels, size)


def _decode(encoded: bytes, channels: int, size: tuple[int, ...] | None) -> np.ndarray:
  with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
    return pixels(image, channels, size)


def pixels(image: Image.Image, channels: int, size: tuple[int, ...] | None = None) -> np.ndarray:
  """What `decode` makes of a file that Pillow has opened, or of an image that it made; the same arguments and errors.

  Where EXIF says so the image itself is turned.
  """
  ImageOps.exif_transpose(image, in_place=True)
  upright = _eight_bits(image)
  if size is not None:
    height, width = size
    upright = upright.resize((width, height), Image.Resampling.BILINEAR)
  return np.asarray(_over_white(upright, channels)).reshape(upright.height, upright.width, channels)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Passes over Pillow's warnings, but for that of images too large, which becomes an error."""
  with warnings.catch_warnings():
    # Of odd metadata, once a file, while the image is whole.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Between its limit and twice that, Pillow only warns.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    yield


def _over_white(image: Image.Image, channels: int) -> Image.Image:
  if image.mode == "RGBA":
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
  """Converts an image to L, RGB or RGBA; the latter where it has transparency of any kind."""
  if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
    image = _high_byte(image)
  if image.mode in ("I", "F"):
    raise ValueError(f"mode {image.mode}: the values of black and white are unknown")
  if image.has_transparency_data:
    return image.convert("RGBA")
  return image if image.mode == "L" else image.convert("RGB")


def _high_byte(image: Any) -> Image.Image:
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
