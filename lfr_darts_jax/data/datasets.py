"""Where images come from: scikit-learn's digits, TFDS, a folder of the user's own; as arrays, or to be streamed."""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib

import ml_collections
import numpy as np
from PIL import Image

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import image_folder, label_table, splits, tfds
from lfr_darts_jax.data.decoding import FORMATS, Arrays, Source, decode_all
from lfr_darts_jax.data.identity import Counts, Identity, by_class, digest, relabelling
from lfr_darts_jax.data.image_files import SHOWN
from lfr_darts_jax.errors import UsageError, listed
from lfr_darts_jax.runtime import paths


@dataclasses.dataclass(frozen=True)
class Dataset:
  """An image classification data set.

  Attributes:
    train: the train split: uint8 images `[n, height, width, channels]` and int32 labels `[n]`, or a source to stream.
    test: loads the test split; called by the final test alone.
    identity: what it is told by, its classes among it.
    skipped: names of the images that `data.skip_bad_files` leaves out.
    notes: what a user is told of how it was understood, in lines.
    test_images: of a test split that is not read yet, bad ones among them; None where it has only images that can be.
  """

  train: Arrays | Source
  test: Callable[[], Arrays | Source]
  identity: Identity
  skipped: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()
  test_images: int | None = None

  @property
  def class_names(self) -> tuple[str, ...]:
    """By label."""
    return self.identity.class_names

  def train_labels(self) -> np.ndarray:
    """`[n]` int32, of the train split; of a stream of TFDS they are read with all its images."""
    return self.train[1] if isinstance(self.train, tuple) else self.train.labels()

  @property
  def train_images(self) -> int:
    """Images of the train split."""
    return len(self.train[1]) if isinstance(self.train, tuple) else len(self.train)


def open_dataset(config: ml_collections.ConfigDict, alone: bool = False) -> Dataset:
  """Opens `data.name` as `data.loading` says: all of it as arrays, or sources of which no image is read.

  Args:
    config: the config.
    alone: whether it is for a test of what is trained already: then it may have other classes and no train split.

  Raises:
    UsageError: where it is unknown, does not fit `data.image_size`, `data.channels` or `data.num_classes`, or holds
      bad files and is not to be streamed.
  """
  open_it = {"digits": _digits, "folder": _folder}.get(config.data.name, _tfds)
  dataset = open_it(config, config.data.loading == "stream", alone)
  of_data = lambda shape, classes: {"image_size": shape[:2], "channels": shape[2], "num_classes": classes}
  asked = of_data(image_shape(config), config.data.num_classes)
  found = of_data(dataset.identity.shape, len(dataset.class_names))
  for field in list(found)[: 2 if alone else 3]:
    if asked[field] != found[field]:
      has = _by(found[field]) if field == "image_size" else found[field]
      raise UsageError(
        f"config.data.{field}: {config.data[field]}; {config.data.name} has {has}, which alone is allowed"
      )
  fraction = config.data.validation_fraction
  return _hold_out(dataset, fraction) if fraction else dataset


