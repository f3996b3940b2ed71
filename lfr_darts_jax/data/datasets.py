"""Where images come from: scikit-learn's digits, TFDS, a folder of the user's own; as arrays, or to be streamed."""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib

import ml_collections
import numpy as np

from lfr_darts_jax.data import image_folder, tfds
from lfr_darts_jax.data.decoding import Arrays, Source, decode_all
from lfr_darts_jax.data.identity import Counts, Identity, by_class, digest, relabelling
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import paths


@dataclasses.dataclass(frozen=True)
class Dataset:
  """An image classification data set.

  Attributes:
    train: the train split: uint8 images `[n, height, width, channels]` and int32 labels `[n]`, or a source to stream.
    test: loads the test split; called by the final test alone.
    identity: what it is told by, its classes among it.
    skipped: files left out because of `data.skip_bad_files`, as paths relative to `data.dir`.
  """

  train: Arrays | Source
  test: Callable[[], Arrays | Source]
  identity: Identity
  skipped: tuple[str, ...] = ()

  @property
  def class_names(self) -> tuple[str, ...]:
    """By label."""
    return self.identity.class_names

  @property
  def train_images(self) -> int:
    """Images of the train split."""
    return len(self.train[1]) if isinstance(self.train, tuple) else len(self.train)


def open_dataset(config: ml_collections.ConfigDict, classes: bool = True) -> Dataset:
  """Opens `data.name` as `data.loading` says: all of it as arrays, or sources of which no image is read.

  Args:
    config: the config.
    classes: whether it must have `data.num_classes`.

  Raises:
    UsageError: where it is unknown, does not fit `data.image_size`, `data.channels` or `data.num_classes`, or holds
      bad files and is not to be streamed.
  """
  open_it = {"digits": _digits, "folder": _folder}.get(config.data.name, _tfds)
  dataset = open_it(config, config.data.loading == "stream")
  height, width, channels = dataset.identity.shape
  found = {"image_size": max(height, width), "channels": channels, "num_classes": len(dataset.class_names)}
  for field, value in list(found.items())[: 3 if classes else 2]:
    if config.data[field] != value:
      raise UsageError(
        f"config.data.{field}: {config.data[field]}; {config.data.name} has {value}, which alone is allowed"
      )
  fraction = config.data.validation_fraction
  return _hold_out(dataset, fraction) if fraction else dataset


