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
    matrix: `[channels, channels]`, which colours are multiplied with.
    mean: how much of the image's mean luma is added.
  """

  matrix: np.ndarray
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
  matrix = np.ones((1, 1))
  if channels == 3:
    matrix = LUMA + saturation * (math.cos(angle) * CHROMINANCE + math.sin(angle) * TURNED)
  return Change(brightness * contrast * matrix, brightness * (1 - contrast))


def apply(change: Change, image: np.ndarray) -> np.ndarray:
  """Changes a uint8 image, `[height, width]` or RGB `[height, width, 3]`; values are rounded and clipped once."""
  channels = len(change.matrix)
  mean = cv2.mean(image)
  luma = LUMA @ mean[:3] if channels == 3 else mean[0]
  colours = np.empty((channels, channels + 1))
  colours[:, :channels] = change.matrix
  colours[:, channels] = change.mean * luma
  return cv2.transform(image, colours)
