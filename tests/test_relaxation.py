import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.search.relaxation import GATES, Moment, entropy, shares, softmax
from lfr_darts_jax.search.state import Alphas


def mixture_of(alphas, mask):
  return softmax(Alphas(alphas), Alphas(mask), Moment())


def test_pruned_entries_take_no_mass():
  alphas = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 9.0]])
  mask = jnp.array([[True, False, True], [True, True, False]])
  expected = [[1 / (1 + np.e**2), 0, np.e**2 / (1 + np.e**2)], [0.5, 0.5, 0]]
  np.testing.assert_allclose(mixture_of(alphas, mask), expected, rtol=1e-6)


def test_an_edge_with_none_left_contributes_nothing_and_has_a_finite_gradient():
  mask = jnp.zeros((1, 3), bool)
  weights = lambda a: jnp.sum(mixture_of(a, mask))
  assert weights(jnp.ones((1, 3))) == 0
  np.testing.assert_array_equal(jax.grad(weights)(jnp.ones((1, 3))), 0)


def test_pruned_alphas_have_no_gradient_and_large_ones_do_not_overflow():
  mask = jnp.array([[True, True, False]])
  gradient = jax.grad(lambda a: mixture_of(a, mask)[0, 0])(jnp.array([[500.0, 500.0, 1e9]]))
  np.testing.assert_allclose(gradient, [[0.25, -0.25, 0]])


def test_entropy_in_nats():
  np.testing.assert_allclose(entropy(jnp.array([[0.5, 0.5, 0], [1, 0, 0]])), [np.log(2), 0], atol=1e-7)


def test_shares_of_any_gate_sum_to_one():
  np.testing.assert_allclose(shares(jnp.array([[0.5, 1.5], [0.0, 0.0]])), [[0.25, 0.75], [0, 0]])
  assert GATES["softmax"] is softmax
