"""The trained network of a work directory, to be used."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import augment, decoding, given, input_pipeline, view
from lfr_darts_jax.data.given import Given, Item
from lfr_darts_jax.data.image_files import SHOWN
from lfr_darts_jax.errors import UsageError, listed
from lfr_darts_jax.models.spaces import AnyNetwork, final_network
from lfr_darts_jax.runtime import paths, workdir as workdirs
from lfr_darts_jax.runtime.checkpoint import Broken
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import result as results, train
from lfr_darts_jax.training.evaluate import Evaluation, evaluate

AT_ONCE = 32  # Images in a batch, at most: one image alone costs no more than these, and more are hardly faster.


class Pair(NamedTuple):
  """Names of the most probable classes, and the probabilities of all; see `Prediction`."""

  names: list[str]
  probabilities: np.ndarray


class Prediction(Pair):
  """What is predicted of images: a pair of the names of their most probable classes, and of all probabilities.

  Attributes:
    names: of every image's most probable class.
    probabilities: float32 `[n, classes]`.
    files: of every image its path; None where it is no file.
    skipped: paths of files that can't be read, and are none of these images.
  """

  files: tuple[str | None, ...]
  skipped: tuple[str, ...]


class Predictor:
  """A trained network.

  Attributes:
    config: the config it was trained with.
    genotype: its cells.
    class_names: by label.
    statistics: mean and standard deviation by which images are normalised, per channel.
    variables: parameters and batch statistics.
    network: the final network.
    workdir: the directory it was loaded from; None where it was not.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    genotype: Genotype,
    class_names: Sequence[str],
    statistics: input_pipeline.Statistics,
    variables: Any,
    workdir: Path | None = None,
  ):
    """Prepares a predictor; arguments are its attributes."""
    self.config, self.genotype, self.class_names = config, genotype, tuple(class_names)
    self.statistics, self.variables, self.workdir = statistics, variables, workdir
    self.network = final_network(config, genotype)
    self._probabilities = jax.jit(functools.partial(probabilities, self.network, statistics))

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height and width in pixels, and channels, of the images that the network sees."""
    return schema.image_shape(self.config)

  def predict(self, images: Given, skip_bad_files: bool = False) -> Prediction:
    """Classifies images, any number of them, as the test saw its own.

    Args:
      images: uint8 `[n, height, width, channels]`, which are taken as they are; one image of any size, as an array or
        as Pillow has it; a path, a folder or a pattern of files; a list of these. See `data.given.items`.
      skip_bad_files: whether files that can't be read are left out.

    Returns:
      The name of every image's most probable class, and the probabilities `[n, classes]`.

    Raises:
      UsageError: where it is something else, or a file can't be read that is not to be left out.
    """
    rows = list(self.classify(given.items(images, self.image_shape, given.Leftovers())))
    bad = [item.name or "an image in memory" for item, row in rows if row is None]
    if bad and not skip_bad_files:
      raise UsageError(f"images: {unreadable(bad, len(rows))}; allowed are whole ones, or skip_bad_files=True")
    good = [(item.name, row) for item, row in rows if row is not None]
    found = np.array([row for _, row in good], np.float32).reshape(-1, len(self.class_names))
    made = Prediction([self.class_names[i] for i in found.argmax(axis=-1)], found)
    made.files, made.skipped = tuple(name for name, _ in good), tuple(bad)
    return made

  def classify(self, items: Sequence[Item]) -> Iterator[tuple[Item, np.ndarray | None]]:
    """The probabilities `[classes]` of images, in their order; None where one can't be read.

    They come in padded batches of one size, so that the network is compiled once.
    """
    size, see = min(self.config.train.batch_size, AT_ONCE), view.of_test(self.config)
    variables = jax.device_put(self.variables)
    with ThreadPoolExecutor() as pool:
      for start in range(0, len(items), size):
        batch = items[start : start + size]
        with decoding.quiet():  # Around all threads, since what it sets is the process's.
          seen = list(pool.map(lambda item: _seen(item, see), batch))
        padded = np.zeros((size, *self.image_shape), np.uint8)
        for i, image in enumerate(seen):
          if image is not None:
            padded[i] = image
        rows = np.asarray(self._probabilities(variables, padded), np.float32)
        yield from zip(batch, [None if image is None else rows[i] for i, image in enumerate(seen)], strict=True)

  def test(self, split: input_pipeline.Split, devices: Devices) -> Evaluation:
    """Tests the network on a split."""
    size = self.config.train.batch_size
    return evaluate(self.network, self.variables, split, size, self.statistics, devices=devices)

  def _repr_html_(self) -> str:
    """The run's figures and drawings, as a notebook shows them."""
    import lfr_darts_jax  # Which looks up on demand what draws, since that lies floors above.

    html: str = lfr_darts_jax.in_notebook(self)
    return html


def probabilities(
  network: AnyNetwork, statistics: input_pipeline.Statistics, variables: Any, images: jax.Array
) -> jax.Array:
  """The probabilities `[batch, classes]` of uint8 images `[batch, height, width, channels]`."""
  outputs: Any = network.apply(variables, augment.normalize(jnp.asarray(images), *statistics))
  return jax.nn.softmax(outputs.logits)


def unreadable(names: Sequence[str], count: int) -> str:
  """What is said of images that can't be read, out of so many."""
  return f"{len(names)} of {count} can't be read: {listed(names, SHOWN, repr)}"


def _seen(item: Item, see: view.View) -> np.ndarray | None:
  """An image as the network sees it; None where it can't be read."""
  if isinstance(item.image, np.ndarray):
    return item.image
  try:
    return see(_content(item.image) if isinstance(item.image, str) else item.image)
  except MemoryError:
    raise  # That is the machine's fault, not the file's.
  except Exception:  # Decoders raise all sorts of errors on broken files.
    return None


def _content(path: str) -> bytes:
  if not os.path.isfile(path):
    raise OSError(f"{path} is no file")  # A named pipe, for one, would block for ever.
  with open(path, "rb") as file:
    return file.read()


def load(workdir: str | Path) -> Predictor:
  """Loads the trained network of a work directory, in which nothing is changed.

  Raises:
    UsageError: where the directory holds none, one of its files can't be read, or its checkpoint is not whole. An
      earlier one would not be the network that `result.json` tells of.
  """
  workdir = paths.path(workdir)
  config = workdirs.load_config(workdir)
  result = results.load(workdir, config)
  if result is None or not (workdir / workdirs.GENOTYPE).exists():
    missing = workdirs.RESULT if result is None else workdirs.GENOTYPE
    raise UsageError(f"workdir: {workdir} has no {missing}; allowed is the directory of a finished training")
  genotype = formats.load(workdir / workdirs.GENOTYPE)
  try:
    variables = train.load_variables(config, final_network(config, genotype), workdir, result.updates)
  except Broken as error:
    raise UsageError(
      f"workdir: the checkpoint {workdir / workdirs.CHECKPOINTS}/{result.updates} is not whole: {error}; allowed is a "
      f"whole one (without {workdirs.RESULT}, a run trains on from the newest that is)"
    ) from None
  statistics = tuple(result.mean), tuple(result.deviation)
  return Predictor(config, genotype, result.class_names, statistics, variables, workdir)
