"""Strengths in one currency: what each choice of a chain does to the validation loss, measured in one network.

Alphas that were moved at different depths, in different networks, are not on one scale. Here random paths through the
last supernet give losses, and an additive model of the choices is fitted to them: a choice's strength is exp(-loss).
Weights are those of the search; single paths are compared as in one-shot search (Guo et al., "Single path one-shot",
ECCV 2020), but of all layers at once. Paths that share a batch take every choice equally often, as FairNAS trains them
(Chu et al., ICCV 2021), and only differences within a batch count: that some batches are harder cancels out.
"""

import contextlib
from typing import Any

import jax
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.data.input_pipeline import Split, Statistics
from lfr_darts_jax.models.spaces import AnyNetwork, with_sharding
from lfr_darts_jax.runtime.distributed import REPLICATED, Devices, sharded
from lfr_darts_jax.training import losses


def strengths(
  network: AnyNetwork,
  variables: Any,
  split: Split,
  indices: np.ndarray,
  batch_size: int,
  count: int,
  statistics: Statistics,
  seed: int,
  devices: Devices,
  class_weights: losses.ClassWeights = None,
) -> dict[str, np.ndarray]:
  """How strong every choice is, by its part in the losses of random paths.

  Args:
    network: a supernet of a chain.
    variables: its parameters and running statistics; batch norms use the batch's, as where the alphas move.
    split: the data.
    indices: `[n]`, of which images.
    batch_size: images through one path.
    count: batches, each through as many paths as the layer with most candidates has of these.
    statistics: mean and standard deviation of the train split, per channel.
    seed: of the paths and of the images' order.
    devices: that share every batch.
    class_weights: of an image's loss by its class.

  Returns:
    By cell `[1, operations]`, summing to one; zero for what is no candidate.
  """
  rng = np.random.default_rng([seed, 13])
  cells = {cell.name: [network.operations.index(name) for name in cell.candidates[0]] for cell in network.cells}
  each = max(map(len, cells.values()))
  fair = lambda columns: rng.permutation(np.resize(rng.permutation(columns), each))
  paths = {name: np.concatenate([fair(columns) for _ in range(count)]) for name, columns in cells.items()}
  order = np.concatenate([rng.permutation(indices) for _ in range(-(-count * batch_size // len(indices)))])
  loss = _loss(network, devices, statistics, class_weights)
  eye, found = np.eye(len(network.operations), dtype=np.float32), []
  variables = devices.replicate(variables)
  with contextlib.closing(split.eval_batches(order[: count * batch_size], batch_size)) as batches:  # type: ignore[type-var]
    for i, (images, labels, _) in enumerate(batches):
      batch = devices.split((images, labels), 0)
      for path in range(i * each, (i + 1) * each):
        mixtures = devices.replicate({name: eye[drawn[path]][None] for name, drawn in paths.items()})
        found.append(float(loss(variables, mixtures, *batch)))
  chosen = {name: eye[drawn].reshape(count, each, -1) for name, drawn in paths.items()}
  return additive(chosen, np.reshape(found, (count, each)), cells)


def additive(
  chosen: dict[str, np.ndarray], values: np.ndarray, candidates: dict[str, list[int]]
) -> dict[str, np.ndarray]:
  """Softmax of the negated parts of an additive model of values, every batch with a constant of its own.

  Args:
    chosen: by cell `[batches, paths, operations]`, one where an operation was chosen.
    values: `[batches, paths]`.
    candidates: by cell, the columns that could be chosen.
  """
  centred = lambda array: array - array.mean(axis=1, keepdims=True)
  design = centred(np.concatenate([*chosen.values()], axis=2)).reshape(values.size, -1)
  parts = np.linalg.lstsq(design, centred(values).ravel(), rcond=None)[0].reshape(len(chosen), -1)
  result = {}
  for name, part in zip(chosen, parts, strict=True):
    columns, strength = candidates[name], np.zeros((1, len(part)))
    powers = np.exp(-(part[columns] - part[columns].min()))
    strength[0, columns] = powers / powers.sum()
    result[name] = strength
  return result


def _loss(network: AnyNetwork, devices: Devices, statistics: Statistics, class_weights: losses.ClassWeights) -> Any:
  network = with_sharding(network, devices.sharding(network.settings.sharding.group))

  def of_path(variables: Any, mixtures: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    normalized = augment.normalize(images, *statistics)
    outputs, _ = network.apply(variables, normalized, mixtures, True, mutable=["batch_stats"])
    value: jax.Array = devices.mean(losses.cross_entropy(outputs.logits, labels, weights=class_weights))
    return value

  return jax.jit(devices.shard_map(of_path, REPLICATED, REPLICATED, sharded(0), sharded(0)))
