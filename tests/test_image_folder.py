import os
import pathlib
import struct
import sys
import warnings

import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets, decoding
from lfr_darts_jax.errors import UsageError

RED, BLUE, WHITE = [255, 0, 0], [0, 0, 255], [255, 255, 255]


def decoded(path, channels=3, size=1):
  """One image as nested lists, `[size, size, channels]`; a single pixel as `[channels]`."""
  image = decoding.decode(path.read_bytes(), channels, (size, size))
  assert image.dtype == np.uint8 and image.shape == (size, size, channels)
  return image[0, 0].tolist() if size == 1 else image.tolist()


def save(path, image, **options):
  image.save(path, **options)
  return path


def save_tiff(path, bits, photometric, strip):
  """A one-row, little-endian, uncompressed grey TIFF, which Pillow can't write for 12 bits or white at 0."""
  tags = {256: len(strip) * 8 // bits, 257: 1, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 1, 279: len(strip)}
  tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4  # The strip follows the header, the tags and their end.
  directory = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
  path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + strip)
  return path


@pytest.mark.parametrize("value,expected", [(0, 0), (255, 0), (256, 1), (32768, 128), (65535, 255)])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, suffix, value, expected):
  path = save(tmp_path / f"grey.{suffix}", Image.fromarray(np.full((2, 2), value, np.uint16)))
  assert decoded(path, channels=1) == [expected]
  assert decoded(path) == [expected] * 3


def test_16_bit_tiff_of_either_byte_order(tmp_path):
  image = Image.fromarray(np.full((2, 2), 32768, ">u2"))
  assert image.mode == "I;16B" and decoded(save(tmp_path / "big.tif", image), channels=1) == [128]


def test_12_bit_tiff_is_scaled_by_its_own_depth(tmp_path):
  # Two values of 12 bits in three bytes: 0x800 is half of 0xfff, as 128 is of 255.
  path = save_tiff(tmp_path / "a.tif", 12, 1, bytes.fromhex("800800"))
  assert decoded(path, channels=1) == [128]


def test_16_bit_tiff_whose_white_is_zero(tmp_path):
  path = save_tiff(tmp_path / "a.tif", 16, 0, struct.pack("<2H", 0, 0))
  assert decoded(path, channels=1) == [255]


def test_transparent_value_of_16_bit_grey(tmp_path):
  image = Image.fromarray(np.full((2, 2), 32768, np.uint16))
  assert decoded(save(tmp_path / "a.png", image, transparency=32768)) == WHITE
  assert decoded(save(tmp_path / "b.png", image, transparency=32769)) == [128, 128, 128]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_of_unknown_range_is_bad(tmp_path, dtype):
  path = save(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), dtype)))
  with pytest.raises(ValueError, match="black and white are unknown"):
    decoding.decode(path.read_bytes(), 1)


def test_1_bit_images_are_black_and_white(tmp_path):
  image = Image.new("1", (2, 1))
  image.putpixel((1, 0), 1)
  assert decoded(save(tmp_path / "a.png", image), channels=1, size=2)[0] == [[0], [255]]


@pytest.mark.parametrize(
  "ink,expected",
  [
    ((255, 0, 0, 0), [0, 255, 255]),  # Cyan takes all red away.
    ((0, 0, 0, 255), [0, 0, 0]),
    ((0, 0, 0, 0), WHITE),
    ((0, 51, 0, 51), [204, 163, 204]),  # 255 x 0.8 = 204; 204 x 0.8 = 163.2.
  ],
)
def test_cmyk(tmp_path, ink, expected):
  image = Image.new("CMYK", (2, 2), ink)
  assert decoded(save(tmp_path / "a.tif", image)) == expected
  jpeg = decoded(save(tmp_path / "a.jpg", image, quality=100))
  assert np.allclose(jpeg, expected, atol=3)


def palette_image(size=(2, 1)):
  """Entry 0, red, on the left; entry 1, blue, on the right."""
  image = Image.new("P", size)
  image.putpalette(RED + BLUE)
  image.paste(1, (size[0] // 2, 0, *size))
  return image


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "tif"])
def test_palette_without_transparency(tmp_path, suffix):
  assert decoded(save(tmp_path / f"a.{suffix}", palette_image()), size=2)[0] == [RED, BLUE]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_palette_entry_becomes_white(tmp_path, suffix):
  path = save(tmp_path / f"a.{suffix}", palette_image(), transparency=0)
  assert decoded(path, size=2)[0] == [WHITE, BLUE]


