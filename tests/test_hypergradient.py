import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.search import hypergradient
from lfr_darts_jax.search.hypergradient import HYPERGRADIENTS, Inner

# L_train = w^2 - a w has H = 2 and a mixed derivative of -1; L_validation = w^2 / 2 the gradient w = 1.
SCALAR = Inner(lambda ahead: lambda w, a: (w**2 - a * w, None), jnp.array(1.0), jnp.array(2.0), 0.25)


def gradient(name, inner, direction=1.0):
  """What a hypergradient adds to the alphas' own gradient."""
  return -inner.rate * HYPERGRADIENTS[name].correction(inner, jnp.asarray(direction))


@pytest.mark.parametrize(("terms", "expected"), [(1, 0.25), (2, 0.375), (3, 0.4375), (60, 0.5)])
def test_the_series_by_hand(terms, expected):
  np.testing.assert_allclose(gradient("neumann", SCALAR._replace(terms=terms)), expected, rtol=1e-6)


def test_the_mean_of_the_samples_is_the_series():
  keys = jax.random.split(jax.random.PRNGKey(0), 3000)
  draw = jax.vmap(lambda key: gradient("sampled_neumann", SCALAR._replace(terms=3, key=key)))(keys)
  # Three powers of 1 - 2 / 4, times the three terms.
  np.testing.assert_allclose(np.unique(draw), [3 / 16, 3 / 8, 3 / 4])
  np.testing.assert_allclose(np.mean([3 / 16, 3 / 8, 3 / 4]), gradient("neumann", SCALAR._replace(terms=3)))
  np.testing.assert_allclose(draw.mean(), 0.4375, atol=0.015)


def test_every_factor_has_a_batch_of_its_own():
  # H is 2 times the number of the step ahead; the mixed derivative is that of this step, -1.
  loss = lambda ahead: lambda w, a: (ahead * w**2 - a * w, None)
  powers = {
    float(gradient("sampled_neumann", SCALAR._replace(loss=loss, terms=3, key=k)))
    for k in jax.random.split(jax.random.PRNGKey(0), 40)
  }
  assert powers == {3 / 4, 3 / 8, 0.0}  # 1, 1 - 1/4 * 2, that times 1 - 1/4 * 4.


@pytest.mark.slow
def test_the_series_of_a_supernet_goes_to_the_dense_solve(x64, supernet):
  from lfr_darts_jax.search.objective import Batch, Objective, supernet_loss

  net = supernet(layout=("n0",), nodes=1, channels=2, size=4)
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))
  loss = functools.partial(supernet_loss, net.network, Objective(), net.mask)
  flat, tree = jax.flatten_util.ravel_pytree(net.params)
  # A quadratic term makes the Hessian definite.
  train = lambda w, a: loss(tree(w), a, net.batch_stats, batch)[0] + 4 * jnp.sum(w**2)
  direction = jax.random.normal(jax.random.PRNGKey(1), flat.shape)
  hessian = jax.jit(jax.hessian(train))(flat, net.alphas)
  rate = 1 / jnp.linalg.eigvalsh(hessian)[-1]
  inner = Inner(lambda ahead: lambda w, a: (train(w, a), None), flat, net.alphas, rate, 200)
  series = jax.jit(lambda: HYPERGRADIENTS["neumann"].correction(inner, direction))()
  solved = jnp.linalg.solve(hessian, direction) / rate
  expected = hypergradient.mixed_derivative(lambda w, a: (train(w, a), None), flat, net.alphas, solved)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), series, expected)
