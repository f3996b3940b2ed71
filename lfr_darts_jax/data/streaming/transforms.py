"""From an encoded photograph to an image of the network's size, for the training or for the test.

OpenCV decodes an ordinary JPEG, at an eighth, a quarter or half its size where the wanted part is still no smaller than
the image; bilinear interpolation then reaches nearly every pixel. Whatever else Pillow opens is read as
`decoding.decode` does.
"""

from collections.abc import Sequence
import dataclasses
import io
import math
from typing import Any, NamedTuple

import cv2
import ml_collections
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import decoding

COLOUR = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
COLOUR[8] = cv2.IMREAD_REDUCED_COLOR_8
GREY = {1: cv2.IMREAD_GRAYSCALE, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
GREY[8] = cv2.IMREAD_REDUCED_GRAYSCALE_8
TURNED, ACROSS = range(2, 9), range(5, 9)  # EXIF's orientations that are not upright; those that swap the sides.

# Of Inception's crops (Szegedy et al., "Going deeper with convolutions", 2015), which DARTS takes on ImageNet too.
AREAS = (0.08, 1.0)  # Share of the photograph.
RATIOS = (3 / 4, 4 / 3)  # Width over height.
TRIES = 10
CENTRE = 224 / 256  # Of the shorter side: resized to 256, 224 are cut out. Other image sizes in proportion.

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of red, green, blue.
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
# What to add to the luma: the chrominance, and the chrominance turned by a right angle.
CHROMINANCE, TURNED_CHROMINANCE = (
  np.linalg.inv(YIQ) @ np.array([np.diag([0, 1, 1]), [[0, 0, 0], [0, 0, -1], [0, 1, 0]]]) @ YIQ
)


class Box(NamedTuple):
  """A part of an image, in pixels, at least one of them."""

  left: int
  top: int
  width: int
  height: int


@dataclasses.dataclass(frozen=True)
class Transform:
  """What the network sees of photographs.

  Attributes:
    size: height and width, pixels.
    channels: 1 for grey, 3 for RGB.
    crop: "random", "centre" or "whole".
    flip: whether half of the images are mirrored.
    jitter, hue: see `jitter_matrix`.
  """

  size: tuple[int, int]
  channels: int
  crop: str = "whole"
  flip: bool = False
  jitter: float = 0.0
  hue: float = 0.0

  def __call__(self, encoded: bytes, rng: np.random.Generator) -> np.ndarray:
    """Decodes and transforms a photograph.

    Args:
      encoded: a file of one of `decoding.FORMATS`.
      rng: for what is random.

    Returns:
      uint8 `[*size, channels]`.

    Raises:
      Exception: of any type, where the file is no whole image.
    """
    width, height, ordinary = _header(encoded)
    if self.crop == "random":
      box = random_box(width, height, rng.random((TRIES, 4)).tolist(), self.aspect)
    else:
      box = self._fixed_box(width, height)
    image: Any = self._resized(*self._decode(encoded, box, ordinary), box)
    if ordinary and self.channels == 3:
      image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if self.flip and rng.random() < 0.5:
      image = cv2.flip(image, 1)
    if self.jitter or self.hue:
      image = change_colours(image, *jitter_matrix(rng.random(4).tolist(), self.channels, self.jitter, self.hue))
    return image.reshape(*self.size, self.channels)

  def of_pixels(self, pixels: np.ndarray) -> np.ndarray:
    """What a transform without anything random sees of uint8 pixels `[height, width, channels]`; see `__call__`."""
    height, width = pixels.shape[:2]
    return self._resized(pixels, 1, self._fixed_box(width, height)).reshape(*self.size, self.channels)

  @property
  def aspect(self) -> float:
    """Width over height of what the network sees."""
    return self.size[1] / self.size[0]

  def _fixed_box(self, width: int, height: int) -> Box:
    return centre_box(width, height, self.aspect) if self.crop == "centre" else Box(0, 0, width, height)

  def _resized(self, pixels: np.ndarray, scale: int, box: Box) -> np.ndarray:
    rows = slice(round(box.top / scale), round((box.top + box.height) / scale))
    columns = slice(round(box.left / scale), round((box.left + box.width) / scale))
    return cv2.resize(pixels[rows, columns], self.size[::-1], interpolation=cv2.INTER_LINEAR)

  def _decode(self, encoded: bytes, box: Box, ordinary: bool) -> tuple[np.ndarray, int]:
    """The photograph's pixels, and by how much they are fewer along each side."""
    if not ordinary:
      return decoding.decode(encoded, self.channels), 1
    larger = min(box.height / self.size[0], box.width / self.size[1])
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or larger >= s)
    flags = (COLOUR if self.channels == 3 else GREY)[scale] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if pixels is None:
      raise ValueError("its data are not whole")
    return pixels, scale


