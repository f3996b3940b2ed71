"""Which features of a TFDS data set are its images and labels, which splits are used, and where it may lie instead."""

import collections

import numpy as np
import pytest

from benchmarks import prepared
from lfr_darts_jax.data import datasets, decoding, tfds as tfds_source
from lfr_darts_jax.errors import UsageError
from tests.photographs import jpeg

tfds = pytest.importorskip("tensorflow_datasets")
shard_utils = pytest.importorskip("tensorflow_datasets.core.utils.shard_utils")
IMAGE, GREY = tfds.features.Image(shape=(8, 8, 3)), tfds.features.Image(shape=(8, 8, 1))
CLASSES, SIDES = tfds.features.ClassLabel(num_classes=3), tfds.features.ClassLabel(names=["left", "right"])
BOTH = {"image": IMAGE, "mask": GREY, "label": CLASSES, "side": SIDES}


class Split:
  """A split of ten records in a file of its own."""

  def __init__(self, name):
    self.num_examples, self.file_instructions = 10, [shard_utils.FileInstruction(name, 0, 10, 10)]


class Info:
  def __init__(self, features, supervised):
    self.splits = {name: Split(name) for name in ("train", "test")}
    self.features, self.supervised_keys = tfds.features.FeaturesDict(features), supervised


class Builder:
  def __init__(self, *arguments):
    self.info = Info(*arguments)

  def is_prepared(self):
    return True

  def as_data_source(self, split, decoders):
    return [collections.defaultdict(int)]


@pytest.fixture
def keys(monkeypatch, config):
  def keys(features, supervised, image_key=None, label_key=None):
    config.data.update(name="made", image_key=image_key, label_key=label_key)
    found = []
    for order in (features, dict(reversed(features.items()))):
      monkeypatch.setattr(tfds, "builder", lambda *_, order=order, **__: Builder(order, supervised))
      there = tfds_source.prepared(config.data)
      found.append((there.image, there.label))
    assert found[0] == found[1]  # Whatever the order.
    return found[0]

  return keys


@pytest.mark.parametrize(
  "supervised,chosen,expected",
  [
    (("image", "label"), (), ("image", "label")),
    (("mask", "side"), (), ("mask", "side")),
    (("image", "label"), ("mask", None), ("mask", "label")),
    (("image", "label"), (None, "side"), ("image", "side")),
    (None, ("image", "side"), ("image", "side")),
    (("image", "mask"), (None, "label"), ("image", "label")),
    (({"a": "image"}, "label"), ("mask",), ("mask", "label")),
  ],
)
def test_they_are_told_by_name(keys, supervised, chosen, expected):
  assert keys(BOTH, supervised, *chosen) == expected


@pytest.mark.parametrize("supervised", [None, ("image", "label", "side"), ({"a": "x"}, ("b",)), ("text", "number")])
def test_the_only_candidates_need_no_name(keys, supervised):
  only = {"picture": IMAGE, "text": tfds.features.Text(), "kind": CLASSES, "number": tfds.features.Scalar(np.int32)}
  assert keys(only, supervised) == ("picture", "kind")


@pytest.mark.parametrize(
  "supervised,chosen,words",
  [
    (None, (), "config.data.image_key: None; made does not say which one .*; allowed are image, mask"),
    (("image", "mask"), (), "config.data.label_key: None; made does not say .*; allowed are label, side"),
    (("image", "label"), ("label",), "config.data.image_key: 'label'; made has image, mask"),
    (("image", "label"), (None, "no"), "config.data.label_key: 'no'; made has label, side"),
  ],
)
def test_several_candidates_are_refused_by_name(keys, supervised, chosen, words):
  with pytest.raises(UsageError, match=words):
    keys(BOTH, supervised, *chosen)


def test_without_labels_there_is_nothing_to_learn(keys):
  with pytest.raises(UsageError, match="config.data.name: 'made' has no images with class labels"):
    keys({"image": IMAGE}, None)


@pytest.mark.parametrize("loading", ["device", "stream"])
def test_what_a_prepared_data_set_is_told_by(tmp_path, config, loading):
  records = [(jpeg(i, 8, 8), i % 2) for i in range(10)]
  prepared.write(tmp_path, "album", {"train": records[:7], "test": records[7:]}, 2)
  config.data.update(name="album", dir=str(tmp_path), loading=loading, image_size=8, channels=3, num_classes=2)
  told = datasets.open_dataset(config).identity
  names = told.class_names
  expected = {names[0]: 4, names[1]: 3} if loading == "device" else 7
  assert told.images == {"train": expected, "test": 3}
  assert told.source.startswith("album/") and told.shape == (8, 8, 3)
  prepared.write(tmp_path / "more", "album", {"train": records[:8], "test": records[8:]}, 2)
  config.data.dir = str(tmp_path / "more")
  assert datasets.open_dataset(config).identity.digest != told.digest


