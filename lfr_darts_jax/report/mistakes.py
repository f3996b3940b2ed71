"""A sample of the test images that the network got wrong, kept beside the result so that a page needs no data set."""

import io
import pathlib
from typing import NamedTuple

import numpy as np

from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.files import write_atomically

NAME, MAX_IMAGES = "mistakes.npz", 24


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


def save(workdir: pathlib.Path, test: tuple[np.ndarray, np.ndarray], tested: Evaluation, seed: int) -> None:
  """Keeps a random sample of at most `MAX_IMAGES` wrong images, in the order of the test split."""
  images, labels = test
  wrong = np.flatnonzero(tested.predicted != labels)
  chosen = np.sort(np.random.default_rng([seed, 4]).permutation(wrong)[:MAX_IMAGES])
  file = io.BytesIO()
  sample = Mistakes(images[chosen], labels[chosen], tested.predicted[chosen], tested.confidence[chosen])
  np.savez_compressed(file, **sample._asdict())
  write_atomically(workdir / NAME, file.getvalue())


def load(workdir: pathlib.Path) -> Mistakes | None:
  """The sample of a work directory, None where nothing has been tested there."""
  path = workdir / NAME
  if not path.exists():
    return None
  with np.load(path, allow_pickle=False) as arrays:
    return Mistakes(*(arrays[name] for name in Mistakes._fields))
