"""Training losses."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from lfr_darts_jax.models.network import Outputs


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


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Mean cross-entropy, in nats; arguments as of `sample_cross_entropy`."""
  return jnp.mean(sample_cross_entropy(logits, labels, smoothing))


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


def training_loss(outputs: Outputs, labels: jax.Array, auxiliary_weight: float, smoothing: float) -> jax.Array:
  """Cross-entropy of the classifier, plus the weighted one of the auxiliary head if any (DARTS, appendix A.2)."""
  loss = cross_entropy(outputs.logits, labels, smoothing)
  if outputs.auxiliary is not None:
    loss += auxiliary_weight * cross_entropy(outputs.auxiliary, labels, smoothing)
  return loss
