"""Which features of a TFDS data set are its images and labels."""

import collections

import numpy as np
import pytest

from benchmarks import prepared
from lfr_darts_jax.data import datasets, tfds as tfds_source
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