def test_half_transparent_palette_entry(tmp_path):
  # Opacity 51 of 255 is a fifth: red 255 stays, green and blue become 255 x 0.8.
  path = save(tmp_path / "a.png", palette_image(), transparency=bytes([51, 255]))
  assert decoded(path, size=2)[0] == [[255, 204, 204], BLUE]


@pytest.mark.parametrize(
  "mode,pixel,expected",
  [
    ("RGBA", (0, 0, 0, 0), WHITE),
    ("RGBA", (0, 255, 0, 0), WHITE),  # Not the colour that hides beneath.
    ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
    ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
    ("LA", (0, 51), [204, 204, 204]),
  ],
)
def test_alpha_is_laid_over_white(tmp_path, mode, pixel, expected):
  path = save(tmp_path / "a.png", Image.new(mode, (3, 3), pixel))
  assert decoded(path) == expected
  if mode == "LA":
    assert decoded(path, channels=1) == expected[:1]


@pytest.mark.parametrize("mode,colour", [("RGB", (9, 9, 9)), ("L", 9)])
def test_transparent_colour_of_an_opaque_mode(tmp_path, mode, colour):
  assert decoded(save(tmp_path / "a.png", Image.new(mode, (3, 3), colour), transparency=colour)) == WHITE


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animated_files_give_their_first_frame(tmp_path, suffix):
  first, second = Image.new("RGB", (8, 8), tuple(RED)), Image.new("RGB", (8, 8), tuple(BLUE))
  options = {"lossless": True} if suffix == "webp" else {}
  path = save(tmp_path / f"a.{suffix}", first, save_all=True, append_images=[second], **options)
  assert decoded(path) == RED


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_rotation(tmp_path, suffix):
  image = palette_image((32, 16)).convert("RGB")
  exif = Image.Exif()
  exif[0x112] = 6  # Turned by 90 degrees clockwise, what is left comes to the top.
  path = save(tmp_path / f"a.{suffix}", image, exif=exif, quality=100)
  result = np.array(decoded(path, size=16))
  assert np.allclose(result[0], RED, atol=3) and np.allclose(result[-1], BLUE, atol=3)


def test_exif_rotation_of_a_transparent_palette(tmp_path):
  exif = Image.Exif()
  exif[0x112] = 3
  path = save(tmp_path / "a.png", palette_image(), transparency=0, exif=exif)
  assert decoded(path, size=2)[0] == [BLUE, WHITE]


def test_corrupt_exif_is_no_bad_image_and_warns_nobody(tmp_path):
  path = save(tmp_path / "a.jpg", Image.new("RGB", (4, 4)), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
  with pytest.warns(UserWarning, match="Corrupt EXIF"):
    Image.open(path).close()
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert decoded(path) == [0, 0, 0]


def test_one_pixel_and_extreme_aspects(tmp_path):
  assert decoded(save(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3))), size=2) == [[[1, 2, 3]] * 2] * 2
  assert decoded(save(tmp_path / "b.png", Image.new("L", (1, 5000), 7)), channels=1, size=2) == [[[7]] * 2] * 2


def test_content_and_not_the_name_decides(tmp_path):
  jpeg = save(tmp_path / "jpeg.png", Image.new("RGB", (8, 8), (64, 64, 64)), format="JPEG")
  assert decoded(jpeg) == [64, 64, 64]
  # Pillow would hand it to Ghostscript.
  postscript = save(tmp_path / "postscript.png", Image.new("RGB", (8, 8)), format="EPS")
  with pytest.raises(Image.UnidentifiedImageError):
    decoding.decode(postscript.read_bytes(), 3)


@pytest.fixture
def folder(tmp_path):
  """Two classes of ten distinct images."""
  rng = np.random.default_rng(0)
  for name in ("birds", "cats"):
    (tmp_path / "train" / name).mkdir(parents=True)
    for i in range(10):
      image = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
      image.save(tmp_path / "train" / name / f"{i}.png")
  return tmp_path


def load(root, skip_bad_files=False, loading="device"):
  config = schema.get_config()
  config.data.update(name="folder", dir=str(root), image_size=4, skip_bad_files=skip_bad_files, loading=loading)
  dataset = datasets.open_dataset(config, alone=True)
  return dataset.train, dataset.test(), dataset.class_names, dataset.skipped


