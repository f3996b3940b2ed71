"""Where images come from: scikit-learn's digits, TFDS, a folder of the user's own."""

from collections.abc import Callable
import dataclasses
import pathlib

import ml_collections
import numpy as np

from lfr_darts_jax.data.tfds_source import load_tfds
from lfr_darts_jax.errors import UsageError

Arrays = tuple[np.ndarray, np.ndarray]
IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
HELD_OUT = 5  # One in so many images is kept for the test where a source has no test split of its own.


@dataclasses.dataclass(frozen=True)
class Dataset:
  """An image classification data set.

  Attributes:
    train: uint8 images `[n, height, width, channels]` and int32 labels `[n]`.
    test: loads the same of the test split; called by the final test alone.
    class_names: by label.
  """

  train: Arrays
  test: Callable[[], Arrays]
  class_names: tuple[str, ...]


def load(config: ml_collections.ConfigDict) -> Dataset:
  """Loads `data.name`.

  Raises:
    UsageError: where it is unknown or does not fit `data.image_size`, `data.channels` or `data.num_classes`.
  """
  data = config.data
  if data.name == "digits":
    dataset = _digits()
  elif data.name == "folder":
    dataset = _folder(pathlib.Path(data.dir), data.image_size, data.channels, config.seed)
  else:
    splits, class_names = load_tfds(data.name, data.dir, data.image_size)
    dataset = Dataset(splits("train"), lambda: splits("test"), class_names)
  height, width, channels = dataset.train[0].shape[1:]
  for field, value, found in (
    ("image_size", data.image_size, max(height, width)),
    ("channels", data.channels, channels),
    ("num_classes", data.num_classes, len(dataset.class_names)),
  ):
    if value != found:
      raise UsageError(f"config.data.{field}: {value}; {data.name} has {found}, which alone is allowed")
  return dataset


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


def _folder(root, size, channels, seed):
  train = root / "train"
  if not train.is_dir():
    raise UsageError(f"config.data.dir: {root}; allowed is a folder that holds train/<class>/*")
  class_names = tuple(sorted(p.name for p in train.iterdir() if p.is_dir() and not p.name.startswith(".")))
  if len(class_names) < 2:
    raise UsageError(f"config.data.dir: {train} has {len(class_names)} class folders; at least two are allowed")
  files = _image_files(train, class_names)
  for name, found in zip(class_names, files, strict=True):
    if not found:
      raise UsageError(
        f"config.data.dir: {train / name} holds no images; allowed are files named "
        f"*{', *'.join(sorted(IMAGE_SUFFIXES))}"
      )
  if (root / "test").is_dir():
    test = _image_files(root / "test", class_names)
    if not any(test):
      raise UsageError(f"config.data.dir: {root / 'test'} holds no images of the classes in {train}")
  else:
    rng = np.random.default_rng([seed, 2])
    shuffled = [[found[i] for i in rng.permutation(len(found))] for found in files]
    # Two images are needed for one in each part; a class with a single one is trained on only.
    cuts = [min(max(round(len(found) / HELD_OUT), 1), len(found) - 1) for found in files]
    test = [sorted(found[:cut]) for found, cut in zip(shuffled, cuts, strict=True)]
    files = [sorted(found[cut:]) for found, cut in zip(shuffled, cuts, strict=True)]
    if not any(test):
      raise UsageError(
        f"config.data.dir: {train} has one image per class; at least one class with two is allowed, or "
        f"a test folder beside it"
      )
  # All files are decoded now, so that a bad one is reported before the search and not after it.
  arrays = _read([*files, *test], size, channels)
  cut = sum(map(len, files))
  labels = arrays[1] % len(class_names)
  return Dataset((arrays[0][:cut], labels[:cut]), lambda: (arrays[0][cut:], labels[cut:]), class_names)


def _image_files(folder, class_names):
  return [sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES) for name in class_names]


def _read(files, size, channels):
  from PIL import Image
  from PIL import ImageOps

  images, labels, bad = [], [], []
  for label, found in enumerate(files):
    for path in found:
      try:
        with Image.open(path) as image:
          image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
          image = image.resize((size, size), Image.Resampling.BILINEAR)
      except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        bad.append(path)
        continue
      images.append(np.asarray(image, np.uint8).reshape(size, size, channels))
      labels.append(label)
  if bad:
    raise UsageError(
      f"config.data.dir: {len(bad)} files can't be read as images, the first is {bad[0]}; allowed are "
      "files that Pillow opens"
    )
  return np.stack(images), np.array(labels, np.int32)
