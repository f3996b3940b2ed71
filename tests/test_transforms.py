import colorsys
import io
import math

import numpy as np
from PIL import Image, ImageEnhance
import pytest

from lfr_darts_jax.data import decoding
from lfr_darts_jax.data.streaming import transforms
from lfr_darts_jax.data.streaming.transforms import Transform
from tests.photographs import encode, jpeg

TRAIN = Transform((16, 16), 3, "random", True, 0.4, 0.2)


def seen(encoded, size, channels=3, crop="whole"):
  return Transform((size, size), channels, crop)(encoded, np.random.default_rng(0))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_opencv_decodes_what_pillow_does(mode):
  encoded = jpeg(0, 40, 40, mode)
  expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
  np.testing.assert_array_equal(seen(encoded, 40), expected)
  grey = np.asarray(Image.open(io.BytesIO(encoded)).convert("L")).astype(int)
  # The Y of a JPEG, and Pillow's luma of its colours, which were rounded and clipped before.
  assert np.abs(seen(encoded, 40, channels=1)[..., 0] - grey).mean() < 1


def test_a_photograph_that_lies_on_its_side_is_turned():
  upright = jpeg(0, 40, 30, quality=95)
  exif = Image.Exif()
  exif[0x0112] = 6
  lying = Image.open(io.BytesIO(upright)).transpose(Image.Transpose.ROTATE_90)
  turned = encode(lying, "JPEG", quality=95, exif=exif)
  # It was compressed twice.
  for crop in ("centre", "random"):
    assert np.abs(seen(turned, 16, crop=crop).astype(int) - seen(upright, 16, crop=crop)).mean() < 4


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_exif_that_asks_for_no_turn_is_no_obstacle(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  assert transforms._header(jpeg(0, 40, 30, exif=exif)) == (40, 30, True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  "encoded",
  [
    encode(Image.new("CMYK", (20, 20), (30, 200, 100, 10)), "JPEG"),
    encode(Image.new("RGBA", (20, 20), (200, 10, 10, 128)), "PNG"),
    encode(Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "PNG"),
    encode(Image.new("P", (20, 20), 3), "GIF"),
  ],
  ids=["CMYK", "transparent", "16 bits", "palette"],
)
def test_odd_images_are_read_as_those_of_a_folder(tmp_path, encoded, channels):
  (tmp_path / "a.png").write_bytes(encoded)
  expected = decoding.decode((tmp_path / "a.png").read_bytes(), channels, (8, 8))
  np.testing.assert_array_equal(seen(encoded, 8, channels), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width,scale", [(31, 1), (37, 2), (74, 4), (148, 8), (600, 8)])
def test_large_photographs_are_decoded_small(width, scale, channels):
  encoded = jpeg(0, width, width, quality=95)
  side, left = round(width * 7 / 8), (width - round(width * 7 / 8)) // 2
  _, decoded_at = Transform((16, 16), channels)._decode(encoded, transforms.Box(left, left, side, side), True)
  assert decoded_at == scale
  expected = (
    Image.open(io.BytesIO(encoded))
    .convert("RGB" if channels == 3 else "L")
    .resize((16, 16), Image.Resampling.BILINEAR, box=(left, left, left + side, left + side))
  )
  difference = np.abs(
    seen(encoded, 16, channels, "centre").astype(int) - np.asarray(expected).reshape(16, 16, channels)
  )
  # Its edges are rounded to `scale` pixels.
  assert difference.mean() < 10 and difference.max() < 60


def test_images_of_the_training_differ_and_half_are_mirrored():
  encoded = jpeg(0, 40, 40)
  rng = np.random.default_rng(1)
  assert len({TRAIN(encoded, rng).tobytes() for _ in range(100)}) == 100
  flips, plain = Transform((16, 16), 3, flip=True), seen(encoded, 16)
  mirrored = [bool((flips(encoded, rng) == plain[:, ::-1]).all()) for _ in range(200)]
  assert 70 < sum(mirrored) < 130
  np.testing.assert_array_equal(Transform((16, 16), 3)(encoded, rng), plain)


def test_the_config_says_what_is_seen(config):
  config.data.update(image_size=10, channels=3, flip="random")
  assert transforms.test_transform(config) == Transform((10, 10), 3, "whole")
  # Flips are made on the device, as are crops.
  assert transforms.train_transform(config) == Transform((10, 10), 3, "whole")
  config.data.update(augmentation="inception", test_view="centre", jitter=0.4, hue=0.2)
  assert transforms.test_transform(config) == Transform((10, 10), 3, "centre")
  assert transforms.train_transform(config) == Transform((10, 10), 3, "random", True, 0.4, 0.2)


def test_what_is_no_whole_image_is_refused(monkeypatch):
  encoded = jpeg(0, 40, 40)
  with pytest.raises(ValueError, match="not whole"):
    seen(encoded[:-300], 16)
  for broken in (b"\xff\xd8" + bytes(100), encode(Image.new("RGB", (40, 40)), "PNG")[:60]):
    with pytest.raises(OSError):
      seen(broken, 16)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1599)
  with pytest.raises(ValueError, match="40x40 pixels; at most 1599"):
    seen(encoded, 16)


def boxes(width, height, count=2000):
  rng = np.random.default_rng(0)
  return [transforms.random_box(width, height, rng.random((transforms.TRIES, 4))) for _ in range(count)]


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
  numbers = lambda shape: [[0.2, shape, 0.0, 0.0]] * transforms.TRIES
  ratios = [
    b.width / b.height for b in (transforms.random_box(10_000, 10_000, numbers(s)) for s in (0, 0.25, 0.5, 0.75))
  ]
  np.testing.assert_allclose(np.log(ratios), math.log(4 / 3) * np.array([-1, -0.5, 0, 0.5]), atol=1e-3)


def test_where_nothing_fits_the_middle_is_taken():
  numbers = [[0.999, 0.5, 0.0, 0.0]] * transforms.TRIES
  assert transforms.random_box(900, 90, numbers) == transforms.Box(390, 0, 120, 90)
  assert transforms.random_box(90, 900, numbers) == transforms.Box(0, 390, 90, 120)


def test_the_centre_is_224_of_256():
  assert transforms.centre_box(512, 256) == transforms.Box(144, 16, 224, 224)
  assert transforms.centre_box(375, 500) == transforms.Box(23, 86, 328, 328)
  assert transforms.centre_box(1, 1) == transforms.Box(0, 0, 1, 1)


def test_rectangles_by_hand():
  # Of what is twice as wide as high, the largest one in the middle, of which 224 of 256 are seen.
  assert transforms.centre_box(512, 512, 2.0) == transforms.Box(32, 144, 448, 224)
  assert transforms.centre_box(900, 256, 2.0) == transforms.Box(226, 16, 448, 224)
  # Ratios are twice those of a square.
  numbers = lambda shape: [[0.2, shape, 0.0, 0.0]] * transforms.TRIES
  ratios = [b.width / b.height for b in (transforms.random_box(9999, 9999, numbers(s), 2.0) for s in (0, 0.5))]
  np.testing.assert_allclose(ratios, [2 * 3 / 4, 2], rtol=1e-3)
  never = [[0.999, 0.5, 0.0, 0.0]] * transforms.TRIES
  assert transforms.random_box(900, 90, never, 2.0) == transforms.Box(330, 0, 240, 90)


@pytest.mark.parametrize("crop", ["whole", "centre", "random"])
def test_a_rectangle_has_the_height_and_width_that_are_asked_for(crop):
  # Left half black, right half white.
  pixels = np.zeros((80, 160, 3), np.uint8)
  pixels[:, 80:] = 255
  encoded = encode(Image.fromarray(pixels), "PNG")
  seen = Transform((12, 20), 3, crop)(encoded, np.random.default_rng(0))
  assert seen.shape == (12, 20, 3)
  if crop != "random":
    assert (seen[:, :9] == 0).all() and (seen[:, 11:] == 255).all()


# Far enough from black and white that nothing is clipped.
PIXELS = np.random.default_rng(0).integers(90, 140, (9, 7, 3), np.uint8)


def changed(pixels, numbers, strength=0.4, hue=0.0):
  channels = 1 if pixels.ndim == 2 else 3
  image = transforms.change_colours(pixels, *transforms.jitter_matrix(numbers, channels, strength, hue))
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
