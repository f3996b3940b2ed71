import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.network import Outputs
from lfr_darts_jax.training import losses

LOGITS, LABELS = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])), jnp.array([0, 1])


def test_cross_entropy_by_hand():
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), -(np.log(0.7) + np.log(0.1)) / 2, rtol=1e-6)


def test_label_smoothing_by_hand():
  even = -np.log([0.7, 0.2, 0.1]).mean(), -np.log([0.1, 0.1, 0.8]).mean()
  expected = (0.9 * -np.log(0.7) + 0.1 * even[0] + 0.9 * -np.log(0.1) + 0.1 * even[1]) / 2
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS, 0.1), expected, rtol=1e-6)


def test_weights_of_classes_by_hand():
  even = -np.log([0.7, 0.2, 0.1]).mean(), -np.log([0.1, 0.1, 0.8]).mean()
  expected = (3 * (0.9 * -np.log(0.7) + 0.1 * even[0]) + 0.5 * (0.9 * -np.log(0.1) + 0.1 * even[1])) / 2
  found = losses.cross_entropy(LOGITS, LABELS, 0.1, (3.0, 0.5, 7.0))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  both = losses.training_loss(Outputs(LOGITS, LOGITS), LABELS, 0.4, 0.1, (3.0, 0.5, 7.0))
  np.testing.assert_allclose(both, 1.4 * found, rtol=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
  labels = np.repeat([0, 1, 3], [9, 1, 4])
  weights = losses.class_weights("balanced", lambda: labels, 4)
  expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
  np.testing.assert_allclose([weights[i] for i in (0, 1, 3)], expected)
  np.testing.assert_allclose(np.mean([weights[label] for label in labels]), 1)


def test_weights_that_are_given_read_no_labels():
  assert losses.class_weights(None, None, 3) is None and losses.class_weights([1, 2, 3], None, 3) == (1.0, 2.0, 3.0)
  with pytest.raises(
    UsageError, match=r"^config.train.class_weights: \(1, 2\); allowed are balanced, None, or a tuple of 3"
  ):
    losses.class_weights((1, 2), None, 3)


def test_auxiliary_head_is_weighted():
  plain = losses.cross_entropy(LOGITS, LABELS)
  both = losses.training_loss(Outputs(LOGITS, 2 * LOGITS), LABELS, 0.4, 0.0)
  np.testing.assert_allclose(both, plain + 0.4 * losses.cross_entropy(2 * LOGITS, LABELS), rtol=1e-6)
  np.testing.assert_allclose(losses.training_loss(Outputs(LOGITS, None), LABELS, 0.4, 0.0), plain)


def test_hard_images_count_more():
  values, mean = jnp.array([1.0, 3.0]), lambda value: value
  weights = losses.complexity_weights(values, 1.0, mean)
  np.testing.assert_allclose(weights, [1 / 2, 3 / 2])
  np.testing.assert_allclose(jnp.mean(weights * values), 2.5)
  loss = lambda v: jnp.mean(losses.complexity_weights(v, 1.0, mean) * v)
  np.testing.assert_allclose(jax.grad(loss)(values), [1 / 4, 3 / 4])  # None through the weights.
  np.testing.assert_array_equal(losses.complexity_weights(values, 0.0, mean), [1, 1])
