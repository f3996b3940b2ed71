"""The trained network of a work directory, to be used."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax import feeds
from lfr_darts_jax import kept
from lfr_darts_jax import storage
from lfr_darts_jax import trainer
from lfr_darts_jax import workdir as places
from lfr_darts_jax.checkpoint import Broken
from lfr_darts_jax.data import augment
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.network import final_network
from lfr_darts_jax.storage import Path


class Predictor:
  """The trained network of a work directory.

  Attributes:
    config: the config it was trained with.
    genotype: its cells.
    class_names: by label.
  """

  def __init__(self, config: ml_collections.ConfigDict, genotype: Genotype, result: dict[str, Any], variables: Any):
    """Prepares a predictor.

    Args:
      config: the config.
      genotype: the cells.
      result: as of `result.json`, for `class_names`, and `mean` and `deviation` of the train split.
      variables: parameters and batch statistics of the final network.
    """
    self.config, self.genotype = config, genotype
    self.class_names = tuple(result["class_names"])
    self._mean, self._deviation = tuple(result["mean"]), tuple(result["deviation"])
    self._variables, self._network = variables, final_network(config, genotype)

  def predict(self, images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Classifies images.

    Args:
      images: uint8 `[n, image_size, image_size, channels]`.

    Returns:
      The name of every image's most probable class, and the probabilities `[n, classes]`.

    Raises:
      UsageError: where the images have another shape or type.
    """
    size, channels = self.config.data.image_size, self.config.data.channels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, channels):
      raise UsageError(f"images: {images.dtype}{list(images.shape)}; allowed are uint8[n, {size}, {size}, {channels}]")
    normal = augment.normalize(jnp.asarray(images), self._mean, self._deviation)
    outputs: Any = self._network.apply(self._variables, normal)
    probabilities = np.asarray(jax.nn.softmax(outputs.logits))
    return [self.class_names[i] for i in probabilities.argmax(axis=-1)], probabilities

  def count(self, test: feeds.Split) -> Evaluation:
    """Tests the network on a split."""
    everything, batch_size = np.arange(test.count), self.config.train.batch_size
    return test.evaluate(self._network, self._variables, everything, batch_size, (self._mean, self._deviation))


def load(workdir: str | Path) -> Predictor:
  """Loads the trained network of a work directory.

  Nothing in it is changed.

  Raises:
    UsageError: where the directory holds none, one of its files can't be read, or its checkpoint is not whole. An
      earlier one would not be the network that `result.json` tells of.
  """
  workdir = storage.path(workdir)
  config = kept.config(workdir)
  genotype, result = kept.genotype(workdir), kept.result(workdir, config)
  if genotype is None or result is None:
    missing = places.RESULT if result is None else places.GENOTYPE
    raise UsageError(f"workdir: {workdir} has no {missing}; allowed is the directory of a finished training")
  try:
    variables = trainer.read(config, final_network(config, genotype), workdir, result["updates"])
  except Broken as error:
    raise UsageError(
      f"workdir: the checkpoint {workdir / places.CHECKPOINTS}/{result['updates']} is not whole: {error}; allowed is a "
      f"whole one (without {places.RESULT}, a run trains on from the newest that is)"
    ) from None
  return Predictor(config, genotype, result, variables)
