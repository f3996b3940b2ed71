"""Folders as users have them: every entry is used, passed over by a rule, told, or refused where the data are wrong."""

import contextlib
import os
import stat as stat_module
import unicodedata

import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets, decoding
from lfr_darts_jax.errors import UsageError


def image(path, value=0, kind=None):
  """A 2x2 image of one grey value."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("L", (2, 2), value).save(path, format=kind)
  return path


def make(root, folders, count=5):
  """Images of several values in every folder, `count` in each."""
  for number, name in enumerate(folders):
    for i in range(count):
      image(root / name / f"{i}.png", 10 * number + i)
  return root


def load(root, alone=False, **data):
  config = schema.get_config()
  config.data.update(name="folder", dir=str(root), image_size=4, channels=1, num_classes=2, **data)
  return datasets.open_dataset(config, alone)


def sizes(dataset):
  return dataset.train_images, len(dataset.test()[1])


def refused(root, words, **data):
  for loading in ("device", "stream"):
    with pytest.raises(UsageError, match=words):
      load(root, loading=loading, **data)


BOTH = ("Training/cat", "Training/dog", "Valid/cat", "Valid/dog")


def test_a_validation_split_in_any_case_is_tested_on_and_said(tmp_path):
  dataset = load(make(tmp_path, BOTH))
  assert sizes(dataset) == (10, 10) and dataset.notes == ("no split is named test; tested on: 'Valid'",)
  assert dataset.identity.splits == {"train": "Training", "test": "Valid"}


def test_beside_a_test_split_the_validation_split_is_left_for_the_user_to_say(tmp_path):
  make(tmp_path, (*BOTH, "TEST/cat", "TEST/dog"))
  dataset = load(tmp_path)
  assert sizes(dataset) == (10, 10) and dataset.identity.splits == {"train": "Training", "test": "TEST"}
  assert dataset.notes == (
    "the split 'Valid' is not used (10 images); --config.data.train_split=Training+Valid trains on it, "
    "--config.data.test_split=Valid tests on it",
  )
  both = load(tmp_path, train_split="train+validation")
  assert sizes(both) == (20, 10) and both.notes == ()
  assert both.identity.images["train"] == {"cat": 10, "dog": 10}
  validated = load(tmp_path, test_split="Valid")
  assert sizes(validated) == (10, 10) and "'TEST' is not used (10 images)" in validated.notes[0]
  assert sorted(validated.test()[0][:, 0, 0, 0].tolist()) == [*range(20, 25), *range(30, 35)]


def test_any_folder_may_be_a_split_that_is_asked_for(tmp_path):
  make(tmp_path, ("2019/cat", "2019/dog", "2020/cat", "2020/dog"))
  assert sizes(load(tmp_path, train_split="2019", test_split="2020")) == (10, 10)
  refused(tmp_path, "config.data.test_split: '2021'; allowed are '2019', '2020'", train_split="2019", test_split="2021")
  refused(tmp_path, "has no train split; it has '2019', '2020'", test_split="2020")


def test_splits_by_a_word_in_their_names(tmp_path):
  dataset = load(make(tmp_path, ("training_set/cat", "training_set/dog", "test_set/cat", "test_set/dog")))
  assert sizes(dataset) == (10, 10)
  assert dataset.notes == ("taken for splits: 'test_set' (test), 'training_set' (train)",)
  make(tmp_path, ("sheets/a", "sheets/b"))
  refused(tmp_path, "holds 'test_set' .test., 'training_set' .train. by their names, and 'sheets'; allowed are splits")


def test_classes_may_have_such_a_word_in_their_names(tmp_path):
  dataset = load(make(tmp_path, ("train_station", "bus_station")))
  assert dataset.class_names == ("bus_station", "train_station") and sizes(dataset) == (8, 2)


@pytest.mark.parametrize("classes", [("val/cat", "val/dog"), ("test", "cat"), ("cat", "dog", "Validation/cat")])
def test_without_a_train_split_other_splits_are_no_classes(tmp_path, classes):
  refused(make(tmp_path, classes), "has no train split; it has '")


def test_two_folders_for_one_split(tmp_path):
  refused(make(tmp_path, (*BOTH, "val/cat")), "has 'Valid', 'val'; config.data.test_split names the one that is meant")


def test_folders_of_classes_alone(tmp_path):
  dataset = load(make(tmp_path / "pets", ("cat", "dog"), 10))
  assert sizes(dataset) == (16, 4) and np.bincount(dataset.test()[1]).tolist() == [2, 2]
  assert dataset.identity.images == {"train": {"cat": 10, "dog": 10}} and dataset.identity.splits == {"train": "."}
  assert dataset.notes == (
    f"no folder in '{tmp_path}/pets' is named train: taken for classes are 'cat', 'dog'",
    "no test split: a fifth of every class by data.split_seed 0, 4 of 20 images, is held out for the test",
  )
  assert load(tmp_path / "pets", split_seed=3).identity.held_out.endswith("data.split_seed 3")


def test_the_train_split_itself(tmp_path):
  make(tmp_path, ("train/cat", "train/dog", "test/cat"))
  dataset = load(tmp_path / "train")
  assert sizes(dataset) == (8, 2)
  assert f"not used, beside a train split: 'test'; config.data.dir={tmp_path} has all" in dataset.notes


def test_a_folder_around_it_is_told(tmp_path):
  make(tmp_path, ("data/train/cat", "data/train/dog"))
  refused(tmp_path, f"holds the folder 'data' alone; .*is it config.data.dir={tmp_path}/data")


def test_images_without_class_folders(tmp_path):
  make(tmp_path, ("train",))
  refused(tmp_path, "train holds images, and no class folders; .*config.data.labels, a CSV file")
  refused(tmp_path / "train", "holds images, and no class folders; .*config.data.labels, a CSV file")
  make(tmp_path / "b", ("train/cat", "train/dog", "test"))
  refused(tmp_path / "b", "test holds images, and no class folders")
  (tmp_path / "c" / "test" / "cat").mkdir(parents=True)
  refused(make(tmp_path / "c", ("train/cat", "train/dog")), "test holds no images in class folders; .*is held out")


def test_a_folder_that_holds_nothing(tmp_path):
  refused(tmp_path, "has 0 classes; at least two are allowed")
  refused(tmp_path / "no", "no' is no folder; allowed is one that holds")


def test_what_is_not_used_is_told_with_its_number(tmp_path):
  make(tmp_path, ("train/cat", "train/dog/old", "test/cat", "test/dog", "unlabelled/1", "unlabelled/2"))
  for name in ("README", "train/a.txt", "train/cat/b.npy", "train/dog/old/notes"):
    (tmp_path / name).write_text("no image")
  for name in ("cover.png", "train/0.jpg", "test/1.gif", "test/2.gif", "test/3.gif"):
    image(tmp_path / name)
  dataset = load(tmp_path)
  assert sizes(dataset) == (10, 10)
  assert dataset.notes == (
    "not used: 4 files that are no images ('train/cat/b.npy', 'train/dog/old/notes', 'train/a.txt', ...); "
    "5 images outside of class folders ('train/0.jpg', 'test/1.gif', 'test/2.gif', ...); "
    "10 images in folders that are no splits ('unlabelled')",
  )


def test_classes_are_those_of_the_train_split(tmp_path):
  make(tmp_path, ("train/cat", "train/dog", "test/cat", "test/Dog"))
  refused(tmp_path, "has the classes 'Dog' in test alone; allowed are those of train, 'cat', 'dog'; did you mean 'dog'")
  (tmp_path / "test" / "Dog").rename(tmp_path / "test" / "dog")
  (tmp_path / "test" / "bird").mkdir()  # It holds nothing that could be tested wrongly.
  assert sizes(load(tmp_path)) == (10, 10)
  (tmp_path / "test" / "dog").rename(tmp_path / "dog")
  dataset = load(tmp_path)
  assert dataset.identity.images["test"] == {"cat": 5, "dog": 0}
  assert "test has no images of 1 of 2 classes: 'dog'" in dataset.notes


@pytest.mark.parametrize("name", ["\u00c5ngstr\u00f6m", "\uac00\ub098"])
def test_one_unicode_form(tmp_path, name):
  apart = unicodedata.normalize("NFD", name)
  assert apart != name
  make(tmp_path, (f"train/{name}", "train/b", f"test/{apart}", "test/b"))
  image(tmp_path / "train" / apart / "9.png")
  dataset = load(tmp_path)
  assert set(dataset.class_names) == {"b", name} and sizes(dataset) == (11, 10)
  assert dataset.identity.images["train"] == {"b": 5, name: 6}


def test_a_copy_that_took_names_apart_is_the_same_data(tmp_path):
  names = ["z", "\u00e9", "e\u0308a", "f"]
  told = []
  for form in ("NFC", "NFD"):
    for class_name in ("a", "\u00fc"):
      for i, name in enumerate(names):
        image(tmp_path / form / unicodedata.normalize(form, class_name) / unicodedata.normalize(form, f"{name}.png"), i)
    dataset = load(tmp_path / form)
    told.append((dataset.identity, dataset.train[0].tobytes(), dataset.test()[0].tobytes()))
  assert told[0] == told[1]


LITTER = (
  *(".DS_Store", "._0.png", "Thumbs.db", "THUMBS.DB", "desktop.ini", ".ipynb_checkpoints/0-checkpoint.png"),
  *("__MACOSX/0.png", "__macosx/._0.png", "@eaDir/0.png/thumb.jpg", ".hidden/0.png", "0.png~", "$RECYCLE.BIN/0.png"),
)


@pytest.mark.parametrize("place", ["", "train", "train/cat", "train/cat/deep"])
def test_litter_is_passed_over_at_every_depth(tmp_path, place):
  make(tmp_path, ("train/cat", "train/dog", "test/cat", "test/dog"))
  image(tmp_path / "train" / "cat" / "deep" / "9.png", 99)
  expected = load(tmp_path)
  for name in LITTER:
    image(tmp_path / place / name, kind="PNG")
  dataset = load(tmp_path)
  assert dataset.notes == () and dataset.identity == expected.identity
  for part, before in zip((*dataset.train, *dataset.test()), (*expected.train, *expected.test()), strict=True):
    np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize(
  "name,kind",
  [
    *(("a.jfif", "JPEG"), ("a.JPE", "JPEG"), ("a.Jpg", "JPEG"), ("a.dib", "BMP"), ("a.pnm", "PPM"), ("photo", "JPEG")),
    *(("a.jpg_large", "JPEG"), ("a.dat", "PNG"), ("1.5", "WEBP"), ("a.jpg!d", "GIF"), ("a.", "TIFF")),
  ],
)
@pytest.mark.parametrize("loading", ["device", "stream"])
def test_an_image_is_one_whatever_its_suffix(tmp_path, name, kind, loading):
  make(tmp_path, ("cat", "dog"))
  image(tmp_path / "dog" / name, 255, kind)
  dataset = load(tmp_path, loading=loading)
  assert dataset.identity.images["train"] == {"cat": 5, "dog": 6} and dataset.notes[1:-1] == ()


def test_files_with_known_suffixes_are_not_opened_to_be_listed(tmp_path, monkeypatch):
  make(tmp_path, ("cat", "dog"))
  (tmp_path / "cat" / "notes.txt").write_text("no image")
  asked = []
  monkeypatch.setattr(decoding, "is_image", lambda path: asked.append(path) or False)
  (tmp_path / "cat" / "unknown").write_text("no image")
  load(tmp_path)
  assert asked == [f"{tmp_path}/cat/unknown"]


def test_a_file_without_suffix_that_only_begins_like_an_image_is_none(tmp_path):
  make(tmp_path, ("cat", "dog"))
  (tmp_path / "cat" / "BMW").write_text("BMW is a car maker.")
  assert load(tmp_path).notes[1] == "not used: 1 files that are no images ('cat/BMW')"


def test_nothing_is_waited_for(tmp_path):
  make(tmp_path, ("cat", "dog"))
  os.mkfifo(tmp_path / "cat" / "pipe")
  (tmp_path / "cat" / "gone").symlink_to("nowhere")
  (tmp_path / "cat" / "self").symlink_to("self")
  assert "3 files that are no images" in load(tmp_path).notes[1]


def test_links_are_followed(tmp_path):
  make(tmp_path / "store", ("a", "b", "c"))
  for name in ("cat", "dog"):
    (tmp_path / "data" / "train" / name).mkdir(parents=True)
  (tmp_path / "data" / "train" / "cat" / "first").symlink_to(tmp_path / "store" / "a")
  (tmp_path / "data" / "train" / "cat" / "0.png").symlink_to(tmp_path / "store" / "c" / "0.png")
  (tmp_path / "data" / "train" / "dog").rmdir()
  (tmp_path / "data" / "train" / "dog").symlink_to(tmp_path / "store" / "b")
  dataset = load(tmp_path / "data")
  assert dataset.identity.images["train"] == {"cat": 6, "dog": 5} and len(dataset.notes) == 1
  (tmp_path / "link").symlink_to(tmp_path / "data")
  assert load(tmp_path / "link").identity == dataset.identity


def test_images_that_links_use_are_not_called_unused(tmp_path):
  make(tmp_path, ("store/a", "store/b", "store/c"))
  for name, target in (("cat", "a"), ("dog", "b")):
    (tmp_path / "train").mkdir(exist_ok=True)
    (tmp_path / "train" / name).symlink_to(tmp_path / "store" / target)
  assert load(tmp_path).notes[0] == "not used: 5 images in folders that are no splits ('store')"


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "deep"])
def test_links_in_a_circle(tmp_path, target):
  root = make(tmp_path / "data", ("train/cat/deep", "train/dog"))
  (root / "train" / "cat" / "loop").symlink_to(target)
  if target == "../../..":  # What lies above is the class's then, but for the folder itself.
    image(tmp_path / "9.png", 99)
  dataset = load(root)
  assert dataset.identity.images["train"]["cat"] == (6 if target == "../../.." else 5)
  told = "loop/data" if target == "../../.." else "loop"
  assert dataset.notes[0] == f"not used: 1 folders that links lead to again ('train/cat/{told}')"


def test_an_image_twice_in_a_class_is_used_once(tmp_path):
  make(tmp_path, ("cat", "dog"))
  (tmp_path / "cat" / "again.png").symlink_to("0.png")
  os.link(tmp_path / "dog" / "1.png", tmp_path / "dog" / "hard.png")
  dataset = load(tmp_path)
  assert dataset.identity.images["train"] == {"cat": 5, "dog": 5}
  assert dataset.notes[1] == "2 links to images that are there already are left out, such as 'cat/again.png'"


@pytest.mark.parametrize("link", [lambda a, b: b.symlink_to(a), os.link])
@pytest.mark.parametrize("place", ["test/cat", "train/dog"])
def test_an_image_in_two_places_is_refused(tmp_path, link, place):
  make(tmp_path, ("train/cat", "train/dog", "test/cat", "test/dog"))
  link(tmp_path / "train" / "cat" / "3.png", tmp_path / place / "x.png")
  refused(tmp_path, f"'train/cat/3.png' and '{place}/x.png' are the same file; allowed is an image in one class")


def test_a_test_split_that_is_the_train_split(tmp_path):
  make(tmp_path, ("train/cat", "train/dog"))
  (tmp_path / "test").symlink_to("train")
  refused(tmp_path, "'train/cat/0.png' and 'test/cat/0.png' are the same file")


def test_file_systems_that_give_all_files_one_number(tmp_path, monkeypatch):
  make(tmp_path, ("cat", "dog"))
  real = os.stat

  def stat(path, **options):
    its = list(real(path, **options))
    its[1] = its[1] if stat_module.S_ISDIR(its[0]) else 7
    return os.stat_result(its)

  with monkeypatch.context() as patch:
    patch.setattr(os, "stat", stat)
    assert load(tmp_path).identity.images["train"] == {"cat": 5, "dog": 5}


def test_a_folder_that_can_not_be_read_is_refused(tmp_path, monkeypatch):
  make(tmp_path, ("train/cat/deep", "train/dog"))
  real = os.scandir

  def scandir(path):
    if str(path).endswith("deep"):
      raise PermissionError(13, "Permission denied")
    return real(path)

  monkeypatch.setattr(os, "scandir", scandir)
  refused(tmp_path, "the folder '.*train/cat/deep' can't be read .Permission denied.")


def test_nothing_depends_on_the_order_of_a_listing(tmp_path, monkeypatch):
  make(tmp_path, ("train/cat", "train/cat/in", "train/cat.2", "train/dog", "val/cat", "other/x", "zoo"), 7)
  monkeypatch.chdir(tmp_path)
  real, told = os.scandir, []
  for change in (sorted, lambda found, key: reversed(sorted(found, key=key))):
    scandir = lambda path, change=change: contextlib.nullcontext(change(real(path), key=lambda entry: entry.name))
    monkeypatch.setattr(os, "scandir", scandir)
    config = schema.get_config()
    config.data.update(name="folder", dir=".", image_size=4, channels=1, num_classes=3)
    dataset = datasets.open_dataset(config)
    told.append((dataset.identity, dataset.notes, *(part.tobytes() for part in (*dataset.train, *dataset.test()))))
  assert told[0] == told[1]


def test_device_and_stream_hold_out_the_same_images(tmp_path):
  make(tmp_path, ("cat", "dog"), 10)
  arrays, stream = load(tmp_path), load(tmp_path, loading="stream")
  assert arrays.identity == stream.identity and arrays.notes == stream.notes
  assert [stream.test()[i][1] for i in range(4)] == arrays.test()[1].tolist()
  values = [decoding.decode(stream.test()[i][0], 1)[0, 0, 0] for i in range(4)]
  assert values == arrays.test()[0][:, 0, 0, 0].tolist()


def test_a_test_alone_needs_no_train_split(tmp_path):
  make(tmp_path, ("test/cat", "test/dog"))
  refused(tmp_path, "has no train split; it has 'test'")
  for loading in ("device", "stream"):
    dataset = load(tmp_path, alone=True, loading=loading)
    test = dataset.test()
    assert (len(test[1]) if loading == "device" else len(test)) == 10 and dataset.notes == ()
    assert dataset.identity.splits == {"test": "test"} and dataset.identity.held_out == ""
  assert len(load(tmp_path / "test", alone=True).test()[1]) == 10
  assert sizes(load(tmp_path / "test")) == (8, 2)
  dataset = load(make(tmp_path / "classes", ("cat", "dog")), alone=True, test_split=".")
  assert len(dataset.test()[1]) == 10


def test_a_home_folder(tmp_path, monkeypatch):
  make(tmp_path / "pets", ("cat", "dog"))
  monkeypatch.setenv("HOME", str(tmp_path))
  assert load("~/pets").train_images == 8