def train_transform(config: ml_collections.ConfigDict) -> Transform:
  """What a training sees; what `augment.crop_and_flip` does on the device is left to it."""
  data, inception = config.data, config.data.augmentation == "inception"
  crop = "random" if inception else "whole"
  size = schema.image_shape(config)[:2]
  return Transform(size, data.channels, crop, data.flip == "random" and inception, data.jitter, data.hue)


def test_transform(config: ml_collections.ConfigDict) -> Transform:
  """What a test sees."""
  return Transform(schema.image_shape(config)[:2], config.data.channels, config.data.test_view)


def random_box(width: int, height: int, numbers: Sequence[Sequence[float]], aspect: float = 1.0) -> Box:
  """A box of random area, shape and place.

  Areas are drawn uniformly, ratios uniformly in their logarithm. Where no box of several fits, the largest one of an
  allowed ratio in the middle is taken.

  Args:
    width, height: of the photograph, pixels.
    numbers: four of them, uniform in [0, 1), for every try.
    aspect: of what the box is resized to, width over height, by which its ratio is changed, so that things keep the
      shapes that they have in a square.
  """
  low, high = map(math.log, RATIOS)
  for area, shape, x, y in numbers:
    area = width * height * (AREAS[0] + (AREAS[1] - AREAS[0]) * area)
    ratio = aspect * math.exp(low + (high - low) * shape)
    across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < across <= width and 0 < down <= height:
      return Box(int(x * (width - across + 1)), int(y * (height - down + 1)), across, down)
  across, down = max(1, round(height * aspect * RATIOS[1])), max(1, round(width / (aspect * RATIOS[0])))
  return _centred(width, height, min(width, across), min(height, down))


def centre_box(width: int, height: int, aspect: float = 1.0) -> Box:
  """The box in the middle, of an aspect of width over height, whose sides are `CENTRE` of the largest one's."""
  across, down = min(width, height * aspect), min(height, width / aspect)
  return _centred(width, height, max(1, round(across * CENTRE)), max(1, round(down * CENTRE)))


def jitter_matrix(numbers: Sequence[float], channels: int, strength: float, hue: float) -> tuple[np.ndarray, float]:
  """A random change of brightness, contrast, saturation and hue, as one affine map of colours.

  Each of the four is affine in a pixel's colour, and any two of them commute, since saturation and hue keep both the
  luma and grey. PyTorch's ColorJitter, which DARTS uses on ImageNet, rounds and clips after each, and turns the hue in
  HSV instead of the plane of chrominance.

  Args:
    numbers: four of them, uniform in [0, 1).
    channels: 3, or 1 for grey, which has neither saturation nor hue.
    strength: factors of brightness, contrast and saturation are drawn from 1 - strength to 1 + strength.
    hue: the hue is turned by up to so large a share of the circle, either way.

  Returns:
    `[channels, channels]` to multiply colours with, and how much of the image's mean luma is added.
  """
  brightness, contrast, saturation = (1 + strength * (2 * n - 1) for n in numbers[:3])
  angle = 2 * math.pi * hue * (2 * numbers[3] - 1)
  colours = np.ones((1, 1))
  if channels == 3:
    colours = LUMA + saturation * (math.cos(angle) * CHROMINANCE + math.sin(angle) * TURNED_CHROMINANCE)
  return brightness * contrast * colours, brightness * (1 - contrast)


def change_colours(image: np.ndarray, matrix: np.ndarray, mean: float) -> np.ndarray:
  """Applies a `jitter_matrix` to a uint8 image, `[height, width]` or RGB; values are rounded and clipped once."""
  red, green, blue, _ = cv2.mean(image)
  luma = LUMA @ (red, green, blue) if image.ndim == 3 else red
  return cv2.transform(image, np.column_stack([matrix, np.full(len(matrix), mean * luma)]))


def _header(encoded: bytes) -> tuple[int, int, bool]:
  """Width and height of a photograph that stands upright; whether OpenCV reads it as Pillow does."""
  with Image.open(io.BytesIO(encoded), formats=decoding.FORMATS) as image:
    width, height = image.size
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):
      raise ValueError(f"{width}x{height} pixels; at most {Image.MAX_IMAGE_PIXELS} are allowed")
    orientation = image.getexif().get(Base.Orientation) if "exif" in image.info or image.format != "JPEG" else None
    if orientation in ACROSS:
      width, height = height, width
    return width, height, image.format == "JPEG" and image.mode in ("L", "RGB") and orientation not in TURNED


def _centred(width: int, height: int, across: int, down: int) -> Box:
  return Box((width - across) // 2, (height - down) // 2, across, down)
