"""From an encoded photograph to an image of the network's size, for the training or for the test.

OpenCV decodes an ordinary JPEG, at an eighth, a quarter or half its size where the part that is wanted is still no
smaller than the image. Bilinear interpolation then reaches every pixel, or nearly. Whatever else Pillow opens is read
as `image_folder.decode` does.
"""

import dataclasses
import io
from typing import Any
from typing import NamedTuple
from typing import Protocol

import cv2
import ml_collections
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from lfr_darts_jax.data import crops
from lfr_darts_jax.data import image_folder
from lfr_darts_jax.data import jitter

NUMBERS = crops.NUMBERS + jitter.NUMBERS + 4  # Random numbers that a view takes: one more, and to a multiple of four.
COLOUR = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
COLOUR[8] = cv2.IMREAD_REDUCED_COLOR_8
GREY = {1: cv2.IMREAD_GRAYSCALE, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
GREY[8] = cv2.IMREAD_REDUCED_GRAYSCALE_8
TURNED, ACROSS = range(2, 9), range(5, 9)  # EXIF's orientations that are not upright; those that swap the sides.


class Plan(NamedTuple):
  """What becomes of a photograph.

  Attributes:
    box: the part that is resized.
    scale: OpenCV decodes one pixel of so many by so many; 0 where Pillow decodes.
    mirrored: whether left and right are swapped.
    change: of its colours.
  """

  box: crops.Box
  scale: int
  mirrored: bool = False
  change: jitter.Change | None = None


class View(Protocol):
  """What the network sees of photographs."""

  @property
  def size(self) -> int:
    """Height and width, pixels."""

  @property
  def channels(self) -> int:
    """1 for grey, 3 for RGB."""

  def plan(self, encoded: bytes, numbers: list[float]) -> Plan:
    """Looks at a photograph's header and at `NUMBERS` random numbers, uniform in [0, 1)."""


@dataclasses.dataclass(frozen=True)
class TrainView:
  """A random part of it or all of it, perhaps mirrored, its colours changed.

  Attributes:
    size, channels: see `View`.
    flip: whether half of the images are mirrored.
    jitter, hue: see `jitter.draw`.
    whole: whether all of it is seen, in place of a random part.
  """

  size: int
  channels: int
  flip: bool
  jitter: float
  hue: float
  whole: bool = False

  @classmethod
  def of(cls, config: ml_collections.ConfigDict) -> "TrainView":
    """The view that a config asks for; what `augment.crop_and_flip` does on the device is left to it."""
    data = config.data
    inception = data.augmentation == "inception"
    return cls(data.image_size, data.channels, data.flip and inception, data.jitter, data.hue, not inception)

  def plan(self, encoded: bytes, numbers: list[float]) -> Plan:
    """See `View`."""
    width, height, ordinary = _header(encoded)
    coin, *others = numbers[crops.NUMBERS :]
    box = crops.whole_box(width, height) if self.whole else crops.random_box(width, height, numbers)
    changed = self.jitter or self.hue
    change = jitter.draw(others, self.channels, self.jitter, self.hue) if changed else None
    return Plan(box, _scale(box, self.size) if ordinary else 0, self.flip and coin < 0.5, change)


@dataclasses.dataclass(frozen=True)
class TestView:
  """Its middle or all of it.

  Attributes:
    size, channels: see `View`.
    whole: whether all of it is seen.
  """

  __test__ = False  # No test case of pytest's.

  size: int
  channels: int
  whole: bool = False

  @classmethod
  def of(cls, config: ml_collections.ConfigDict) -> "TestView":
    """The view that a config asks for."""
    return cls(config.data.image_size, config.data.channels, config.data.test_view == "whole")

  def plan(self, encoded: bytes, numbers: list[float]) -> Plan:
    """See `View`."""
    width, height, ordinary = _header(encoded)
    box = crops.whole_box(width, height) if self.whole else crops.middle_box(width, height)
    return Plan(box, _scale(box, self.size) if ordinary else 0)


def take(encoded: bytes, plan: Plan, size: int, channels: int) -> np.ndarray:
  """Carries a plan out.

  Args:
    encoded: a file of one of `image_folder.FORMATS`.
    plan: of a `View`.
    size: height and width to resize to, pixels.
    channels: 1 for grey, 3 for RGB.

  Returns:
    uint8 `[size, size]`, of RGB `[size, size, 3]`.

  Raises:
    Exception: of any type, where the file is no whole image.
  """
  if plan.scale:
    flags = (COLOUR if channels == 3 else GREY)[plan.scale] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if pixels is None:
      raise ValueError("its data are not whole")
  else:
    with Image.open(io.BytesIO(encoded), formats=image_folder.FORMATS) as image:
      pixels = np.asarray(image_folder.flatten(image, channels))
  box, scale = plan.box, plan.scale or 1
  rows = slice(round(box.top / scale), round((box.top + box.height) / scale))
  columns = slice(round(box.left / scale), round((box.left + box.width) / scale))
  resized: Any = cv2.resize(pixels[rows, columns], (size, size), interpolation=cv2.INTER_LINEAR)
  if plan.scale and channels == 3:
    resized = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
  if plan.mirrored:
    resized = cv2.flip(resized, 1)
  return resized if plan.change is None else jitter.apply(plan.change, resized)


def _header(encoded):
  """Width and height of a photograph that stands upright; whether OpenCV reads it as Pillow does."""
  with Image.open(io.BytesIO(encoded), formats=image_folder.FORMATS) as image:
    width, height = image.size
    if width * height > Image.MAX_IMAGE_PIXELS:
      raise ValueError(f"{width}x{height} pixels; at most {Image.MAX_IMAGE_PIXELS} are allowed")
    orientation = image.getexif().get(Base.Orientation) if "exif" in image.info or image.format != "JPEG" else None
    if orientation in ACROSS:
      width, height = height, width
    return width, height, image.format == "JPEG" and image.mode in ("L", "RGB") and orientation not in TURNED


def _scale(box, size):
  return next(s for s in (8, 4, 2, 1) if s == 1 or min(box.width, box.height) >= s * size)
