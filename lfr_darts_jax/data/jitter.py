"""Random changes of brightness, contrast, saturation and hue, as one affine map of colours.

Each of the four is affine in a pixel's colour, and any two of them commute, since saturation and hue leave both the luma
and grey as they are: together they are one small matrix, applied in a single pass over the image. PyTorch's ColorJitter,
which DARTS uses on ImageNet, rounds and clips after each, and turns the hue in HSV instead of the plane of chrominance.
"""

import math

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of red, green, blue.
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
# What to add to the luma: the chrominance, and the chrominance turned by a right angle.
CHROMINANCE, TURNED = np.linalg.inv(YIQ) @ np.array([np.diag([0, 1, 1]), [[0, 0, 0], [0, 0, -1], [0, 1, 0]]]) @ YIQ


def colour_map(mean: np.ndarray, strength: float, hue: float, rng: np.random.Generator) -> np.ndarray:
  """Draws a change of colours.

  Args:
    mean: of the image's pixels, `[channels]`, 1 or 3; contrast is changed around its luma.
    strength: factors of brightness, contrast and saturation are drawn from 1 - strength to 1 + strength.
    hue: the hue is turned by up to so large a share of the circle, either way. Grey images have none, nor saturation.
    rng: random numbers.

  Returns:
    `[channels, channels + 1]`: a matrix, and what is added.
  """
  brightness, contrast, saturation, turn = 2 * rng.random(4) - 1
  brightness, contrast, saturation = 1 + strength * brightness, 1 + strength * contrast, 1 + strength * saturation
  added = brightness * (1 - contrast)
  if len(mean) == 1:
    return np.array([[brightness * contrast, added * mean[0]]])
  angle = 2 * math.pi * hue * turn
  colours = np.empty((3, 4))
  colours[:, :3] = LUMA + saturation * (math.cos(angle) * CHROMINANCE + math.sin(angle) * TURNED)
  colours[:, :3] *= brightness * contrast
  colours[:, 3] = added * (LUMA @ mean)
  return colours
