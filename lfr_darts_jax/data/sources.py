"""Where images come from: scikit-learn's digits, TFDS, a folder of the user's own; as arrays, or to be streamed."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
from typing import Protocol

import ml_collections
import numpy as np

from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.data.identity import by_class
from lfr_darts_jax.data.identity import digest
from lfr_darts_jax.data.identity import relabelling
from lfr_darts_jax.data.image_folder import HELD_OUT
from lfr_darts_jax.data.image_folder import Arrays
from lfr_darts_jax.data.image_folder import encoded_folder
from lfr_darts_jax.data.image_folder import list_folder
from lfr_darts_jax.data.image_folder import load_folder
from lfr_darts_jax.data.tfds_source import EncodedTfds
from lfr_darts_jax.data.tfds_source import load_tfds
from lfr_darts_jax.data.tfds_source import prepared
from lfr_darts_jax.errors import UsageError


class Source(Protocol):
  """Encoded images at random access; to be pickled, since processes read from it."""

  def __len__(self) -> int:
    """Number of images."""

  def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """Encoded images and their labels."""

  def name(self, index: int) -> str:
    """What to call an image in a message."""


@dataclasses.dataclass(frozen=True)
class Dataset:
  """An image classification data set.

  Attributes:
    train: uint8 images `[n, height, width, channels]` and int32 labels `[n]`.
    test: loads the same of the test split; called by the final test alone.
    identity: what it is told by, its classes among it.
    skipped: files left out because of `data.skip_bad_files`, as paths relative to `data.dir`.
  """

  train: Arrays
  test: Callable[[], Arrays]
  identity: Identity
  skipped: tuple[str, ...] = ()

  @property
  def class_names(self) -> tuple[str, ...]:
    """By label."""
    return self.identity.class_names

  @property
  def train_images(self) -> int:
    """Images of the train split."""
    return len(self.train[1])


@dataclasses.dataclass(frozen=True)
class StreamedDataset:
  """An image classification data set whose images stay where they are until a `stream.Stream` reads them.

  Attributes:
    train: the train split.
    test: opens the test split; called by the final test alone.
    identity: what it is told by, its classes among it.
    skipped: none; bad files are found when it comes to them.
  """

  train: Source
  test: Callable[[], Source]
  identity: Identity
  skipped: tuple[str, ...] = ()

  @property
  def class_names(self) -> tuple[str, ...]:
    """By label."""
    return self.identity.class_names

  @property
  def train_images(self) -> int:
    """Images of the train split."""
    return len(self.train)


def open_dataset(config: ml_collections.ConfigDict) -> "Dataset | StreamedDataset":
  """Opens `data.name` as `data.loading` says; errors as of `load` and `open_streamed`."""
  return open_streamed(config) if config.data.loading == "stream" else load(config)


def open_test(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> "tuple[Arrays | Source, Identity]":
  """The test split for a network that knows some classes, which are told by their names.

  Args:
    config: see `open_dataset`; the data may have fewer classes than `data.num_classes`.
    class_names: the network's, by label.

  Returns:
    The split with the network's labels, and what its data set is told by.

  Raises:
    UsageError: where it has a class that the network does not know, and as of `open_dataset`.
  """
  streamed = config.data.loading == "stream"
  dataset = open_streamed(config, classes=False) if streamed else load(config, classes=False)
  field = "dir" if config.data.name == "folder" else "name"
  labels = relabelling(f"config.data.{field}: {config.data[field]}", dataset.class_names, class_names)
  test: Any = dataset.test()
  return (Relabelled(test, labels) if streamed else (test[0], labels[test[1]])), dataset.identity


class Relabelled:
  """A source whose labels are replaced; attributes and methods as of `Source`."""

  def __init__(self, source: Source, labels: np.ndarray):
    """Takes the new label of every label."""
    self._source, self._labels = source, labels

  def __len__(self) -> int:
    """Number of images."""
    return len(self._source)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """Encoded images and their new labels."""
    return [(encoded, int(self._labels[label])) for encoded, label in self._source.read(indices)]

  def name(self, index: int) -> str:
    """See `Source`."""
    return self._source.name(index)


def open_streamed(config: ml_collections.ConfigDict, classes: bool = True) -> StreamedDataset:
  """Opens `data.name` where `data.loading` is "stream"; no image is read.

  Args:
    config: the config.
    classes: whether it must have `data.num_classes`.

  Raises:
    UsageError: where it is unknown, or does not fit `data.channels` or `data.num_classes`.
  """
  data = config.data
  shape = data.image_size, data.image_size, data.channels
  found = {}
  if data.name == "folder":
    listing = list_folder(pathlib.Path(data.dir))
    train, test = encoded_folder(listing, data.split_seed)
    dataset = StreamedDataset(train, lambda: test, _of_folder(listing, shape))
  else:
    there = prepared(data.name, data.dir, data.image_key, data.label_key)
    identity = _of_tfds(there, shape, there.images("train"))
    dataset = StreamedDataset(EncodedTfds(there, "train"), lambda: EncodedTfds(there, "test"), identity)
    found["channels"] = there.shape[-1]
  _check(config, found, dataset, classes)
  return dataset


def load(config: ml_collections.ConfigDict, classes: bool = True) -> Dataset:
  """Loads `data.name` where `data.loading` is "device".

  Args:
    config: the config.
    classes: whether it must have `data.num_classes`.

  Raises:
    UsageError: where it is unknown, does not fit `data.image_size`, `data.channels` or `data.num_classes`, or holds
      bad files.
  """
  data = config.data
  if data.name == "digits":
    dataset = _digits()
  elif data.name == "folder":
    listing = list_folder(pathlib.Path(data.dir))
    train, test, skipped = load_folder(listing, data.image_size, data.channels, data.split_seed, data.skip_bad_files)
    dataset = Dataset(train, lambda: test, _of_folder(listing, train[0].shape[1:]), skipped)
  else:
    there = prepared(data.name, data.dir, data.image_key, data.label_key)
    splits = load_tfds(there, data.image_size)
    images, labels = splits("train")
    identity = _of_tfds(there, images.shape[1:], by_class(labels, there.class_names))
    dataset = Dataset((images, labels), lambda: splits("test"), identity)
  height, width, channels = dataset.train[0].shape[1:]
  _check(config, {"image_size": max(height, width), "channels": channels}, dataset, classes)
  return _hold_out(dataset, data.validation_fraction) if data.validation_fraction else dataset


def _hold_out(dataset, fraction):
  """A data set whose test split is a part of the train split."""
  images, labels = dataset.train
  held_out, rest = np.split(np.random.default_rng(7).permutation(len(labels)), [round(fraction * len(labels))])
  if not len(held_out):
    raise UsageError(f"config.data.validation_fraction: {fraction}; of {len(labels)} images that is none")
  part = lambda indices: (images[np.sort(indices)], labels[np.sort(indices)])
  return dataclasses.replace(dataset, train=part(rest), test=lambda: part(held_out))


def _check(config, found, dataset, classes):
  if classes:
    found = {**found, "num_classes": len(dataset.class_names)}
  for field, value in found.items():
    if config.data[field] != value:
      raise UsageError(
        f"config.data.{field}: {config.data[field]}; {config.data.name} has {value}, which alone is allowed"
      )


def halves(count: int, fraction: float, batch_size: int, seed: int) -> np.ndarray:
  """Splits the search's share of the train split in two by seed.

  Args:
    count: images in the train split.
    fraction: the share.
    batch_size: images per update and half.
    seed: of the split.

  Returns:
    `[2, n]` int32 indices: of the half that trains weights, then of the half that trains alphas.

  Raises:
    UsageError: where a half does not fill one batch.
  """
  size = int(count * fraction) // 2
  if batch_size > size:
    raise UsageError(
      f"config.search.batch_size: {batch_size}; allowed are at most {size}, the size of a data half "
      f"({fraction:g} of {count} images, halved)"
    )
  order = np.random.default_rng([seed, 1]).permutation(count)
  return order[: 2 * size].reshape(2, size).astype(np.int32)


def _digits():
  from sklearn.datasets import load_digits
  from sklearn.model_selection import train_test_split

  raw = load_digits()
  images = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = raw.target.astype(np.int32)
  train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=1 / HELD_OUT, random_state=0, stratify=labels
  )
  names = tuple(map(str, raw.target_names))
  counts = {"train": by_class(train_labels, names), "test": by_class(test_labels, names)}
  pixels = digest([images.tobytes(), labels.tobytes()])
  identity = Identity("digits", None, None, names, images.shape[1:], counts, pixels)
  return Dataset((train_images, train_labels), lambda: (test_images, test_labels), identity)


def _of_folder(listing, shape):
  return Identity("folder", None, None, listing.class_names, shape, listing.counts, digest(listing.entries()))


def _of_tfds(there, shape, train):
  """A TFDS data set's identity, whose test split is not read."""
  records = {split: there.images(split) for split in ("train", "test")}
  told = digest([there.version, *(f"{split} {count}" for split, count in records.items())])
  images = records | {"train": train}
  return Identity(there.version, there.image, there.label, there.class_names, shape, images, told)
