"""Where a photograph is cut: somewhere for the training, in the middle for the test."""

from collections.abc import Sequence
import math
from typing import NamedTuple

# Of Inception's crops (Szegedy et al., "Going deeper with convolutions", 2015), which DARTS takes on ImageNet too.
AREAS = (0.08, 1.0)  # Share of the photograph.
RATIOS = (3 / 4, 4 / 3)  # Width over height.
TRIES = 10
NUMBERS = 4 * TRIES  # Random numbers that a box takes.
MIDDLE = 224 / 256  # Of the shorter side: resized to 256, 224 are cut out. Other image sizes in proportion.


class Box(NamedTuple):
  """A part of an image, in pixels, at least one of them."""

  left: int
  top: int
  width: int
  height: int


def random_box(width: int, height: int, numbers: Sequence[float]) -> Box:
  """A box of random area, shape and place.

  Areas are drawn uniformly, ratios uniformly in their logarithm. Where no box of several fits, the largest one of an
  allowed ratio in the middle is taken.

  Args:
    width, height: of the photograph.
    numbers: `NUMBERS` of them, uniform in [0, 1).
  """
  low, high = map(math.log, RATIOS)
  for i in range(0, NUMBERS, 4):
    area, shape, x, y = numbers[i : i + 4]
    area = width * height * (AREAS[0] + (AREAS[1] - AREAS[0]) * area)
    ratio = math.exp(low + (high - low) * shape)
    across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < across <= width and 0 < down <= height:
      return Box(int(x * (width - across + 1)), int(y * (height - down + 1)), across, down)
  across, down = max(1, round(height * RATIOS[1])), max(1, round(width / RATIOS[0]))
  return _centred(width, height, min(width, across), min(height, down))


def middle_box(width: int, height: int) -> Box:
  """The square in the middle whose side is `MIDDLE` of the shorter side."""
  side = max(1, round(min(width, height) * MIDDLE))
  return _centred(width, height, side, side)


def whole_box(width: int, height: int) -> Box:
  """All of it."""
  return Box(0, 0, width, height)


def _centred(width, height, across, down):
  return Box((width - across) // 2, (height - down) // 2, across, down)
