"""Random changes of brightness, contrast, saturation and hue, as one affine map of colours.

Each of the four is affine in a pixel's colour, and any two of them commute, since saturation and hue leave both the
luma and grey as they are: together they are one small matrix, applied in a single pass over the image. PyTorch's
ColorJitter, which DARTS uses on ImageNet, rounds and clips after each, and turns the hue in HSV instead of the plane of
chrominance.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import cv2
import numpy as np

NUMBERS = 4  # Random numbers that a change takes.
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of red, green, blue.
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
# What to add to the luma: the chrominance, and the chrominance turned by a right angle.
CHROMINANCE, TURNED = np.linalg.inv(YIQ) @ np.array([np.diag([0, 1, 1]), [[0, 0, 0], [0, 0, -1], [0, 1, 0]]]) @ YIQ


class Change(NamedTuple):
  """A change of colours.

  Attributes:
    colours: `[channels, channels + 1]`: what colours are multiplied with, and a last column for what is added, which
      `apply` fills in.
    mean: how much of the image's mean luma that is.
  """

  colours: np.ndarray
  mean: float


def draw(numbers: Sequence[float], channels: int, strength: float, hue: float) -> Change:
  """Draws a change.

  Args:
    numbers: `NUMBERS` of them, uniform in [0, 1).
    channels: 3, or 1 for grey, which has neither saturation nor hue.
    strength: factors of brightness, contrast and saturation are drawn from 1 - strength to 1 + strength.
    hue: the hue is turned by up to so large a share of the circle, either way.
  """
  brightness, contrast, saturation = (1 + strength * (2 * n - 1) for n in numbers[:3])
  angle = 2 * math.pi * hue * (2 * numbers[3] - 1)
  colours = np.ones((channels, channels + 1))
  if channels == 3:
    colours[:, :3] = LUMA + saturation * (math.cos(angle) * CHROMINANCE + math.sin(angle) * TURNED)
  colours *= brightness * contrast
  return Change(colours, brightness * (1 - contrast))


def apply(change: Change, image: np.ndarray) -> np.ndarray:
  """Changes a uint8 image, `[height, width]` or RGB `[height, width, 3]`; values are rounded and clipped once."""
  red, green, blue, _ = cv2.mean(image)
  luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue if image.ndim == 3 else red
  change.colours[:, -1] = change.mean * luma
  return cv2.transform(image, change.colours)
