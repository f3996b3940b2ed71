"""A sample of misclassified test images, kept beside the result so that a page needs no data set."""

from collections.abc import Callable
import io
import math
from typing import NamedTuple
import zipfile

import ml_collections
import numpy as np

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io
from lfr_darts_jax.runtime.paths import Path, write_atomically
from lfr_darts_jax.training.evaluate import Evaluation

NAME, MAX_IMAGES = "mistakes.npz", 24
MAX_OVERHEAD = 100_000  # Bytes of labels and headers.


class Sample(NamedTuple):
  """Images with what they show and what the network said.

  Attributes:
    images: uint8 `[n, height, width, channels]`.
    labels: `[n]`, the true classes.
    predicted: `[n]`, the most probable ones.
    confidence: `[n]`, the probabilities of these.
  """

  images: np.ndarray
  labels: np.ndarray
  predicted: np.ndarray
  confidence: np.ndarray


def save(workdir: Path, images: Callable[[np.ndarray], np.ndarray], tested: Evaluation, seed: int) -> None:
  """Keeps a random sample of at most `MAX_IMAGES` wrong images, in the order of the test split.

  Args:
    workdir: where.
    images: from indices to images of the test split.
    tested: the test.
    seed: of the sample.
  """
  wrong = np.flatnonzero(tested.predicted != tested.labels)
  chosen = np.sort(np.random.default_rng([seed, 4]).permutation(wrong)[:MAX_IMAGES])
  file = io.BytesIO()
  sample = Sample(images(chosen), tested.labels[chosen], tested.predicted[chosen], tested.confidence[chosen])
  np.savez_compressed(file, **sample._asdict())
  write_atomically(workdir / NAME, file.getvalue())


def load(workdir: Path, config: ml_collections.ConfigDict) -> Sample | None:
  """The sample of a work directory, None where nothing has been tested there.

  Args:
    workdir: the directory.
    config: its config, which bounds the images and the labels.

  Raises:
    UsageError: where its file can't be read, or is none that `save` has written.
  """
  path, data = workdir / NAME, config.data
  if not path.exists():
    return None
  most = MAX_IMAGES * math.prod(image_shape(config)) + MAX_OVERHEAD
  content = json_io.read_bytes(path, most)
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      if sum(member.file_size for member in archive.infolist()) > most:
        raise ValueError(f"more than {most} bytes unpacked")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      found = Sample(*(arrays[name] for name in Sample._fields))
    _check(found, data)
  except Exception as error:  # Broken archives and arrays raise all sorts of errors.
    raise UsageError(f"{path}: {error}; allowed is what a test has written there") from None
  return found


def _check(found: Sample, data: ml_collections.ConfigDict) -> None:
  count = len(found.images)
  kinds = {"images": "u", "labels": "iu", "predicted": "iu", "confidence": "f"}
  for name, array in found._asdict().items():
    shape = (count, *array.shape[1:3], data.channels) if name == "images" else (count,)
    if array.dtype.kind not in kinds[name] or array.shape != shape or count > MAX_IMAGES:
      raise ValueError(f"{name} of {array.dtype}{list(array.shape)}")
    if "i" in kinds[name] and np.any((array < 0) | (array >= data.num_classes)):
      raise ValueError(f"{name} outside of {data.num_classes} classes")
  if found.images.dtype != np.uint8 or not np.all(np.isfinite(found.confidence)):
    raise ValueError("confidence that is none, or images that are not uint8")
