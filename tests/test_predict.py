"""Images of every kind through a network: what it sees of them, how rows are told, what can't be read."""

import csv
import io
import json
import os

import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax import predict
from lfr_darts_jax.data import given, view
from lfr_darts_jax.data.file_tree import Leftovers
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.training import predictor
from tests import predictors
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def trained():
  return predictors.of_chain()


@pytest.fixture
def images():
  return predictors.images(5)


def save(folder, images):
  folder.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(images):
    Image.fromarray(image[..., 0]).save(folder / f"{i}.png")


def test_files_in_memory_and_lists_of_all_are_seen_alike(trained, images, tmp_path):
  save(tmp_path / "all", images)
  names, expected = trained.predict(images)
  assert len(set(map(tuple, np.round(expected, 2)))) == 5  # A network that says the same of all would pass below.
  found = trained.predict(str(tmp_path / "all"))
  assert found.names == names == [trained.class_names[i] for i in expected.argmax(1)]
  np.testing.assert_array_equal(found.probabilities, expected)
  assert found.files == tuple(str(tmp_path / "all" / f"{i}.png") for i in range(5)) and found.skipped == ()
  mixed = [images[:1], [tmp_path / "all" / "1.png", Image.fromarray(images[2, ..., 0])], images[3], images[4, ..., 0]]
  again = trained.predict(mixed)
  np.testing.assert_array_equal(again.probabilities, expected)
  assert again.files == (None, str(tmp_path / "all" / "1.png"), None, None, None)


def test_a_photograph_is_resized_as_the_test_resizes_its_own(trained, tmp_path):
  colours = np.random.default_rng(1).integers(0, 256, (20, 12, 3)).astype(np.uint8)
  photograph = Image.fromarray(colours)
  photograph.save(tmp_path / "a.png")
  seen = np.asarray(photograph.resize((8, 8), Image.Resampling.BILINEAR).convert("L"))
  expected = trained.predict(seen[None, ..., None]).probabilities
  for kind in (tmp_path / "a.png", photograph, colours):
    np.testing.assert_array_equal(trained.predict(kind).probabilities, expected)


@pytest.mark.parametrize("crop", ["whole", "centre"])
def test_a_streamed_test_is_followed_too(crop):
  transforms = pytest.importorskip("lfr_darts_jax.data.streaming.transforms")
  config = tiny_config()
  config.data.update(loading="stream", test_view=crop, image_size=8, channels=3)
  colours = np.random.default_rng(1).integers(0, 256, (40, 24, 3)).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(colours).save(file, format="png")
  expected = transforms.test_transform(config)(file.getvalue(), np.random.default_rng(0))
  see = view.of_test(config)
  np.testing.assert_array_equal(see(file.getvalue()), expected)
  np.testing.assert_array_equal(see(Image.fromarray(colours)), expected)
  # By hand: the middle of 24 * 7/8 = 21 pixels from column 1 and row 9, or all of it.
  part = colours[9:30, 1:22] if crop == "centre" else colours
  import cv2

  np.testing.assert_array_equal(expected, cv2.resize(part, (8, 8), interpolation=cv2.INTER_LINEAR))


def test_an_image_in_memory_that_lies_on_its_side_is_seen_upright_and_stays_as_it_is():
  config = tiny_config()
  config.data.image_size = 4
  pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
  file, exif = io.BytesIO(), Image.Exif()
  exif[0x0112] = 6  # Its top is at the right.
  Image.fromarray(pixels).save(file, format="png", exif=exif)
  lying = Image.open(file)
  seen = view.of_test(config)(lying)
  np.testing.assert_array_equal(seen[..., 0], np.rot90(pixels, -1))
  np.testing.assert_array_equal(np.asarray(lying), pixels)


def test_any_number_is_compiled_once(images):
  trained = predictors.of_chain()
  one = trained.predict(images[:1]).probabilities
  many = trained.predict(np.resize(images, (1001, 8, 8, 1))).probabilities
  assert many.shape == (1001, 10) and trained.predict([]).probabilities.shape == (0, 10)
  np.testing.assert_array_equal(many[::5], np.repeat(one, 201, axis=0))
  assert trained._probabilities._cache_size() == 1


def test_what_can_not_be_read_is_named_and_never_left_out_unasked(trained, images, tmp_path):
  save(tmp_path, images[:3])
  (tmp_path / "1.png").write_text("no image")
  os.mkfifo(tmp_path / "pipe.png")
  with pytest.raises(UsageError, match=r"images: 2 of 4 can't be read: '.*/1\.png', '.*/pipe\.png'; allowed are whole"):
    trained.predict(tmp_path)
  found = trained.predict(tmp_path, skip_bad_files=True)
  np.testing.assert_array_equal(found.probabilities, trained.predict(images[[0, 2]]).probabilities)
  assert [os.path.basename(name) for name in found.files] == ["0.png", "2.png"]
  assert [os.path.basename(name) for name in found.skipped] == ["1.png", "pipe.png"]


