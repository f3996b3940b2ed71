"""A sample of the test images that the network got wrong, kept beside the result so that a page needs no data set."""

from collections.abc import Callable
import io
from typing import NamedTuple
import zipfile

import ml_collections
import numpy as np

from lfr_darts_jax import reading
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.files import write_atomically
from lfr_darts_jax.storage import Path

NAME, MAX_IMAGES = "mistakes.npz", 24
MAX_OVERHEAD = 100_000  # Bytes of labels and headers.


class Mistakes(NamedTuple):
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
  sample = Mistakes(images(chosen), tested.labels[chosen], tested.predicted[chosen], tested.confidence[chosen])
  np.savez_compressed(file, **sample._asdict())
  write_atomically(workdir / NAME, file.getvalue())


def load(workdir: Path, config: ml_collections.ConfigDict) -> Mistakes | None:
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
  most = MAX_IMAGES * data.image_size**2 * data.channels + MAX_OVERHEAD
  content = reading.read_bytes(path, most)
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      if sum(member.file_size for member in archive.infolist()) > most:
        raise ValueError(f"more than {most} bytes unpacked")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      found = Mistakes(*(arrays[name] for name in Mistakes._fields))
    _check(found, data)
  except Exception as error:  # Broken archives and arrays raise all sorts of errors.
    raise UsageError(f"{path}: {error}; allowed is what a test has written there") from None
  return found


def _check(found, data):
  images, labels, predicted, confidence = found
  count = len(images)
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != data.channels or count > MAX_IMAGES:
    raise ValueError(f"images of {images.dtype}{list(images.shape)}")
  for name, classes in (("labels", labels), ("predicted", predicted)):
    if classes.dtype.kind not in "iu" or classes.shape != (count,) or np.any(classes >= data.num_classes):
      raise ValueError(f"{name} of {classes.dtype}{list(classes.shape)}, of {data.num_classes} classes")
    if np.any(classes < 0):
      raise ValueError(f"{name} below 0")
  if confidence.dtype.kind != "f" or confidence.shape != (count,) or not np.all(np.isfinite(confidence)):
    raise ValueError(f"confidence of {confidence.dtype}{list(confidence.shape)}")