def open_test(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> tuple[Arrays | Source, Identity]:
  """The test split for a network that knows some classes, which are told by their names.

  Args:
    config: see `open_dataset`; the data may have fewer classes than `data.num_classes`.
    class_names: the network's, by label.

  Returns:
    The split with the network's labels, and what its data set is told by.

  Raises:
    UsageError: where it has a class that the network does not know, and as of `open_dataset`.
  """
  dataset = open_dataset(config, classes=False)
  field = "dir" if config.data.name == "folder" else "name"
  labels = relabelling(f"config.data.{field}: {config.data[field]}", dataset.class_names, class_names)
  test = dataset.test()
  return ((test[0], labels[test[1]]) if isinstance(test, tuple) else Relabelled(test, labels)), dataset.identity


class Relabelled:
  """A source whose labels are replaced; attributes and methods as of `Source`."""

  def __init__(self, source: Source, labels: np.ndarray):
    """Takes the new label of every label."""
    self._source, self._labels = source, labels

  def __len__(self) -> int:
    """Number of images."""
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its new label."""
    encoded, label = self._source[index]
    return encoded, int(self._labels[label])

  def name(self, index: int) -> str:
    """See `Source`."""
    return self._source.name(index)


def _hold_out(dataset: Dataset, fraction: float) -> Dataset:
  """A data set of arrays whose test split is a part of the train split."""
  assert isinstance(dataset.train, tuple)
  images, labels = dataset.train
  held_out, rest = np.split(np.random.default_rng(7).permutation(len(labels)), [round(fraction * len(labels))])
  if not len(held_out):
    raise UsageError(f"config.data.validation_fraction: {fraction}; of {len(labels)} images that is none")
  part = lambda indices: (images[np.sort(indices)], labels[np.sort(indices)])
  return dataclasses.replace(dataset, train=part(rest), test=lambda: part(held_out))


def search_splits(count: int, fraction: float, batch_size: int, seed: int) -> np.ndarray:
  """Splits the search's share of the train split in two by seed: DARTS's train and validation data.

  Args:
    count: images in the train split.
    fraction: the share.
    batch_size: images of a batch.
    seed: of the split.

  Returns:
    `[2, n]` int32 indices: of the images that train weights, then of those that train alphas.

  Raises:
    UsageError: where one of them does not fill a batch.
  """
  size = int(count * fraction) // 2
  if batch_size > size:
    raise UsageError(
      f"config.search.batch_size: {batch_size}; allowed are at most {size}, the size of a data half "
      f"({fraction:g} of {count} images, halved)"
    )
  order = np.random.default_rng([seed, 1]).permutation(count)
  return order[: 2 * size].reshape(2, size).astype(np.int32)


def _digits(config: ml_collections.ConfigDict, streamed: bool) -> Dataset:
  from sklearn.datasets import load_digits
  from sklearn.model_selection import train_test_split

  raw = load_digits()
  images = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = raw.target.astype(np.int32)
  train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=1 / image_folder.HELD_OUT, random_state=0, stratify=labels
  )
  names = tuple(map(str, raw.target_names))
  counts: dict[str, Counts] = {"train": by_class(train_labels, names), "test": by_class(test_labels, names)}
  pixels = digest([images.tobytes(), labels.tobytes()])
  identity = Identity("digits", None, None, names, images.shape[1:], counts, pixels)
  return Dataset((train_images, train_labels), lambda: (test_images, test_labels), identity)


def _folder(config: ml_collections.ConfigDict, streamed: bool) -> Dataset:
  """A folder; of arrays, both splits are decoded, so that a bad file is reported before a search and not after it."""
  data = config.data
  shape = data.image_size, data.image_size, data.channels
  listing = image_folder.list_folder(pathlib.Path(paths.expanded(data.dir)))
  identity = Identity("folder", None, None, listing.class_names, shape, {**listing.counts}, digest(listing.entries()))
  source = listing.source()
  if streamed:
    is_test, labels = listing.splits(source.labels, data.split_seed)
    test = source.part(is_test, labels)
    return Dataset(source.part(~is_test, labels), lambda: test, identity)
  images, groups, bad = decode_all(source, shape, resize=True)
  skipped = tuple(source.name(index) for index in bad)
  if not data.skip_bad_files:
    image_folder.refuse_bad(listing.root, skipped, len(source))
  is_test, labels = listing.splits(groups, data.split_seed)
  tested = images[is_test], labels[is_test]
  return Dataset((images[~is_test], labels[~is_test]), lambda: tested, identity, skipped)


def _tfds(config: ml_collections.ConfigDict, streamed: bool) -> Dataset:
  """A data set of TFDS, whose test split is not read before the test."""
  data = config.data
  folder = data.dir and paths.expanded(data.dir)
  there = tfds.prepared(data.name, folder, data.image_key, data.label_key)
  height, width, channels = there.shape
  shape: tuple[int, ...] = data.image_size, data.image_size, channels
  if fixed := not streamed and height is not None and width is not None:
    shape = height, width, channels
  records = {split: there.images(split) for split in ("train", "test")}
  told = digest([there.version, *(f"{split} {count}" for split, count in records.items())])
  names = there.class_names

  def read(split: str) -> Arrays | Source:
    source = tfds.TfdsSource(there, split)
    if streamed:
      return source
    images, labels, bad = decode_all(source, shape, resize=not fixed)
    if bad:
      raise UsageError(f"config.data.name: {data.name}: {source.name(bad[0])} can't be read as an image")
    return images, labels

  train = read("train")
  counts: dict[str, Counts] = {**records}
  if isinstance(train, tuple):
    counts["train"] = by_class(train[1], names)
  identity = Identity(there.version, there.image, there.label, names, shape, counts, told)
  return Dataset(train, lambda: read("test"), identity)
