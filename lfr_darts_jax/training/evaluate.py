"""Exact error over padded batches; the search and the training both use it."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.data.input_pipeline import Split, Statistics
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.distributed import REPLICATED, Devices, sharded

Mixtures = dict[str, jax.Array] | None


class Evaluation(NamedTuple):
  """Counts over a data set.

  Attributes:
    confusion: `[classes, classes]`, images by true class, then by predicted class.
    top5: images whose class is among the five most probable.
    predicted: `[n]`, the most probable class of every image; -1 where an image could not be read.
    confidence: `[n]`, its probability.
    labels: `[n]`, the true class, or -1 likewise.
  """

  confusion: np.ndarray
  top5: int
  predicted: np.ndarray
  confidence: np.ndarray
  labels: np.ndarray

  @property
  def total(self) -> int:
    """Images seen."""
    return int(self.confusion.sum())

  @property
  def error(self) -> float:
    """Top-1 error in percent."""
    return 100 * (1 - float(np.trace(self.confusion)) / self.total)

  @property
  def top5_error(self) -> float:
    """Top-5 error in percent."""
    return 100 * (1 - self.top5 / self.total)

  @property
  def balanced_accuracy(self) -> float:
    """Mean over the classes that have images of the share recognised, in percent."""
    return 100 - float(np.mean([error for error in self.class_errors if error is not None]))

  @property
  def class_errors(self) -> list[float | None]:
    """Error of every class in percent, None for a class without images."""
    counts = self.confusion.sum(axis=1)
    return [
      100 * (1 - float(right) / float(n)) if n else None
      for right, n in zip(np.diag(self.confusion), counts, strict=True)
    ]


def evaluate(
  network: AnyNetwork,
  variables: Any,
  split: Split,
  batch_size: int,
  statistics: Statistics,
  indices: np.ndarray | None = None,
  mixtures: Mixtures = None,
  devices: Devices | None = None,
) -> Evaluation:
  """Classifies images of a split once each, with running statistics.

  Args:
    network: supernet or final network.
    variables: its parameters and batch statistics.
    split: the data.
    batch_size: images at a time; the last batch is padded, and the padding is not counted.
    statistics: mean and standard deviation of the train split, per channel.
    indices: `[n]`, which images; None for all.
    mixtures: of the mixed cells.
    devices: that share every batch; None for the first one.
  """
  devices = devices or distributed.first_device()
  indices = np.arange(split.count) if indices is None else indices
  count, first, apart = len(indices), jax.process_index(), distributed.process_count()
  variables, mixtures = devices.replicate((variables, mixtures))
  score = _score_batch(network, devices, *statistics)
  # An image that a stream can't read keeps the label -1, and is not counted.
  labels, predicted = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
  top5, confidence, done = 0, np.zeros(count, np.float32), 0
  evaluated: Any = split.eval_batches(indices, batch_size)
  with contextlib.closing(evaluated) as batches:
    for images, own_labels, _ in batches:
      at = (done + first + apart * np.arange(len(images))).astype(np.int32)
      share = devices.split((images, own_labels, at), 0)
      at, true, hits, classes, probabilities = map(np.asarray, score(variables, mixtures, *share))
      real = (at < count) & (true >= 0)
      at = at[real]
      labels[at], predicted[at], confidence[at] = true[real], classes[real], probabilities[real]
      top5 += int(hits[real].sum())
      done += apart * len(images)
  confusion = np.zeros((network.num_classes, network.num_classes), np.int64)
  seen = labels >= 0
  np.add.at(confusion, (labels[seen], predicted[seen]), 1)
  return Evaluation(confusion, top5, predicted, confidence, labels)


@functools.lru_cache(maxsize=8)
def _score_batch(network: AnyNetwork, devices: Devices, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
  def scored(variables: Any, mixtures: Mixtures, images: jax.Array, labels: jax.Array, at: jax.Array) -> Any:
    outputs: Any = network.apply(variables, augment.normalize(images, mean, std), mixtures)
    return devices.gather((at, labels, *_scores(outputs.logits, labels)))

  return jax.jit(devices.shard_map(scored, REPLICATED, REPLICATED, sharded(0), sharded(0), sharded(0)))


def _scores(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of every image, whether its class is among the five most probable, the most probable, and its probability."""
  # The rank of the true class counts the classes that beat it; ties go to the lower index, as argmax decides them.
  own = jnp.take_along_axis(logits, labels[:, None], axis=1)
  beats = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None]))
  return (
    jnp.sum(beats, axis=1) < 5,
    jnp.argmax(logits, axis=-1).astype(jnp.int32),
    jnp.max(jax.nn.softmax(logits), axis=-1).astype(jnp.float32),
  )
