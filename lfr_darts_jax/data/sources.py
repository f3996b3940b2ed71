"""Where images come from: scikit-learn's digits, TFDS, a folder of the user's own; as arrays, or to be streamed."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Protocol

import ml_collections
import numpy as np

from lfr_darts_jax.data.image_folder import HELD_OUT
from lfr_darts_jax.data.image_folder import Arrays
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
    class_names: by label.
    skipped: files left out because of `data.skip_bad_files`, as paths relative to `data.dir`.
  """

  train: Arrays
  test: Callable[[], Arrays]
  class_names: tuple[str, ...]
  skipped: tuple[str, ...] = ()

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
    class_names: by label.
    skipped: none; bad files are found when it comes to them.
  """

  train: Source
  test: Callable[[], Source]
  class_names: tuple[str, ...]
  skipped: tuple[str, ...] = ()

  @property
  def train_images(self) -> int:
    """Images of the train split."""
    return len(self.train)


def open_dataset(config: ml_collections.ConfigDict) -> "Dataset | StreamedDataset":
  """Opens `data.name` as `data.loading` says; errors as of `load` and `open_streamed`."""
  return open_streamed(config) if config.data.loading == "stream" else load(config)


def open_streamed(config: ml_collections.ConfigDict) -> StreamedDataset:
  """Opens `data.name` where `data.loading` is "stream"; no image is read.

  Raises:
    UsageError: where it is unknown, or does not fit `data.channels` or `data.num_classes`.
  """
  data = config.data
  found = {}
  if data.name == "folder":
    train, test, class_names = list_folder(pathlib.Path(data.dir), config.seed)
    dataset = StreamedDataset(train, lambda: test, class_names)
  else:
    there = prepared(data.name, data.dir)
    dataset = StreamedDataset(EncodedTfds(there, "train"), lambda: EncodedTfds(there, "test"), there.class_names)
    found["channels"] = there.shape[-1]
  _check(config, found | {"num_classes": len(dataset.class_names)})
  return dataset


def load(config: ml_collections.ConfigDict) -> Dataset:
  """Loads `data.name` where `data.loading` is "device".

  Raises:
    UsageError: where it is unknown, does not fit `data.image_size`, `data.channels` or `data.num_classes`, or holds
      bad files.
  """
  data = config.data
  if data.name == "digits":
    dataset = _digits()
  elif data.name == "folder":
    train, test, class_names, skipped = load_folder(
      pathlib.Path(data.dir), data.image_size, data.channels, config.seed, data.skip_bad_files
    )
    dataset = Dataset(train, lambda: test, class_names, skipped)
  else:
    splits, class_names = load_tfds(data.name, data.dir, data.image_size)
    dataset = Dataset(splits("train"), lambda: splits("test"), class_names)
  height, width, channels = dataset.train[0].shape[1:]
  found = {"image_size": max(height, width), "channels": channels, "num_classes": len(dataset.class_names)}
  _check(config, found)
  return _hold_out(dataset, data.validation_fraction) if data.validation_fraction else dataset


def _hold_out(dataset, fraction):
  """A data set whose test split is a part of the train split."""
  images, labels = dataset.train
  held_out, rest = np.split(np.random.default_rng(7).permutation(len(labels)), [round(fraction * len(labels))])
  if not len(held_out):
    raise UsageError(f"config.data.validation_fraction: {fraction}; of {len(labels)} images that is none")
  part = lambda indices: (images[np.sort(indices)], labels[np.sort(indices)])
  return dataclasses.replace(dataset, train=part(rest), test=lambda: part(held_out))


def _check(config, found):
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
  return Dataset((train_images, train_labels), lambda: (test_images, test_labels), tuple(map(str, raw.target_names)))