@pytest.mark.parametrize(
  "images,words",
  [
    (np.zeros((2, 8, 8, 1)), r"images: float64\[2, 8, 8, 1\]; allowed are uint8\[n, 8, 8, 1\], and one image"),
    (np.zeros((2, 9, 9, 1), np.uint8), r"uint8\[2, 9, 9, 1\]"),
    (np.zeros((3, 8, 8), np.uint8), r"uint8\[3, 8, 8\]"),
    (np.zeros((0, 8), np.uint8), r"uint8\[0, 8\]"),
    ([7], "images: 7; allowed are arrays, PIL images, paths"),
    (b"abc", "images: b'abc'; allowed"),
    ("nowhere/*.png", "images: 'nowhere/.*' is no file or folder here"),
    ("~no_such_user/a.png", "home directory is not known"),
  ],
)
def test_what_is_no_image_is_refused(trained, images, words):
  with pytest.raises(UsageError, match=words):
    trained.predict(images)


def test_patterns(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pixels = np.zeros((1, 8, 8, 1), np.uint8)
  for folder in ("scans", "scans/more", "scans/.hidden", "scans/__MACOSX", ".cache"):
    save(tmp_path / folder, pixels)
  (tmp_path / "scans" / "notes.txt").write_text("")
  (tmp_path / "scans" / "Thumbs.db").write_text("")
  (tmp_path / "scans" / "0.png").rename(tmp_path / "scans" / "by_content")
  (tmp_path / "a[1].png").write_bytes((tmp_path / ".cache" / "0.png").read_bytes())
  left = Leftovers()
  assert given.files("scans", left) == ["scans/by_content", "scans/more/0.png"]
  assert left.line() == ["not used: 1 files that are no images ('notes.txt')"]
  # With a slash, absolute, by two ways at once, and by what is litter elsewhere.
  assert given.files("scans/", Leftovers()) == ["scans/by_content", "scans/more/0.png"]
  assert given.files(str(tmp_path / "scans" / "more"), Leftovers()) == [str(tmp_path / "scans" / "more" / "0.png")]
  left = Leftovers()
  assert given.files("scans/**", left) == ["scans/by_content", "scans/more/0.png"]
  assert given.files("scans/*/*.png", Leftovers()) == ["scans/more/0.png"]
  assert given.files("scans/*", left) == ["scans/by_content", "scans/more/0.png"]
  assert given.files(".cache/*.png", Leftovers()) == [".cache/0.png"] == given.files(".cache", Leftovers())
  assert given.files("a[1].png", Leftovers()) == ["a[1].png"]
  assert given.files("scans/notes.txt", Leftovers()) == ["scans/notes.txt"]  # To be found to be bad.


@pytest.fixture
def told(trained, monkeypatch):
  """The lines that a prediction says; the directory's network is that of the module."""
  monkeypatch.setattr(predictor, "load", lambda workdir: trained)

  def said(pattern, output=None):
    lines = []
    predict.predict("run", str(pattern), output, lines.append)
    return lines

  return said


def test_rows_as_json_and_as_csv(trained, images, tmp_path, told):
  save(tmp_path / "in", images)
  names, expected = trained.predict(images)
  rows = [json.loads(line) for line in told(tmp_path / "in")]
  assert [row["file"] for row in rows] == [str(tmp_path / "in" / f"{i}.png") for i in range(5)]
  assert [row["class"] for row in rows] == names
  # The very float32 values.
  assert [list(map(np.float32, row["probabilities"].values())) for row in rows] == expected.tolist()
  assert all(list(row["probabilities"]) == list("abcdefghij") for row in rows)
  assert [row["probability"] for row in rows] == [max(row["probabilities"].values()) for row in rows]
  output = tmp_path / "new" / "rows.jsonl"
  assert told(tmp_path / "in", output) == [str(output)]
  assert [json.loads(line) for line in output.read_text().splitlines()] == rows
  told(tmp_path / "in", output.with_suffix(".CSV"))
  with output.with_suffix(".CSV").open(newline="") as file:
    table = list(csv.reader(file))
  assert table[0] == ["file", "class", "probability", *(f"probability of {name}" for name in "abcdefghij")]
  assert [row[:2] for row in table[1:]] == [[row["file"], row["class"]] for row in rows]
  assert [list(map(float, row[2:])) for row in table[1:]] == [
    [row["probability"], *row["probabilities"].values()] for row in rows
  ]


def test_some_or_none_that_can_be_read(images, tmp_path, told, capsys):
  save(tmp_path / "in", images[:2])
  (tmp_path / "in" / "bad.png").write_text("no image")
  (tmp_path / "in" / "bad.json").write_text("{}")
  output = tmp_path / "rows.csv"
  with pytest.raises(RunError, match=r"images: 1 of 3 can't be read: '.*bad\.png'; the others are predicted"):
    told(tmp_path / "in", output)
  assert len(output.read_text().splitlines()) == 3
  assert capsys.readouterr().err == "not used: 1 files that are no images ('bad.json')\n"
  before = output.read_bytes()
  with pytest.raises(UsageError, match=r"images: 1 of 1 can't be read: '.*bad\.png'; allowed is at least one"):
    told(tmp_path / "in" / "b*.png", output)
  with pytest.raises(UsageError, match="holds no image"):
    told(tmp_path / "in" / "*.json", output)
  with pytest.raises(UsageError, match=r"output: .*rows\.txt; allowed are names that end in \.jsonl or \.csv"):
    told(tmp_path / "in", tmp_path / "rows.txt")
  assert output.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["in", "rows.csv"]


def test_a_name_that_is_not_utf8(images, tmp_path, told):
  save(tmp_path, images[:1])
  os.rename(tmp_path / "0.png", os.fsencode(tmp_path) + b"/\xff.png")
  (row,) = told(tmp_path)
  assert json.loads(row)["file"] == f"{tmp_path}/\\udcff.png"