def records(count, classes=2, first=0):
  """Encoded images that differ, and their labels."""
  return [(jpeg(i, 8, 8), i % classes) for i in range(first, first + count)]


@pytest.fixture
def album(tmp_path, config):
  """Writes a data set with the given splits, and opens it."""

  def album(splits=None, alone=False, shape=(None, None, 3), **data):
    if splits is not None:
      prepared.write(tmp_path / "sets", "album", splits, 2, shape)
    config.data.update(name="album", dir=str(tmp_path / "sets"), image_size=8, channels=3, num_classes=2, **data)
    return datasets.open_dataset(config, alone)

  return album


def read(split):
  """A split as a list of bytes of pixels and labels."""
  images, labels = split if isinstance(split, tuple) else zip(*(split[i] for i in range(len(split))), strict=True)
  pixels = images if isinstance(split, tuple) else [decoding.decode(encoded, 3, (8, 8)) for encoded in images]
  return [(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)]


def test_without_a_test_split_a_fifth_of_every_class_is_held_out(album, config):
  arrays = album({"train": records(15) + [(jpeg(99, 8, 8), 0)] * 4})
  train, test = read(arrays.train), read(arrays.test())
  # Of 12 and 7 images.
  assert sorted(label for _, label in test) == [0, 0, 1] and len(train) == 16
  assert arrays.identity.images == {"train": {"0": 12, "1": 7}}
  assert arrays.notes == (
    "no test split: a fifth of every class by data.split_seed 0, 3 of 19 images, is held out for the test",
  )
  stream = album(loading="stream")
  assert (read(stream.train), read(stream.test())) == (train, test) and stream.notes == arrays.notes
  assert stream.train_labels().tolist() == arrays.train_labels().tolist() == [label for _, label in train]
  config.data.loading = "device"
  config.seed = 5
  assert read(album().test()) == test
  config.data.split_seed = 1
  assert read(album().test()) != test and album().identity != arrays.identity


def test_of_one_image_per_class_nothing_can_be_held_out(album):
  with pytest.raises(UsageError, match="has no test split and one image per class; allowed is a class with two, or a"):
    album({"train": records(2)})


def test_splits_of_other_names(album):
  dataset = album({"training": records(6), "dev": records(4, first=6)})
  assert (len(read(dataset.train)), len(read(dataset.test()))) == (6, 4)
  assert dataset.identity.splits == {"train": "training", "test": "dev"}
  assert dataset.notes == ("no split is named test; tested on: 'dev'",)


EVERY = {"train": records(10), "test": records(4, first=10), "extra": records(2, first=14)}


def test_slices_that_are_asked_for(album):
  encoded = {name: [decoding.decode(image, 3).tobytes() for image, _ in split] for name, split in EVERY.items()}
  dataset = album(EVERY, train_split="train[:60%]+extra", test_split="train[-2:]")
  assert [image for image, _ in read(dataset.train)] == encoded["train"][:6] + encoded["extra"]
  assert [image for image, _ in read(dataset.test())] == encoded["train"][-2:]
  assert dataset.identity.splits == {"train": "train[:60%]+extra", "test": "train[-2:]"}
  assert dataset.notes == (
    "the split 'test' is not used (4 images); --config.data.train_split=train[:60%]+extra+test trains on it, "
    "--config.data.test_split=test tests on it",
  )


def test_what_is_asked_for_of_one_alone(album, config):
  assert len(read(album(EVERY, test_split="extra").test())) == 2
  config.data.test_split = None
  dataset = album(train_split="train[:50%]")
  assert (dataset.train_images, len(read(dataset.test()))) == (5, 4)
  # Of the test split that is trained on nothing can be tested.
  dataset = album(train_split="train+test")
  assert (dataset.train_images, dataset.identity.images) == (12, {"train": {"0": 7, "1": 7}})


@pytest.mark.parametrize(
  "asked,words",
  [
    (
      {"train_split": "Train"},
      "config.data.train_split: 'Train'; allowed are 'extra', 'test', 'train' and TFDS's slices",
    ),
    (
      {"test_split": "train[:5"},
      "config.data.test_split: 'train.:5'; allowed are .* such as train.:80%. .Unrecognized",
    ),
    ({"test_split": "test[4:]"}, "config.data.test_split: 'test.4:.'; allowed are splits and slices with images"),
    (
      {"test_split": "train[80%:]"},
      "config.data.test_split: 'train.80%:.' shares images with 'train', which is trained",
    ),
    ({"train_split": "train+extra+train[9:]"}, "config.data.train_split: 'train.extra.train.9:.' has images twice"),
    ({"train_split": "train[:7]", "test_split": "extra+train[6:]"}, "'extra.train.6:.' shares images with 'train.:7.'"),
  ],
)
def test_splits_that_can_not_be_are_refused(album, asked, words):
  with pytest.raises(UsageError, match=words):
    album(EVERY, **asked)


def test_splits_that_meet_at_an_image_share_none(album):
  assert album(EVERY, train_split="train[:7]", test_split="train[7:]").train_images == 7


