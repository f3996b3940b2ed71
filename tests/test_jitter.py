import colorsys

import numpy as np
from PIL import Image
from PIL import ImageEnhance
import pytest

from lfr_darts_jax.data import jitter

# Far enough from black and white that nothing is clipped.
PIXELS = np.random.default_rng(0).integers(90, 140, (9, 7, 3), np.uint8)


def changed(pixels, numbers, strength=0.4, hue=0.0):
  channels = 1 if pixels.ndim == 2 else 3
  image = jitter.apply(jitter.draw(numbers, channels, strength, hue), pixels)
  assert image.dtype == np.uint8 and image.shape == pixels.shape
  return image.astype(int)


def test_nothing_changes_at_zero():
  np.testing.assert_array_equal(changed(PIXELS, (0.1, 0.7, 0.9, 0.2), strength=0.0), PIXELS)
  np.testing.assert_array_equal(changed(PIXELS[..., 0], (0.1, 0.7, 0.9, 0.2), strength=0.0), PIXELS[..., 0])


@pytest.mark.parametrize("number,factor", [(1.0, 1.4), (0.0, 0.6), (0.75, 1.2)])
@pytest.mark.parametrize(
  "at,enhance", [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)]
)
def test_one_change_is_pillows(at, enhance, number, factor):
  numbers = [0.5] * 4
  numbers[at] = number
  theirs = np.asarray(enhance(Image.fromarray(PIXELS)).enhance(factor)).astype(int)
  # Pillow rounds luma and mean to integers first.
  np.testing.assert_allclose(changed(PIXELS, numbers), theirs, atol=1)


def test_changes_together_are_those_one_after_another():
  numbers = (0.8, 0.3, 0.9, 0.6)
  pixels = PIXELS
  for at in (2, 0, 3, 1):
    alone = [0.5] * 4
    alone[at] = numbers[at]
    pixels = changed(pixels, alone, hue=0.2).astype(np.uint8)
  # Each alone is rounded.
  np.testing.assert_allclose(changed(PIXELS, numbers, hue=0.2), pixels, atol=3)


def test_hue_turns_the_chrominance():
  def turned(red, green, blue):
    y, i, q = colorsys.rgb_to_yiq(red / 255, green / 255, blue / 255)
    turn = complex(i, q) * np.exp(2j * np.pi * 0.2)
    return 255 * np.array(colorsys.yiq_to_rgb(y, turn.real, turn.imag))

  expected = np.apply_along_axis(lambda rgb: turned(*rgb), -1, PIXELS)
  # Its coefficients have two digits.
  np.testing.assert_allclose(changed(PIXELS, (0.5, 0.5, 0.5, 1.0), hue=0.2), expected, atol=2)
  grey = np.full((2, 2, 3), 77, np.uint8)
  np.testing.assert_array_equal(changed(grey, (0.5, 0.5, 0.5, 0.0), hue=0.5), 77)


def test_grey_images_change_like_grey_colours():
  grey = PIXELS[..., 0]
  numbers = (0.9, 0.2, 0.7, 0.6)
  np.testing.assert_array_equal(changed(grey, numbers, hue=0.2), changed(np.stack([grey] * 3, -1), numbers)[..., 0])


def test_values_are_clipped():
  bright = np.array([[[250, 250, 250], [200, 10, 10]]], np.uint8)
  assert changed(bright, (1.0, 0.5, 0.5, 0.5)).max() == 255
