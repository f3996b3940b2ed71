import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.models.network import Outputs
from lfr_darts_jax.training import losses

LOGITS, LABELS = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])), jnp.array([0, 1])


def test_cross_entropy_by_hand():
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), -(np.log(0.7) + np.log(0.1)) / 2, rtol=1e-6)


def test_label_smoothing_by_hand():
  even = -np.log([0.7, 0.2, 0.1]).mean(), -np.log([0.1, 0.1, 0.8]).mean()
  expected = (0.9 * -np.log(0.7) + 0.1 * even[0] + 0.9 * -np.log(0.1) + 0.1 * even[1]) / 2
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS, 0.1), expected, rtol=1e-6)


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
