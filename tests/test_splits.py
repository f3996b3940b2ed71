"""Which splits are trained and tested on, by their names, by what a user asks for, and where there is no test."""

import numpy as np
import pytest

from lfr_darts_jax.data import splits
from lfr_darts_jax.errors import UsageError


@pytest.mark.parametrize(
  "name,role",
  [
    ("train", "train"),
    ("TRAINING", "train"),
    ("Val", "validation"),
    ("valid", "validation"),
    ("Validation", "validation"),
    ("test", "test"),
    ("Testing", "test"),
    ("extra", None),
    ("train2", None),
    ("training_set", None),
  ],
)
def test_words_in_any_case(name, role):
  assert splits.role(name) == role


@pytest.mark.parametrize(
  "name,role",
  [
    ("training_set", "train"),
    ("images-val", "validation"),
    ("my.Test.1", "test"),
    ("trainer", None),
    ("train-val", None),
  ],
)
def test_words_among_others(name, role):
  assert splits.role_within(name) == role


def choose(names, train=None, test=None, alone=False):
  return tuple(splits.choose({name: splits.role(name) for name in names}, train, test, "config.data.dir: 'x'", alone))


@pytest.mark.parametrize(
  "names,train,test,expected",
  [
    (["test", "train"], None, None, (("train",), ("test",), ())),
    (["Training", "VAL"], None, None, (("Training",), ("VAL",), ())),
    (["train"], None, None, (("train",), (), ())),
    (["test", "train", "val"], None, None, (("train",), ("test",), ("val",))),
    (["test", "train", "val"], "train+val", None, (("train", "val"), ("test",), ())),
    (["test", "train", "val"], None, "validation", (("train",), ("val",), ("test",))),
    (["test", "train", "val"], None, "val+test", (("train",), ("val", "test"), ())),
    (["a", "b", "c"], "a", "b", (("a",), ("b",), ("c",))),
    (["a", "train"], None, None, (("train",), (), ("a",))),
    (["caf\u00e9", "train"], "cafe\u0301", "train", (("caf\u00e9",), ("train",), ())),
    (["test", "testing", "train"], None, "testing", (("train",), ("testing",), ("test",))),
  ],
)
def test_choices(names, train, test, expected):
  assert choose(names, train, test) == expected


@pytest.mark.parametrize(
  "names,train,test,words",
  [
    (
      ["test", "val"],
      None,
      None,
      "'x' has no train split; it has 'test', 'val'; config.data.train_split names the one",
    ),
    ([], None, None, "'x' has no train split; it has none;"),
    (["train", "Train"], None, None, "'x' has 'train', 'Train'; config.data.train_split names the one"),
    (["train", "val", "valid"], None, None, "'x' has 'val', 'valid'; config.data.test_split names the one"),
    (["train", "val", "valid"], None, "validation", "config.data.test_split: 'validation'; allowed are 'train', 'val'"),
    (["train"], "treni", None, "config.data.train_split: 'treni'; allowed are 'train', several joined by +"),
    (
      ["train", "test"],
      None,
      "train+test",
      "config.data.test_split: 'train.test'; 'train' is trained on; allowed are 'te",
    ),
    (["train"], None, "train", "config.data.test_split: 'train'; 'train' is trained on; allowed are none"),
  ],
)
def test_what_can_not_be_told_is_refused(names, train, test, words):
  with pytest.raises(UsageError, match=words):
    choose(names, train, test)


def test_for_a_test_alone_no_train_split_is_needed():
  assert choose(["test"], alone=True) == ((), ("test",), ())
  assert choose(["val"], alone=True) == ((), ("val",), ())
  assert choose(["train", "test"], test="train", alone=True) == ((), ("train",), ("test",))
  assert choose(["train", "test"], alone=True) == (("train",), ("test",), ())
  with pytest.raises(UsageError, match="has no train split; it has 'extra'"):
    choose(["extra"], alone=True)


def test_a_fifth_of_every_class_is_held_out():
  labels = np.array([0, 1, 2, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])
  mask = splits.held_out(labels, 4, 0)
  # Of 5, 10, 1 and 0 images.
  assert np.bincount(labels[mask], minlength=4).tolist() == [1, 2, 0, 0]
  np.testing.assert_array_equal(mask, splits.held_out(labels, 4, 0))
  assert any(not np.array_equal(mask, splits.held_out(labels, 4, seed)) for seed in (1, 2, 3))


def test_what_is_held_out_stays_the_same_from_version_to_version():
  # As commit 6b5608c drew them; other images would be tested after an update.
  assert np.flatnonzero(splits.held_out(np.repeat([0, 1], 10), 2, 0)).tolist() == [2, 8, 18, 19]
  assert np.flatnonzero(splits.held_out(np.repeat([0, 1], 10), 2, 7)).tolist() == [1, 5, 16, 19]