def open_test(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> tuple[Arrays | Source, Dataset]:
  """The test split for a network that knows some classes, which are told by their names.

  Args:
    config: see `open_dataset`; the data may have fewer classes than `data.num_classes`.
    class_names: the network's, by label.

  Returns:
    The split with the network's labels, and the data set.

  Raises:
    UsageError: where it has a class that the network does not know, and as of `open_dataset`.
  """
  dataset = open_dataset(config, alone=True)
  field = "dir" if config.data.name == "folder" else "name"
  labels = relabelling(f"config.data.{field}: {config.data[field]}", dataset.class_names, class_names)
  test = dataset.test()
  split = (test[0], labels[test[1]]) if isinstance(test, tuple) else Selected(test, np.arange(len(test)), labels)
  return split, dataset


class Selected:
  """Some images of a source, under other labels where these are given; attributes and methods as of `Source`."""

  def __init__(self, source: Source, indices: np.ndarray, labels: np.ndarray | None = None):
    """Takes the indices `[n]` of the images, and the new label of every label."""
    self._source, self._indices, self._labels = source, indices, labels

  def __len__(self) -> int:
    """Number of images."""
    return len(self._indices)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its label."""
    encoded, label = self._source[int(self._indices[index])]
    return encoded, label if self._labels is None else int(self._labels[label])

  def name(self, index: int) -> str:
    """See `Source`."""
    return self._source.name(int(self._indices[index]))

  def labels(self) -> np.ndarray:
    """See `Source`."""
    found = self._source.labels()[self._indices]
    return found if self._labels is None else self._labels[found]


def _hold_out(dataset: Dataset, fraction: float) -> Dataset:
  """A data set of arrays whose test split is a part of the train split."""
  assert isinstance(dataset.train, tuple)
  images, labels = dataset.train
  held_out, rest = np.split(np.random.default_rng(7).permutation(len(labels)), [round(fraction * len(labels))])
  if not len(held_out):
    raise UsageError(f"config.data.validation_fraction: {fraction}; of {len(labels)} images that is none")
  part = lambda indices: (images[np.sort(indices)], labels[np.sort(indices)])
  share = f"{fraction:g} of the train split by data.validation_fraction"
  before = dataset.identity.held_out
  identity = dataclasses.replace(dataset.identity, held_out=f"{before}; {share}" if before else share)
  test = lambda: part(held_out)
  return dataclasses.replace(dataset, train=part(rest), test=test, identity=identity, test_images=None)


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


def _digits(config: ml_collections.ConfigDict, streamed: bool, alone: bool) -> Dataset:
  from sklearn.datasets import load_digits
  from sklearn.model_selection import train_test_split

  raw = load_digits()
  images = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = raw.target.astype(np.int32)
  train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=1 / splits.HELD_OUT, random_state=0, stratify=labels
  )
  names = tuple(map(str, raw.target_names))
  counts: dict[str, Counts] = {"train": by_class(train_labels, names), "test": by_class(test_labels, names)}
  pixels = digest([images.tobytes(), labels.tobytes()])
  identity = Identity("digits", None, None, names, images.shape[1:], counts, pixels)
  return Dataset((train_images, train_labels), lambda: (test_images, test_labels), identity)


def _folder(config: ml_collections.ConfigDict, streamed: bool, alone: bool) -> Dataset:
  """A folder; what can't be read in either split is reported before a search and not after it."""
  data = config.data
  shape = image_shape(config)
  root = pathlib.Path(paths.expanded(data.dir))
  asked = data.train_split, data.test_split, alone
  if data.labels is None:
    listing = image_folder.list_folder(root, *asked)
  else:
    listing = label_table.list_table(root, data.labels, *asked)
  source = listing.source()
  images, bad = (None, source.bad()) if streamed else decode_all(source, shape)[::2]
  skipped = _skipped(data, f"config.data.dir: {data.dir}", source, bad)
  kept = np.setdiff1d(np.arange(len(source)), bad)
  tested = listing.test_mask(kept, data.split_seed)
  held_out, notes = _holding_out(data, tested) if listing.tested is None else ("", [])
  counts: dict[str, Counts] = {**listing.counts}
  told = digest(listing.entries())
  names, parts = listing.class_names, listing.splits
  identity = Identity("folder", None, None, names, shape, counts, told, parts, held_out, len(skipped))
  whole = Selected(source, kept) if images is None else (images, listing.labels[kept])
  test = _masked(whole, tested)
  return Dataset(_masked(whole, ~tested), lambda: test, identity, skipped, (*listing.notes, *notes, *_said(skipped)))


def _tfds(config: ml_collections.ConfigDict, streamed: bool, alone: bool) -> Dataset:
  """A data set of TFDS, whose test split is not read before the test."""
  data = config.data
  there = tfds.prepared(data, alone)
  shape = *image_shape(config)[:2], there.shape[2]
  names, parts, notes = there.class_names, there.splits, [*there.notes]
  records = {part: there.images(part) for part in parts}
  told = digest([there.version, *(f"{part} {count}" for part, count in records.items())])
  if not streamed and None not in there.shape and there.shape != shape:
    notes.append(f"images of {_by(there.shape[:2])} pixels are resized to {_by(shape[:2])}")

  def read(part: str) -> tuple[Arrays | Source, tuple[str, ...]]:
    source = tfds.TfdsSource(there, parts[part])
    if streamed:
      _check_labels(np.array([source[0][1]]), part, parts[part])
      return source, ()
    images, labels, bad = decode_all(source, shape)
    skipped = _skipped(data, f"config.data.name: {data.name}", source, bad)
    _check_labels(labels, part, parts[part])
    return (images, labels), skipped

  train: Arrays | Source = np.zeros((0, *shape), np.uint8), np.zeros(0, np.int32)
  skipped: tuple[str, ...] = ()
  counts: dict[str, Counts] = {**records}
  if "train" in parts:
    train, skipped = read("train")
    if isinstance(train, tuple):
      counts["train"] = by_class(train[1], names)
  test, held_out = (lambda: read("test")[0]), ""
  if "test" not in parts:
    labels = train[1] if isinstance(train, tuple) else tfds.TfdsSource(there, parts["train"]).labels()
    _check_labels(labels, "train", parts["train"])
    tested = splits.held_out(labels, len(names), data.split_seed)
    held_out, said = _holding_out(data, tested)
    train, kept = _masked(train, ~tested), _masked(train, tested)
    test, notes = (lambda: kept), [*notes, *said]
  identity = Identity(
    there.version, there.image, there.label, names, shape, counts, told, parts, held_out, len(skipped)
  )
  return Dataset(train, test, identity, skipped, (*notes, *_said(skipped)), records.get("test"))


def _check_labels(labels: np.ndarray, part: str, split: str) -> None:
  """Refuses a split of TFDS whose labels are secret: it has -1 for them."""
  if np.any(labels < 0):
    raise UsageError(
      f"config.data.{part}_split: {split} has images without labels; allowed are splits that have them all"
    )


def _masked(split: Arrays | Source, mask: np.ndarray) -> Arrays | Source:
  """The images that a mask `[n]` has."""
  return (split[0][mask], split[1][mask]) if isinstance(split, tuple) else Selected(split, np.flatnonzero(mask))


def _skipped(data: ml_collections.ConfigDict, owner: str, source: Source, bad: Sequence[int]) -> tuple[str, ...]:
  """The names of bad images, which are left out; raises UsageError where there are some and they are not to be."""
  names = tuple(source.name(index) for index in bad)
  if names and not data.skip_bad_files:
    raise UsageError(
      f"{owner}: {len(names)} of {len(source)} images can't be read: {listed(names, SHOWN, repr)}; allowed are whole "
      f"{', '.join(FORMATS)} files of at most {Image.MAX_IMAGE_PIXELS} pixels, or --config.data.skip_bad_files=True, "
      "which leaves the others out"
    )
  return names


def _said(skipped: Sequence[str]) -> list[str]:
  return [f"{len(skipped)} images can't be read and are left out ({listed(skipped, shown=repr)})"] if skipped else []


def _holding_out(data: ml_collections.ConfigDict, tested: np.ndarray) -> tuple[str, list[str]]:
  """What is held out of a train split by a mask of the test images, in words, and what a user is told of it."""
  if not tested.any():
    raise UsageError(
      f"config.data.dir: {data.dir} has no test split and one image per class; allowed is a class with two, or a test "
      "split"
    )
  share = f"a fifth of every class by data.split_seed {data.split_seed}"
  return share, [f"no test split: {share}, {int(tested.sum())} of {len(tested)} images, is held out for the test"]


def _by(size: Sequence[int | None]) -> str:
  return "x".join(map(str, size))
