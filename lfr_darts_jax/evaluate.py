"""Exact error over padded batches; driver and trainer both use it."""

from collections.abc import Iterable
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax import parallel
from lfr_darts_jax import processes
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.network import Network
from lfr_darts_jax.parallel import WHOLE
from lfr_darts_jax.parallel import Devices
from lfr_darts_jax.parallel import along


class Evaluation(NamedTuple):
  """Counts over a data set.

  Attributes:
    confusion: `[classes, classes]`, images by true class, then by predicted class.
    top5: images whose class is among the five most probable.
    predicted: `[n]`, the most probable class of every image.
    confidence: `[n]`, its probability.
    labels: `[n]`, the true class.
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
  def class_errors(self) -> list[float | None]:
    """Error of every class in percent, None for a class without images."""
    counts = self.confusion.sum(axis=1)
    return [
      100 * (1 - float(right) / float(n)) if n else None
      for right, n in zip(np.diag(self.confusion), counts, strict=True)
    ]


@functools.lru_cache(maxsize=8)
def _counter(network, devices, batch_size, mean, deviation):
  batching = devices.batching()

  def count(variables, mixtures, split, indices):
    n = indices.shape[0]

    def body(step, carry):
      top5, predicted, confidence = carry
      at = step * batch_size + jnp.arange(batch_size)
      images, labels = batches.take(split, batching.own(indices[jnp.minimum(at, n - 1)]))
      logits = network.apply(variables, augment.normalize(images, mean, deviation), mixtures).logits
      hits, classes, probabilities = devices.gather(_judge(logits, labels))
      top5 += jnp.sum(hits & (at < n), dtype=jnp.int32)
      predicted = predicted.at[at].set(classes, mode="drop")
      confidence = confidence.at[at].set(probabilities, mode="drop")
      return top5, predicted, confidence

    zero = jnp.int32(0), jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.float32)
    return jax.lax.fori_loop(0, -(-n // batch_size), body, zero)

  return jax.jit(devices.spmd(count, *(WHOLE,) * 4))


def _judge(logits, labels):
  """Of every image, whether its class is among the five most probable, the most probable, and its probability."""
  # The rank of the true class counts the classes that beat it; ties go to the lower index, as argmax decides them.
  own = jnp.take_along_axis(logits, labels[:, None], axis=1)
  beats = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None]))
  return (
    jnp.sum(beats, axis=1) < 5,
    jnp.argmax(logits, axis=-1).astype(jnp.int32),
    jnp.max(jax.nn.softmax(logits), axis=-1).astype(jnp.float32),
  )


def evaluate(
  network: Network,
  variables: Any,
  split: batches.Split,
  indices: jax.Array | np.ndarray,
  batch_size: int,
  mean: tuple[float, ...],
  deviation: tuple[float, ...],
  mixtures: dict[str, jax.Array] | None = None,
  devices: Devices | None = None,
) -> Evaluation:
  """Classifies every image once, with running statistics.

  Args:
    network: supernet or final network.
    variables: its parameters and batch statistics.
    split: the data.
    indices: `[n]`, the images of `split` to classify.
    batch_size: images at a time; the last batch is padded, and the padding is not counted.
    mean, deviation: of the train split, per channel.
    mixtures: weights of the mixed cells.
    devices: that share every batch; None for the first one.
  """
  devices = devices or parallel.first()
  arguments = devices.replicate((variables, mixtures, split, indices))
  counted = _counter(network, devices, batch_size, mean, deviation)(*arguments)
  top5, predicted, confidence = (np.asarray(c) for c in counted)
  labels = np.asarray(split.labels)[np.asarray(indices)]
  return Evaluation(_confusion(network, labels, predicted), int(top5), predicted, confidence, labels)


def evaluate_stream(
  network: Network,
  variables: Any,
  padded: Iterable[tuple[np.ndarray, ...]],
  count: int,
  mean: tuple[float, ...],
  deviation: tuple[float, ...],
  mixtures: dict[str, jax.Array] | None = None,
  devices: Devices | None = None,
) -> Evaluation:
  """The same of images that are streamed; arguments as of `evaluate`, besides these.

  Args:
    padded: this process's share of every batch, as `stream.evaluation_batches` yields it: of the images in order,
      process p of P has the p-th, the (p + P)-th, and so on.
    count: images over all processes, without padding.
  """
  devices = devices or parallel.first()
  variables, mixtures = devices.replicate((variables, mixtures))
  step = _judged(network, devices, mean, deviation)
  first, apart = jax.process_index(), processes.count()
  labels, predicted = np.zeros(count, np.int32), np.zeros(count, np.int32)
  top5, confidence = 0, np.zeros(count, np.float32)
  done = 0
  for images, own_labels, _ in padded:
    at = (done + first + apart * np.arange(len(images))).astype(np.int32)
    share = devices.split((images, own_labels, at), 0)
    at, true, hits, classes, probabilities = map(np.asarray, step(variables, mixtures, *share))
    real = at < count
    at = at[real]
    labels[at], predicted[at], confidence[at] = true[real], classes[real], probabilities[real]
    top5 += int(hits[real].sum())
    done += apart * len(images)
  return Evaluation(_confusion(network, labels, predicted), top5, predicted, confidence, labels)


@functools.lru_cache(maxsize=8)
def _judged(network, devices, mean, deviation):
  def judged(variables, mixtures, images, labels, at):
    logits = network.apply(variables, augment.normalize(images, mean, deviation), mixtures).logits
    return devices.gather((at, labels, *_judge(logits, labels)))

  return jax.jit(devices.spmd(judged, WHOLE, WHOLE, along(0), along(0), along(0)))


def _confusion(network, labels, predicted):
  confusion = np.zeros((network.num_classes, network.num_classes), np.int64)
  np.add.at(confusion, (labels, predicted), 1)
  return confusion
