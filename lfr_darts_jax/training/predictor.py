"""The trained network of a work directory, to be used."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import augment, input_pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import paths, workdir as workdirs
from lfr_darts_jax.runtime.checkpoint import Broken
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import result as results, train
from lfr_darts_jax.training.evaluate import Evaluation, evaluate


class Predictor:
  """A trained network.

  Attributes:
    config: the config it was trained with.
    genotype: its cells.
    class_names: by label.
    statistics: mean and standard deviation by which images are normalised, per channel.
    variables: parameters and batch statistics.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    genotype: Genotype,
    class_names: Sequence[str],
    statistics: input_pipeline.Statistics,
    variables: Any,
  ):
    """Prepares a predictor.

    Args:
      config: the config.
      genotype: the cells.
      class_names: by label.
      statistics: mean and standard deviation of the train split, per channel.
      variables: parameters and batch statistics of the final network.
    """
    self.config, self.genotype, self.class_names = config, genotype, tuple(class_names)
    self.statistics, self.variables = statistics, variables
    self._network = final_network(config, genotype)
    self._probabilities = jax.jit(self._classify)

  def predict(self, images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Classifies images, `train.batch_size` at a time.

    Args:
      images: uint8 `[n, height, width, channels]`, see `data.image_size`.

    Returns:
      The name of every image's most probable class, and the probabilities `[n, classes]`.

    Raises:
      UsageError: where the images have another shape or type.
    """
    height, width, channels = shape = image_shape(self.config)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
      allowed = f"uint8[n, {height}, {width}, {channels}]"
      raise UsageError(f"images: {images.dtype}{list(images.shape)}; allowed are {allowed}")
    at_once = min(self.config.train.batch_size, max(len(images), 1))
    padded = np.concatenate([images, np.zeros((-len(images) % at_once, *images.shape[1:]), np.uint8)])
    batches = [self._probabilities(self.variables, batch) for batch in padded.reshape(-1, at_once, *images.shape[1:])]
    probabilities = np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *batches])[: len(images)]
    return [self.class_names[i] for i in probabilities.argmax(axis=-1)], probabilities

  def _classify(self, variables: Any, images: jax.Array) -> jax.Array:
    outputs: Any = self._network.apply(variables, augment.normalize(jnp.asarray(images), *self.statistics))
    return jax.nn.softmax(outputs.logits)

  def test(self, split: input_pipeline.Split, devices: Devices) -> Evaluation:
    """Tests the network on a split."""
    size = self.config.train.batch_size
    return evaluate(self._network, self.variables, split, size, self.statistics, devices=devices)


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
  return Predictor(config, genotype, result.class_names, statistics, variables)
