"""From an encoded photograph to an image of the network's size, for the training or for the test."""

from collections.abc import Callable
import dataclasses
import functools
import io

import cv2
import ml_collections
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from lfr_darts_jax.data import crops
from lfr_darts_jax.data import image_folder
from lfr_darts_jax.data import jitter

_COLOUR = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_COLOUR[8] = cv2.IMREAD_REDUCED_COLOR_8
_GREY = {1: cv2.IMREAD_GRAYSCALE, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
_GREY[8] = cv2.IMREAD_REDUCED_GRAYSCALE_8
UPRIGHT = 1  # EXIF's orientation of an image that need not be turned.


@dataclasses.dataclass(frozen=True)
class TrainView:
  """What the training sees of a photograph: a random part of it, perhaps mirrored, its colours changed.

  Attributes:
    size: height and width, pixels.
    channels: 1 for grey, 3 for RGB.
    flip: whether half of the images are mirrored.
    jitter, hue: see `jitter.colour_map`.
  """

  size: int
  channels: int
  flip: bool
  jitter: float
  hue: float

  @property
  def shape(self) -> tuple[int, int, int]:
    """Of an image."""
    return self.size, self.size, self.channels

  @classmethod
  def of(cls, config: ml_collections.ConfigDict) -> "TrainView":
    """The view that a config asks for."""
    data = config.data
    return cls(data.image_size, data.channels, data.flip, data.jitter, data.hue)

  def __call__(self, encoded: bytes, rng: np.random.Generator) -> np.ndarray:
    """uint8 `[size, size, channels]`; raises what `cut` does."""
    image = cut(encoded, self.size, self.channels, functools.partial(crops.random_box, rng=rng))
    if self.flip and rng.random() < 0.5:
      image = cv2.flip(image, 1)
    if self.jitter or self.hue:
      mean = np.array(cv2.mean(image)[: self.channels])
      image = cv2.transform(image, jitter.colour_map(mean, self.jitter, self.hue, rng))
    return image.reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class TestView:
  """What the test sees of a photograph: its middle.

  Attributes:
    size: height and width, pixels.
    channels: 1 for grey, 3 for RGB.
  """

  __test__ = False  # It is no test case of pytest's.

  size: int
  channels: int

  @property
  def shape(self) -> tuple[int, int, int]:
    """Of an image."""
    return self.size, self.size, self.channels

  @classmethod
  def of(cls, config: ml_collections.ConfigDict) -> "TestView":
    """The view that a config asks for."""
    return cls(config.data.image_size, config.data.channels)

  def __call__(self, encoded: bytes, rng: np.random.Generator | None = None) -> np.ndarray:
    """uint8 `[size, size, channels]`; raises what `cut` does."""
    return cut(encoded, self.size, self.channels, crops.middle_box).reshape(self.shape)


def cut(encoded: bytes, size: int, channels: int, choose: Callable[[int, int], crops.Box]) -> np.ndarray:
  """Decodes a photograph and resizes a part of it.

  OpenCV decodes an ordinary JPEG, at an eighth, a quarter or half its size where the part is still no smaller than
  `size`; whatever else Pillow opens is read as by `image_folder.decode`. Then every pixel counts in the bilinear
  interpolation, which samples at twice its distance at most, or little more where the part is no square.

  Args:
    encoded: a file of one of `image_folder.FORMATS`.
    size: height and width to resize to, pixels.
    channels: 1 for grey, 3 for RGB.
    choose: from width and height to the part.

  Returns:
    uint8 `[size, size]`, of RGB `[size, size, 3]`.

  Raises:
    Exception: of any type, where the file is no whole image or has more than `Image.MAX_IMAGE_PIXELS` pixels.
  """
  with Image.open(io.BytesIO(encoded), formats=image_folder.FORMATS) as image:
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
      raise ValueError(f"{image.width}x{image.height} pixels; at most {Image.MAX_IMAGE_PIXELS} are allowed")
    if not _ordinary(image):
      pixels = np.asarray(image_folder.flatten(image, channels))
      box = choose(pixels.shape[1], pixels.shape[0])
      return _resize(pixels, box, 1, size)
    box = choose(*image.size)
  scale = next(s for s in (8, 4, 2, 1) if s == 1 or min(box.width, box.height) >= s * size)
  flags = (_COLOUR if channels == 3 else _GREY)[scale] | cv2.IMREAD_IGNORE_ORIENTATION
  decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  if decoded is None:
    raise ValueError("the JPEG data are not whole")
  resized = _resize(decoded, box, scale, size)
  return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB) if channels == 3 else resized


def _ordinary(image):
  """Whether OpenCV reads an open image as Pillow does: a grey or RGB JPEG that stands upright."""
  if image.format != "JPEG" or image.mode not in ("L", "RGB"):
    return False
  return "exif" not in image.info or image.getexif().get(Base.Orientation, UPRIGHT) == UPRIGHT


def _resize(pixels, box, scale, size):
  rows = slice(box.top // scale, -(-(box.top + box.height) // scale))
  columns = slice(box.left // scale, -(-(box.left + box.width) // scale))
  return cv2.resize(pixels[rows, columns], (size, size), interpolation=cv2.INTER_LINEAR)
