import dataclasses
import json

import numpy as np
import pytest

from lfr_darts_jax.data import identity
from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io

COUNTS = {"train": {"cat": 40, "dog": 30}, "test": {"cat": 5, "dog": 6}}
DATA = Identity("folder", None, None, ("cat", "dog"), (8, 8, 3), COUNTS, "ab")


def test_it_is_read_as_it_was_written():
  assert json_io.parse(json_io.dumps(DATA), Identity, "data.json") == DATA


@pytest.mark.parametrize(
  "change", [{"class_names": 3}, {"class_names": [1]}, {"shape": ["8"]}, {"images": []}, {"images": {"train": "x"}}]
)
def test_what_is_none_is_refused(change):
  written = json.loads(json_io.dumps(DATA))
  with pytest.raises(UsageError, match="^data.json: .*; allowed is what a run writes there$"):
    json_io.convert(written | change, Identity, "data.json")
  del written["digest"]
  with pytest.raises(UsageError, match="missing required field `digest`"):
    json_io.convert(written, Identity, "data.json")


@pytest.mark.parametrize(
  "change,expected",
  [
    ({}, []),
    ({"class_names": ("cat", "wolf")}, ["classes that are gone: 'dog'", "new classes: 'wolf'"]),
    ({"class_names": ("dog", "cat")}, ["classes in another order"]),
    ({"shape": (8, 9, 3), "digest": "cd"}, ["shape: 8x9x3, before 8x8x3"]),
    ({"images": COUNTS | {"train": {"cat": 30, "dog": 30}}, "digest": "cd"}, ["'train/cat': 30 images, before 40"]),
    ({"images": {"train": 71, "test": COUNTS["test"]}}, ["'train': 71 images, before 70"]),
    ({"images": {"train": COUNTS["train"]}}, ["'test': 0 images, before 11"]),
    ({"digest": "cd"}, ["files of other names or sizes"]),
    (
      {"source": "cifar10/3.0.2", "label_key": "label"},
      ["source: cifar10/3.0.2, before folder", "label_key: label, before None"],
    ),
  ],
)
def test_what_differs_is_said_in_words(change, expected):
  said = identity.differences(DATA, dataclasses.replace(DATA, **change))
  assert len(said) == len(expected) and all(text.startswith(start) for text, start in zip(said, expected, strict=True))


def test_splits_and_what_is_held_out_and_left_out_are_compared_where_they_were_written_down():
  told = dataclasses.replace(DATA, splits={"train": "train", "test": "val"}, held_out="", left_out=2)
  now = dataclasses.replace(told, splits={"train": "train", "test": "test"}, held_out="a fifth", left_out=3)
  assert identity.differences(told, now) == [
    "split to test: 'test', before 'val'",
    "held out: a fifth, before nothing",
    "left out as bad: 3 images, before 2",
  ]
  # An earlier version wrote none of it.
  assert identity.differences(DATA, now) == [] == identity.differences(told, told)
  written = json.loads(json_io.dumps(told))
  for name in ("splits", "held_out", "left_out"):
    del written[name]
  assert json_io.convert(written, Identity, "data.json") == DATA


def test_of_many_classes_the_first_are_named():
  names = tuple(f"c{i}" for i in range(9))
  many = dataclasses.replace(DATA, class_names=names, images={"train": dict.fromkeys(names, 2)})
  fewer = dataclasses.replace(many, images={"train": dict.fromkeys(names, 1)})
  assert identity.differences(many, fewer)[-1] == "other numbers in 4 more classes"
  (gone, *_) = identity.differences(many, dataclasses.replace(many, class_names=()))
  assert gone == "classes that are gone: 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more"


def test_digests_tell_where_a_part_ends():
  assert identity.digest(["ab", "c"]) != identity.digest(["a", "bc"])
  assert identity.digest(["a"]) == identity.digest([b"a"])
  assert identity.digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_labels_are_told_by_the_names_of_classes():
  np.testing.assert_array_equal(identity.relabelling("x", ["dog", "cat"], ["ant", "cat", "dog"]), [2, 1])
  with pytest.raises(UsageError, match="^x; it has the classes 'wolf', which the trained network does not know; all"):
    identity.relabelling("x", ["dog", "wolf"], ["ant", "cat", "dog"])
