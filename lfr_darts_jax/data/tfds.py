"""Image classification data sets of tensorflow-datasets, read without TensorFlow."""

import collections
import dataclasses
import itertools
import pathlib
from typing import Any

from absl import logging
import ml_collections
import numpy as np

from lfr_darts_jax.data import splits
from lfr_darts_jax.errors import UsageError, listed, nearest, short
from lfr_darts_jax.runtime import paths

MOST_FOLDERS = 100  # In which a data set is looked for that is not where it should be.


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A data set of TFDS that is there.

  Attributes:
    builder: TFDS's.
    image, label: keys of its images and their labels, see `prepared`.
    splits: what is read as "train" and, where there is a test split, as "test": names or slices of TFDS.
    notes: what a user is told of it, in lines.
  """

  builder: Any
  image: str
  label: str
  splits: dict[str, str]
  notes: tuple[str, ...] = ()

  @property
  def class_names(self) -> tuple[str, ...]:
    """By label."""
    return tuple(self.builder.info.features[self.label].names)

  @property
  def shape(self) -> tuple[int | None, int | None, int]:
    """Of an image; None for what varies."""
    return self.builder.info.features[self.image].shape

  @property
  def version(self) -> str:
    """Its name, config and version."""
    return self.builder.info.full_name

  def images(self, split: str) -> int:
    """How many "train" or "test" has."""
    return self.builder.info.splits[self.splits[split]].num_examples


def prepared(data: ml_collections.ConfigDict, alone: bool = False) -> Prepared:
  """Opens a data set, preparing it first where it is not there.

  Args:
    data: the config's `data`: `name` and `dir` as `tfds.builder` takes them; `image_key` and `label_key`, or None for
      the data set's `supervised_keys`, and where these don't name an image or a class label, the only one there is;
      `train_split` and `test_split`, or None to go by the names of splits.
    alone: see `splits.choose`.

  Returns:
    The data set.

  Raises:
    UsageError: where the data set is unknown or none of image classification, a feature or a split is not there or one
      of several, its files can't be read, or TensorFlow is missing to prepare it.
  """
  import tensorflow_datasets as tfds

  builder = _builder(data.name, None if data.dir is None else paths.expanded(data.dir))
  supervised = builder.info.supervised_keys
  named = supervised if isinstance(supervised, tuple) and len(supervised) == 2 else (None, None)
  features = builder.info.features
  image = _feature(data.name, features, tfds.features.Image, "image_key", data.image_key, named[0])
  label = _feature(data.name, features, tfds.features.ClassLabel, "label_key", data.label_key, named[1])
  return _with_splits(Prepared(builder, image, label, {}), data, alone)


def _with_splits(there: Prepared, data: ml_collections.ConfigDict, alone: bool) -> Prepared:
  """The data set with its splits: those that are asked for, or else those whose names tell it."""
  every = there.builder.info.splits
  owner, notes = f"config.data.name: {short(data.name)}", []
  roles = {name: splits.role(name) for name in sorted(every) if every[name].num_examples}
  for field in ("train_split", "test_split"):
    if data[field] is not None:
      _check_split(every, field, data[field])
  train, test = data.train_split, data.test_split
  if train is None and not (alone and "train" not in roles.values()):
    train = splits.train_split(roles, owner)
  apart = {name: its for name, its in roles.items() if not (train and _shared(every, name, train))}
  if test is None:
    test = splits.test_split(apart, owner)
    if test and not _labelled(there, test):  # Those of competitions are secret, as ImageNet's are.
      notes.append(f"the split {short(test)} has no labels and is not used")
      del apart[test]
      test = splits.test_split(apart, owner)
  elif not _labelled(there, test):
    raise UsageError(f"config.data.test_split: {short(test)} has images without labels; allowed are splits with labels")
  elif train and _shared(every, train, test):
    if not alone:
      raise UsageError(
        f"config.data.test_split: {short(test)} shares images with {short(train)}, which is trained on; allowed are "
        "splits and slices that don't"
      )
    train = None
  parts = {part: name for part, name in (("train", train), ("test", test)) if name}
  if not parts:
    splits.train_split(roles, owner)
  unused = {n: every[n].num_examples for n in apart if not any(_shared(every, n, part) for part in parts.values())}
  notes += splits.said(roles, parts.get("train"), parts.get("test"), unused)
  return dataclasses.replace(there, splits=parts, notes=tuple(notes))


def _check_split(every: Any, field: str, name: str) -> None:
  """Refuses what is none of the splits that are there, has no records, or has some twice."""
  try:
    count, parts = every[name].num_examples, every[name].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    reason = str(error).strip().splitlines()[-1]
    raise UsageError(
      f"config.data.{field}: {short(name)}; allowed are {listed(sorted(every))} and TFDS's slices of them, such as "
      f"train[:80%] ({reason})"
    ) from None
  if not count:
    raise UsageError(f"config.data.{field}: {short(name)}; allowed are splits and slices with images, it has none")
  spans = sorted((part.filename, part.skip, part.skip + part.take) for part in parts)
  if any(a[0] == b[0] and b[1] < a[2] for a, b in itertools.pairwise(spans)):
    raise UsageError(f"config.data.{field}: {short(name)} has images twice; allowed are slices that share none")


def _shared(every: Any, one: str, other: str) -> bool:
  """Whether two splits or slices have records in common."""
  spans = collections.defaultdict(list)
  for part in every[one].file_instructions:
    spans[part.filename].append((part.skip, part.skip + part.take))
  parts = every[other].file_instructions
  return any(part.skip < end and start < part.skip + part.take for part in parts for start, end in spans[part.filename])


def _labelled(there: Prepared, split: str) -> bool:
  """Whether a split has labels, by its first record: TFDS has -1 for those that are secret."""
  return TfdsSource(there, split)[0][1] >= 0


def _feature(name: str, features: Any, kind: type, field: str, chosen: str | None, named: str | None) -> str:
  """The key of the feature of a kind: the chosen one, the one that the data set names, or the only one."""
  # The features come in another order in every process.
  candidates = sorted(key for key, feature in features.items() if isinstance(feature, kind))
  if not candidates:
    raise UsageError(
      f"config.data.name: {name!r} has no images with class labels; allowed are image classification data sets"
    )
  if chosen is not None and chosen not in candidates:
    raise UsageError(f"config.data.{field}: {short(chosen)}; {name} has {', '.join(candidates)}")
  if chosen is None and named not in candidates and len(candidates) > 1:
    raise UsageError(
      f"config.data.{field}: None; {name} does not say which one it is meant for; allowed are {', '.join(candidates)}"
    )
  return chosen or (named if named and named in candidates else candidates[0])


class TfdsSource:
  """The images of a split at random access, as they are on the disk; a `decoding.Source`."""

  def __init__(self, there: Prepared, split: str):
    """Opens a split or a slice of one, by TFDS's name; raises UsageError where its files can't be read so."""
    from tensorflow_datasets import decode

    self._name, self._keys = split, (there.image, there.label)
    try:
      self._source = there.builder.as_data_source(split, decoders={there.image: decode.SkipDecoding()})
    except NotImplementedError:
      info = there.builder.info
      raise UsageError(
        f"config.data.name: {info.name} lies in {there.builder.data_path} as {info.file_format.value} files, of which "
        "no single image can be read; allowed is array_record: another config.data.dir, in which the run prepares it "
        "so, or download_and_prepare(file_format='array_record') of what made it (pip install 'lfr-darts-jax[prepare]')"
      ) from None

  def __len__(self) -> int:
    """Number of images."""
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """An encoded image and its label."""
    image, label = self._keys
    row = self._source[index]
    return row[image], int(row[label])

  def name(self, index: int) -> str:
    """What to call an image in a message: as TFDS names a part of a split."""
    return f"{self._name}[{index}]"

  def labels(self) -> np.ndarray:
    """`[n]` int32; reads all records, since TFDS keeps labels with the images."""
    return np.array([self[index][1] for index in range(len(self))], np.int32)


def _builder(name: str, data_dir: str | None) -> Any:
  """The builder of a data set that is there, or can be prepared."""
  import tensorflow_datasets as tfds

  reason = ""
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    builder = None
  # Of other versions and of options in the name, TFDS says so by an assertion and a wrong argument.
  except (ValueError, AssertionError, TypeError) as error:
    builder, reason = None, f" ({str(error).strip().partition(chr(10))[0]})"
  except ImportError as error:
    builder, reason = None, f" (it needs {error.name}, which is missing)"
  if builder and builder.is_prepared():
    return builder
  _refuse_elsewhere(tfds, name, data_dir)
  if builder:
    return _prepare(tfds, name, data_dir)
  known = {*tfds.list_builders(with_community_datasets=False), *_names_in(data_dir)}
  raise UsageError(
    f"config.data.name: {short(name)}{reason}; allowed are digits, folder, what is prepared in config.data.dir, and "
    f"names that TFDS knows{nearest(name, known)}"
  )


def _refuse_elsewhere(tfds: Any, name: str, data_dir: str | None) -> None:
  """Refuses a directory that lies some levels too deep, or one too high, before something is prepared in it."""
  here = _on_disk(data_dir)
  if here is None:
    return
  inside = sorted(path for path in here.iterdir() if path.is_dir())[:MOST_FOLDERS] if here.is_dir() else []
  for place in (*here.parents[:3], *inside):
    if _is_prepared(tfds, name, str(place)):
      raise UsageError(
        f"config.data.dir: {data_dir} does not hold {name}; allowed is config.data.dir={place}, which does"
      )


def _on_disk(data_dir: str | None) -> pathlib.Path | None:
  """A directory as a path; None for TFDS's default, and for a bucket."""
  return None if data_dir is None or "://" in data_dir else pathlib.Path(data_dir).absolute()


def _is_prepared(tfds: Any, name: str, data_dir: str) -> bool:
  try:
    return bool(tfds.builder(name, data_dir=data_dir).is_prepared())
  except Exception:  # Whatever TFDS makes of a folder that is none of its own.
    return False


def _names_in(data_dir: str | None) -> set[str]:
  """The data sets that are prepared in a directory."""
  if data_dir is None:
    return set()
  here = pathlib.Path(data_dir)
  return {
    path.relative_to(here).parts[0] for depth in ("*/*", "*/*/*") for path in here.glob(f"{depth}/dataset_info.json")
  }


def _prepare(tfds: Any, name: str, data_dir: str | None) -> Any:
  try:
    import tensorflow  # noqa: F401
  except ImportError:
    place = data_dir or "the default data_dir of TFDS"
    missing = ", which is not there" if (here := _on_disk(data_dir)) and not here.exists() else ""
    raise UsageError(
      f"config.data.name: {name} is not prepared in {place}{missing}; preparing it needs TensorFlow: pip install "
      "'lfr-darts-jax[prepare]'"
    ) from None
  logging.info("Preparing %s in %s", name, data_dir)
  # On TFDS's default format, tfrecord, as_data_source does not work.
  builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  builder.download_and_prepare()
  return builder
