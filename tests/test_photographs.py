import io

import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax.data import crops
from lfr_darts_jax.data import image_folder
from lfr_darts_jax.data import photographs
from lfr_darts_jax.data.photographs import TestView
from lfr_darts_jax.data.photographs import TrainView
from tests.photographs import encode
from tests.photographs import jpeg

NUMBERS = np.random.default_rng(0).random(photographs.NUMBERS).tolist()


def whole(encoded, size, channels=3):
  """A square photograph, all of it."""
  with Image.open(io.BytesIO(encoded)) as image:
    ordinary = image.format == "JPEG" and image.mode != "CMYK" and not image.getexif()
    box = crops.Box(0, 0, *image.size)
  return photographs.take(encoded, photographs.Plan(box, 1 if ordinary else 0), size, channels)


def middle(encoded, size, channels=3):
  view = TestView(size, channels)
  return photographs.take(encoded, view.plan(encoded, []), size, channels)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_opencv_decodes_what_pillow_does(mode):
  encoded = jpeg(0, 40, 40, mode)
  expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
  np.testing.assert_array_equal(whole(encoded, 40), expected)
  grey = np.asarray(Image.open(io.BytesIO(encoded)).convert("L")).astype(int)
  # The Y of a JPEG, and Pillow's luma of its colours, which were rounded and clipped before.
  assert np.abs(whole(encoded, 40, channels=1) - grey).mean() < 1


def test_a_photograph_that_lies_on_its_side_is_turned():
  upright = jpeg(0, 40, 30, quality=95)
  exif = Image.Exif()
  exif[0x0112] = 6
  lying = Image.open(io.BytesIO(upright)).transpose(Image.Transpose.ROTATE_90)
  turned = encode(lying, "JPEG", quality=95, exif=exif)
  # It was compressed twice.
  assert np.abs(middle(turned, 16).astype(int) - middle(upright, 16)).mean() < 4
  plan = TrainView(16, 3, True, 0.4, 0.2).plan(turned, NUMBERS)
  assert plan.scale == 0 and plan[0] == TrainView(16, 3, True, 0.4, 0.2).plan(upright, NUMBERS)[0]


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_exif_that_asks_for_no_turn_is_no_obstacle(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  assert TestView(16, 3).plan(jpeg(0, 40, 30, exif=exif), []).scale == 1


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
  expected = image_folder.decode(tmp_path / "a.png", 8, channels)
  np.testing.assert_array_equal(middle(encoded, 8, channels).reshape(expected.shape), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width,scale", [(31, 1), (37, 2), (74, 4), (148, 8), (600, 8)])
def test_large_photographs_are_decoded_small(width, scale, channels):
  encoded = jpeg(0, width, width, quality=95)
  assert TestView(16, channels).plan(encoded, []).scale == scale
  side = round(width * 7 / 8)
  left = (width - side) // 2
  expected = (
    Image.open(io.BytesIO(encoded))
    .convert("RGB" if channels == 3 else "L")
    .resize((16, 16), Image.Resampling.BILINEAR, box=(left, left, left + side, left + side))
  )
  difference = np.abs(middle(encoded, 16, channels).astype(int) - np.asarray(expected))
  # Its edges are rounded to `scale` pixels.
  assert difference.mean() < 10 and difference.max() < 60


def test_views_of_the_training_differ_and_half_are_mirrored():
  rng = np.random.default_rng(1)
  rows = rng.random((200, photographs.NUMBERS)).tolist()
  encoded = jpeg(0, 40, 40)
  plans = [TrainView(16, 3, True, 0.4, 0.2).plan(encoded, row) for row in rows]
  assert len({plan.box for plan in plans}) > 150
  assert 70 < sum(plan.mirrored for plan in plans) < 130
  plain = [TrainView(16, 3, False, 0.0, 0.0).plan(encoded, row) for row in rows]
  assert [p.box for p in plain] == [p.box for p in plans]
  assert not any(plan.mirrored or plan.change for plan in plain)


def test_mirrored_is_left_for_right():
  encoded = jpeg(0, 40, 40)
  plan = TestView(16, 3).plan(encoded, [])
  as_it_is = photographs.take(encoded, plan, 16, 3)
  np.testing.assert_array_equal(photographs.take(encoded, plan._replace(mirrored=True), 16, 3), as_it_is[:, ::-1])


def test_a_whole_view_is_the_photograph_resized(config):
  encoded = jpeg(0, 40, 30)
  config.data.update(image_size=10, channels=3)
  whole = TestView.of(config)
  assert whole.plan(encoded, []).box == (0, 0, 40, 30)
  config.data.flip = True  # On the device, as are crops.
  plan = TrainView.of(config).plan(encoded, NUMBERS)
  assert plan.box == (0, 0, 40, 30) and not plan.mirrored
  config.data.update(augmentation="inception", test_view="centre")
  assert TestView.of(config).plan(encoded, []).box == (7, 2, 26, 26)  # 224/256 of 30, in the middle.
  assert TrainView.of(config).plan(encoded, NUMBERS).box != (0, 0, 40, 30)


def test_what_is_no_whole_image_is_refused(monkeypatch):
  encoded = jpeg(0, 40, 40)
  with pytest.raises(ValueError, match="not whole"):
    middle(encoded[:-300], 16)
  with pytest.raises(OSError):
    middle(b"\xff\xd8" + bytes(100), 16)
  with pytest.raises(OSError):
    middle(encode(Image.new("RGB", (40, 40)), "PNG")[:60], 16)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1599)
  with pytest.raises(ValueError, match="40x40 pixels; at most 1599"):
    middle(encoded, 16)
