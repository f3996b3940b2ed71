"""Training losses."""

import jax
import jax.numpy as jnp
import optax

from lfr_darts_jax.network import Outputs


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Mean cross-entropy, in nats.

  Args:
    logits: `[batch, classes]`.
    labels: `[batch]` integers.
    smoothing: share of the target spread evenly over all classes.
  """
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
  return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def training_loss(outputs: Outputs, labels: jax.Array, auxiliary_weight: float, smoothing: float) -> jax.Array:
  """Cross-entropy of the classifier, plus the weighted one of the auxiliary head if any (DARTS, appendix A.2)."""
  loss = cross_entropy(outputs.logits, labels, smoothing)
  if outputs.auxiliary is not None:
    loss += auxiliary_weight * cross_entropy(outputs.auxiliary, labels, smoothing)
  return loss