def test_unused_splits_are_told(album):
  made = {"train": records(6), "validation": records(3), "test": records(4), "extra": records(5)}
  assert [note.partition(";")[0] for note in album(made).notes] == [
    "the split 'extra' is not used (5 images)",
    "the split 'validation' is not used (3 images)",
  ]


def secret(count):
  return [(jpeg(i, 8, 8), -1) for i in range(count)]


@pytest.mark.parametrize("loading", ["device", "stream"])
def test_secret_labels(album, loading, config, tmp_path):
  dataset = album({"train": records(10), "test": secret(3)}, loading=loading)
  assert len(read(dataset.test())) == 2 and dataset.notes[0] == "the split 'test' has no labels and is not used"
  with pytest.raises(UsageError, match="config.data.test_split: 'test' has images without labels"):
    album(test_split="test")
  with pytest.raises(UsageError, match="config.data.train_split: test has images without labels"):
    album(train_split="test", test_split="train")


def test_one_image_without_a_label(album):
  with pytest.raises(UsageError, match="config.data.train_split: train has images without labels"):
    album({"train": records(5) + secret(1), "test": records(2)})


def test_a_test_alone_needs_no_train_split(album, config):
  with pytest.raises(UsageError, match="config.data.name: 'album' has no train split; it has 'test'"):
    album({"test": records(6)})
  for config.data.loading in ("device", "stream"):
    dataset = album(alone=True)
    assert len(read(dataset.test())) == 6 and dataset.notes == () and dataset.identity.splits == {"test": "test"}


def test_a_test_alone_may_be_on_what_is_trained_on(album):
  dataset = album(EVERY, alone=True, test_split="train")
  assert len(read(dataset.test())) == 10 and dataset.identity.splits == {"test": "train"}


def test_bad_records_are_left_out_and_counted(album, config):
  bad = [(b"no image", 0), *records(9, first=1)]
  with pytest.raises(UsageError, match=r"config.data.name: album: 1 of 10 images can't be read: 'train\[0\]'; allowed"):
    album({"train": bad, "test": bad})
  dataset = album(skip_bad_files=True)
  assert dataset.skipped == ("train[0]",) and len(read(dataset.train)) == len(read(dataset.test())) == 9
  assert dataset.notes == ("1 images can't be read and are left out ('train[0]')",)
  assert dataset.identity.left_out == 1 and dataset.test_images == 10


def test_files_that_are_not_read_at_random(album, tmp_path):
  album({"train": records(4), "test": records(2)})
  path = tmp_path / "sets" / "album" / prepared.VERSION / "dataset_info.json"
  path.write_text(path.read_text().replace("array_record", "tfrecord"))
  with pytest.raises(UsageError) as error:
    album()
  assert str(error.value).startswith(
    f"config.data.name: album lies in {path.parent} as tfrecord files, of which no single"
  )
  assert "allowed is array_record: another config.data.dir" in str(error.value)


def test_a_directory_in_the_home_folder(album, config, tmp_path, monkeypatch):
  album({"train": records(4), "test": records(2)})
  monkeypatch.setenv("HOME", str(tmp_path))
  config.data.dir = "~/sets"
  assert datasets.open_dataset(config).train_images == 4


@pytest.mark.parametrize("place", ["album", f"album/{prepared.VERSION}", ".."])
def test_a_directory_too_deep_or_too_high(album, config, tmp_path, place):
  album({"train": records(4), "test": records(2)})
  config.data.dir = str(tmp_path / "sets" / place)
  words = (
    f"config.data.dir: {config.data.dir} does not hold album; allowed is config.data.dir={tmp_path}/sets, which does"
  )
  with pytest.raises(UsageError, match=words):
    datasets.open_dataset(config)


@pytest.mark.parametrize(
  "name,meant", [("albun", "album"), ("MNIST_", "mnist"), ("CIFAR100", "cifar100"), ("cifar-10", "cifar10")]
)
def test_names_that_are_nearly_right(album, config, name, meant):
  album({"train": records(4), "test": records(2)})
  config.data.name = name
  with pytest.raises(UsageError, match=f"config.data.name: '{name}'.*; did you mean '{meant}'.$"):
    datasets.open_dataset(config)


def test_images_of_another_size_are_resized_and_it_is_said(album, config):
  made = [(jpeg(i, 24, 12), i % 2) for i in range(8)]
  dataset = album({"train": made[:6], "test": made[6:]}, shape=(12, 24, 3))
  assert dataset.train[0].shape == (6, 8, 8, 3) and dataset.identity.shape == (8, 8, 3)
  np.testing.assert_array_equal(dataset.test()[0][1], decoding.decode(made[7][0], 3, (8, 8)))
  assert dataset.notes == ("images of 12x24 pixels are resized to 8x8",)
  config.data.image_size = (12, 24)
  dataset = datasets.open_dataset(config)
  assert dataset.train[0].shape == (6, 12, 24, 3) and dataset.notes == ()
