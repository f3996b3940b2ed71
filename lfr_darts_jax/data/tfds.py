"""Image classification data sets of tensorflow-datasets, read without TensorFlow."""

import dataclasses
from typing import Any

from absl import logging

from lfr_darts_jax.errors import UsageError, short


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A data set of TFDS that is there.

  Attributes:
    builder: TFDS's.
    image, label: keys of its images and their labels, see `prepared`.
    test: the split that it is tested on: "test", or "validation" where there is none, or none with labels.
  """

  builder: Any
  image: str
  label: str
  test: str

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

  def split(self, name: str) -> str:
    """TFDS's name of "train" or "test"."""
    return self.test if name == "test" else name

  def images(self, split: str) -> int:
    """How many "train" or "test" has."""
    return self.builder.info.splits[self.split(split)].num_examples


def prepared(name: str, data_dir: str | None, image_key: str | None = None, label_key: str | None = None) -> Prepared:
  """Opens a data set, preparing it first where it is not there.

  Args:
    name: the name that `tfds.builder` takes.
    data_dir: TFDS's `data_dir`, None for its default.
    image_key, label_key: names of the features to take. None: those of the data set's `supervised_keys`; where these
      don't name an image or a class label, the only one there is.

  Returns:
    The data set.

  Raises:
    UsageError: where the data set is unknown or none of image classification, a feature is not there or one of several,
      or TensorFlow is missing to prepare it.
  """
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(name, data_dir=data_dir)
  # Of other versions and of options in the name, TFDS says so by an assertion and a wrong argument.
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, TypeError) as error:
    reason = str(error).strip().partition("\n")[0]
    raise UsageError(
      f"config.data.name: {short(name)}; allowed are digits, folder, and names that TFDS knows ({reason})"
    ) from None
  except ImportError:
    raise _tensorflow_missing(name, data_dir) from None
  if not builder.is_prepared():
    builder = _prepare(tfds, name, data_dir)
  supervised = builder.info.supervised_keys
  named = supervised if isinstance(supervised, tuple) and len(supervised) == 2 else (None, None)
  features = builder.info.features
  image = _feature(name, features, tfds.features.Image, "image_key", image_key, named[0])
  label = _feature(name, features, tfds.features.ClassLabel, "label_key", label_key, named[1])
  test = "test" if "test" in builder.info.splits else "validation"
  for split in ("train", test):
    if split not in builder.info.splits:
      raise UsageError(
        f"config.data.name: {name!r} has no {split} split; it has {', '.join(sorted(builder.info.splits))}"
      )
  there = Prepared(builder, image, label, test)
  if test == "test" and "validation" in builder.info.splits and _unlabelled(there):
    return dataclasses.replace(there, test="validation")
  return there


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
    """Opens "train" or "test"."""
    from tensorflow_datasets import decode

    self._name, self._keys = there.split(split), (there.image, there.label)
    self._source = there.builder.as_data_source(self._name, decoders={there.image: decode.SkipDecoding()})

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


def _unlabelled(there: Prepared) -> bool:
  """Whether the labels of the test split are secret, as those of ImageNet: TFDS has -1 for them."""
  return TfdsSource(there, "test")[0][1] < 0


def _prepare(tfds: Any, name: str, data_dir: str | None) -> Any:
  try:
    import tensorflow  # noqa: F401
  except ImportError:
    raise _tensorflow_missing(name, data_dir) from None
  logging.info("Preparing %s in %s", name, data_dir)
  # On TFDS's default format, tfrecord, as_data_source does not work.
  builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  builder.download_and_prepare()
  return builder


def _tensorflow_missing(name: str, data_dir: str | None) -> UsageError:
  return UsageError(
    f"config.data.name: {name} is not prepared in {data_dir or 'the default data_dir of TFDS'}; preparing "
    "it needs TensorFlow: pip install 'lfr-darts-jax[prepare]'"
  )
