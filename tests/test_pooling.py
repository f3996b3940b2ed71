import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers.pooling import avg_pool, max_pool, max_pool_by_axis


def reference(x, stride):
  return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("max_pool", [max_pool, max_pool_by_axis])
def test_values_and_derivatives_equal_reduce_window(x64, stride, size, max_pool):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, size + 1, 3)))
  np.testing.assert_array_equal(max_pool(x, stride), reference(x, stride))
  first = [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x, stride))))(x) for f in (max_pool, reference)]
  np.testing.assert_allclose(*first, rtol=1e-12, atol=1e-12)
  penalty = lambda x: jnp.sum(jnp.cos(jax.grad(lambda x: jnp.sum(jnp.sin(max_pool(x, stride))))(x)))
  step = 1e-6
  direction = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))
  numeric = (penalty(x + step * direction) - penalty(x - step * direction)) / (2 * step)
  np.testing.assert_allclose(jnp.sum(jax.grad(penalty)(x) * direction), numeric, rtol=1e-6)


@pytest.mark.parametrize("max_pool", [max_pool, max_pool_by_axis])
def test_first_maximum_takes_the_gradient(max_pool):
  gradient = jax.grad(lambda x: max_pool(x, 2)[0, 1, 1, 0])(jnp.ones((1, 4, 4, 1)))
  # The window of output (1, 1) starts at pixel (1, 1).
  expected = np.zeros((4, 4))
  expected[1, 1] = 1
  np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_the_average_is_of_the_pixels_inside(x64, stride, size):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, size + 1, 3)))
  ours, theirs = (lambda x, m=m: avg_pool(x, stride, m) for m in ("shifts", "conv"))
  np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
  gradients = [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in (ours, theirs)]
  np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-12)
  corner = np.asarray(x[0, :2, :2, 0])
  np.testing.assert_allclose(ours(x)[0, 0, 0, 0], corner.sum() / 4, rtol=1e-12)
