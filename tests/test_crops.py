import math

import numpy as np
import pytest

from lfr_darts_jax.data import crops


def boxes(width, height, count=2000):
  rng = np.random.default_rng(0)
  return [crops.random_box(width, height, rng.random(crops.NUMBERS).tolist()) for _ in range(count)]


@pytest.mark.parametrize("width,height", [(500, 375), (100, 333), (8, 8)])
def test_random_boxes_lie_within_and_have_the_allowed_areas_and_ratios(width, height):
  for box in boxes(width, height):
    assert box.left >= 0 and box.left + box.width <= width and box.width >= 1
    assert box.top >= 0 and box.top + box.height <= height and box.height >= 1
    # Sides are rounded to pixels.
    assert (box.width + 0.5) * (box.height + 0.5) >= 0.08 * width * height
    assert (box.width - 0.5) / (box.height + 0.5) <= 4 / 3 and (box.width + 0.5) / (box.height - 0.5) >= 3 / 4


def test_random_boxes_reach_everywhere():
  drawn = boxes(500, 375)
  areas = [box.width * box.height / (500 * 375) for box in drawn]
  assert min(areas) < 0.1 and max(areas) > 0.9
  # Of a uniform area from 0.08 to 1, large ones fit less often in so wide an image.
  assert 0.4 < np.mean(areas) < 0.54
  assert min(b.left for b in drawn) == min(b.top for b in drawn) == 0
  assert max(b.left + b.width for b in drawn) == 500 and max(b.top + b.height for b in drawn) == 375
  wide = np.mean([b.width > b.height for b in drawn])
  assert 0.45 < wide < 0.7


def test_the_logarithm_of_the_ratio_is_uniform_where_everything_fits():
  # A quarter of the area at any allowed ratio fits.
  numbers = lambda shape: [0.2, shape, 0.0, 0.0] * crops.TRIES
  ratios = [b.width / b.height for b in (crops.random_box(10_000, 10_000, numbers(s)) for s in (0, 0.25, 0.5, 0.75))]
  np.testing.assert_allclose(np.log(ratios), math.log(4 / 3) * np.array([-1, -0.5, 0, 0.5]), atol=1e-3)


def test_where_nothing_fits_the_middle_is_taken():
  numbers = [0.999, 0.5, 0.0, 0.0] * crops.TRIES
  assert crops.random_box(900, 90, numbers) == crops.Box(390, 0, 120, 90)
  assert crops.random_box(90, 900, numbers) == crops.Box(0, 390, 90, 120)


def test_the_middle_is_224_of_256():
  assert crops.middle_box(512, 256) == crops.Box(144, 16, 224, 224)
  assert crops.middle_box(375, 500) == crops.Box(23, 86, 328, 328)
  assert crops.middle_box(1, 1) == crops.Box(0, 0, 1, 1)