def spoil(folder, names=("birds",)):
  """Adds bad files of every kind to classes of train; returns their names."""
  whole = (folder / "train" / "birds" / "0.png").read_bytes()
  noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
  files = {"text.png": b"no image", "zero.jpg": b"", "cut.png": whole[: len(whole) // 2]}
  for suffix in ("bmp", "gif", "jpg", "ppm", "tif", "webp"):
    raw = save(folder / f"noise.{suffix}", noise).read_bytes()
    files[f"half.{suffix}"] = raw[: len(raw) // 2]
  for name in names:
    for file, content in files.items():
      (folder / "train" / name / file).write_bytes(content)
    os.mkfifo(folder / "train" / name / "pipe.png")
    (folder / "train" / name / "gone.png").symlink_to("nowhere.png")
  return sorted([*files, "pipe.png", "gone.png"])


@pytest.mark.parametrize("loading", ["device", "stream"])
def test_bad_files_stop_with_one_line_that_names_the_first_ten(folder, loading):
  names = spoil(folder)
  assert len(names) == 11
  with pytest.raises(UsageError) as error:
    load(folder, loading=loading)
  line = str(error.value)
  listed = ", ".join(f"'train/birds/{name}'" for name in names[:10])
  assert line.startswith(f"config.data.dir: {folder}: 11 of 31 images can't be read: {listed} and 1 more; allowed are")
  assert names[10] not in line
  assert "--config.data.skip_bad_files=True" in line and "\n" not in line


def test_skipped_files_are_counted_and_change_nothing_else(folder):
  expected = load(folder)
  assert expected[3] == ()
  names = spoil(folder)
  train, test, class_names, skipped = load(folder, skip_bad_files=True)
  assert skipped == tuple(f"train/birds/{name}" for name in names) and class_names == ("birds", "cats")
  # Train and test are what they are where the bad files were never there.
  for part, before in zip((*train, *test), (*expected[0], *expected[1]), strict=True):
    np.testing.assert_array_equal(part, before)


def test_a_stream_leaves_out_the_same_files(folder):
  names = spoil(folder)
  images, tested, _, _ = load(folder, skip_bad_files=True)
  train, test, _, skipped = load(folder, skip_bad_files=True, loading="stream")
  assert skipped == tuple(f"train/birds/{name}" for name in names)
  for source, (pixels, labels) in ((train, images), (test, tested)):
    read = [source[i] for i in range(len(source))]
    assert [label for _, label in read] == labels.tolist() == source.labels().tolist()
    np.testing.assert_array_equal([decoding.decode(encoded, 3, (4, 4)) for encoded, _ in read], pixels)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tif", "webp"])
def test_a_file_that_is_not_whole_is_found_without_being_decoded_by_the_network(tmp_path, suffix):
  noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
  path = save(tmp_path / f"a.{suffix}", noise)
  whole = path.read_bytes()
  assert decoding.seems_whole(str(path))
  for content in (whole[: len(whole) // 2], whole[:-1], whole[:40], whole[:3], b"", b"<html>", b"\0" * len(whole)):
    path.write_bytes(content)
    with decoding.quiet():
      found = decoding.seems_whole(str(path))
    try:
      decoding.decode(content, 3)
    except Exception:
      assert not found, content[:9]
    else:  # Some formats do without their last byte.
      assert found and content == whole[:-1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_whole_files_of_common_formats_are_not_decoded(tmp_path, monkeypatch, suffix):
  path = save(tmp_path / f"a.{suffix}", Image.new("RGB", (9, 9)))
  whole = path.read_bytes()
  path.write_bytes(whole + b"what a camera puts behind")
  assert decoding.seems_whole(str(path))
  monkeypatch.setattr(decoding, "_decode", lambda *unused: 1 / 0)
  assert not decoding.seems_whole(str(path))
  path.write_bytes(whole)
  assert decoding.seems_whole(str(path))


def test_bad_files_of_the_test_split_count_too(folder):
  (folder / "test" / "cats").mkdir(parents=True)
  (folder / "test" / "cats" / "a.png").write_bytes(b"")
  with pytest.raises(UsageError, match="1 of 21 images .*: 'test/cats/a.png'; allowed"):
    load(folder)
  with pytest.raises(UsageError, match="has no image in test that is not skipped as bad"):
    load(folder, skip_bad_files=True)
  save(folder / "test" / "cats" / "b.png", Image.new("RGB", (2, 2)))
  train, test, _, skipped = load(folder, skip_bad_files=True)
  assert len(train[1]) == 20 and test[1].tolist() == [1] and skipped == ("test/cats/a.png",)


def test_a_class_with_bad_files_alone(folder):
  for path in (folder / "train" / "cats").iterdir():
    path.write_bytes(b"")
  with pytest.raises(
    UsageError, match="1 of 2 classes have no image left after bad files are skipped: 'cats'; allowed"
  ):
    load(folder, skip_bad_files=True)


@pytest.mark.parametrize("pixels", [29, 14])
def test_decompression_bombs_are_bad_without_a_warning(folder, monkeypatch, pixels):
  # Pillow warns about the 30 pixels of each image over a limit of 29, and refuses them at more than twice 14.
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
  small = save(folder / "train" / "cats" / "small.png", Image.new("RGB", (3, 3), (5, 5, 5)))
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with pytest.raises(UsageError, match=f"20 of 21 images .*'train/birds/0.png'.*at most {pixels} pixels"):
      load(folder)
  assert not caught and decoded(small) == [5, 5, 5]


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_real_decompression_bombs_are_never_decoded(tmp_path, side):
  header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
  path = tmp_path / "a.bmp"
  path.write_bytes(header)
  with pytest.raises((Image.DecompressionBombWarning, Image.DecompressionBombError)):
    decoding.decode(path.read_bytes(), 3)


def test_lack_of_memory_is_no_bad_file(folder, monkeypatch):
  def decode(*unused):
    raise MemoryError

  monkeypatch.setattr(decoding, "decode", decode)
  with pytest.raises(MemoryError):
    load(folder, skip_bad_files=True)


def test_classes_without_images(folder):
  (folder / "train" / "empty").mkdir()
  (folder / "train" / "notes").mkdir()
  (folder / "train" / "notes" / "readme.txt").write_text("no image")
  (folder / "train" / "notes" / "folder.png").mkdir()
  for skip in (False, True):
    with pytest.raises(UsageError, match="2 of 4 classes have no image: 'empty', 'notes'"):
      load(folder, skip)


def test_names_of_every_kind(folder):
  name = "cats & <img src=\"x\"> 'n' \N{CAT FACE} {x} %s"
  (folder / "train" / "cats").rename(folder / "train" / name)
  (folder / "train" / name / "0.png").rename(folder / "train" / name / "\N{DOG FACE} <i>.PNG")
  train, test, class_names, _ = load(folder)
  assert class_names == ("birds", name) and len(train[1]) + len(test[1]) == 20
  (folder / "train" / name / "a\nb\x1b[31m\u202e.png").write_bytes(b"")
  with pytest.raises(UsageError) as error:
    load(folder)
  assert str(error.value).isprintable() and r"a\nb\x1b[31m\u202e.png" in str(error.value)
  assert load(folder, skip_bad_files=True)[3] == (f"train/{name}/a\nb\x1b[31m\u202e.png",)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_not_utf_8(folder):
  bad = os.fsencode(folder / "train" / "birds") + b"/\xff.png"
  pathlib.Path(os.fsdecode(bad)).write_bytes(b"")
  skipped = load(folder, skip_bad_files=True)[3]
  assert skipped == (r"train/birds/\xff.png",) and skipped[0].encode()
  (folder / "train" / "cats").rename(os.fsdecode(os.fsencode(folder / "train") + b"/c\xff"))
  with pytest.raises(UsageError, match=r"class folder 'c\\udcff'; allowed are names in UTF-8"):
    load(folder)


def test_the_field_reaches_the_data_set(folder, config):
  config.data.update(name="folder", dir=str(folder), image_size=4, channels=3, num_classes=2)
  assert datasets.open_dataset(config).skipped == ()
  (folder / "train" / "birds" / "a.png").write_bytes(b"")
  with pytest.raises(UsageError, match="1 of 21 images"):
    datasets.open_dataset(config)
  config.data.skip_bad_files = True
  assert datasets.open_dataset(config).skipped == ("train/birds/a.png",)
