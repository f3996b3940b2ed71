"""Training losses."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lfr_darts_jax.errors import UsageError, short
from lfr_darts_jax.models.network import Outputs

ClassWeights = tuple[float, ...] | None  # By class, of an image's loss; None for equal ones.


def class_weights(setting: Any, labels: Callable[[], np.ndarray], classes: int) -> ClassWeights:
  """The weights that `train.class_weights` asks for.

  Args:
    setting: its value.
    labels: of the train split, `[n]`; called for "balanced" alone, whose weights are n / (k * n_c), as scikit-learn's
      `compute_class_weight` has them: of k classes that are there each has the same part in the mean loss.
    classes: how many there are.

  Raises:
    UsageError: where there is not one for every class.
  """
  if setting == "balanced":
    counts = np.bincount(labels(), minlength=classes)
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return tuple(weights.tolist())
  if setting is not None and len(setting) != classes:
    raise UsageError(
      f"config.train.class_weights: {short(setting)}; allowed are balanced, None, or a tuple of {classes} numbers, one "
      "for every class"
    )
  return None if setting is None else tuple(map(float, setting))


def of_labels(weights: ClassWeights, labels: jax.Array) -> jax.Array | float:
  """The weight of every image by its label `[batch]`: `[batch]`, or one for all."""
  return 1.0 if weights is None else jnp.array(weights, jnp.float32)[labels]


def sample_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Cross-entropy of every image, `[batch]`, in nats.

  Args:
    logits: `[batch, classes]`.
    labels: `[batch]` integers.
    smoothing: share of the target spread evenly over all classes.
  """
  chex.assert_rank((logits, labels), (2, 1))
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
  return optax.softmax_cross_entropy(logits, targets)


def cross_entropy(
  logits: jax.Array, labels: jax.Array, smoothing: float = 0.0, weights: ClassWeights = None
) -> jax.Array:
  """Mean over the images of their cross-entropy, in nats, times the weights of their classes.

  A smoothed target counts as its label's class. Other arguments as of `sample_cross_entropy`.
  """
  return jnp.mean(of_labels(weights, labels) * sample_cross_entropy(logits, labels, smoothing))


def complexity_weights(values: jax.Array, exponent: float, mean: Callable[[jax.Array], jax.Array]) -> jax.Array:
  """Weights of images by their difficulty, with mean 1 and without a gradient: hard ones count more (DARTS-PAP).

  Its form is in no text that was to be had; ours is the loss over its mean, to a power.

  Args:
    values: cross-entropy of every image, `[batch]`.
    exponent: the power; 0 for equal weights.
    mean: over the devices that share the batch.
  """
  relative = values / jnp.maximum(mean(jnp.mean(values)), jnp.finfo(values.dtype).tiny)
  powers = relative**exponent
  return jax.lax.stop_gradient(powers / mean(jnp.mean(powers)))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Share of the images, from 0 to 1, whose largest logit is their label's."""
  return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def training_loss(
  outputs: Outputs, labels: jax.Array, auxiliary_weight: float, smoothing: float, weights: ClassWeights = None
) -> jax.Array:
  """Cross-entropy of the classifier, plus the weighted one of the auxiliary head if any (DARTS, appendix A.2)."""
  loss = cross_entropy(outputs.logits, labels, smoothing, weights)
  if outputs.auxiliary is not None:
    loss += auxiliary_weight * cross_entropy(outputs.auxiliary, labels, smoothing, weights)
  return loss
