import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers.depthwise import DepthwiseConv, depthwise

CASES = [
  (size, stride, dilation, height)
  for size in (3, 5, 7)
  for stride in (1, 2)
  for dilation in (1, 2)
  for height in (8, 9)
]


def arrays(size, height, dtype=jnp.float64):
  rng = np.random.default_rng(size)
  return (
    jnp.asarray(rng.normal(size=(2, height, height + 1, 3)), dtype),
    jnp.asarray(rng.normal(size=(size, size, 1, 3)), dtype),
  )


@pytest.mark.parametrize("size,stride,dilation,height", CASES)
def test_values_and_gradients_equal_lax(x64, size, stride, dilation, height):
  x, kernel = arrays(size, height)
  ours, theirs = (lambda x, k, m=m: depthwise(x, k, stride, dilation, m) for m in ("shifts", "conv"))
  np.testing.assert_allclose(ours(x, kernel), theirs(x, kernel), rtol=1e-12, atol=1e-12)
  gradients = [jax.grad(lambda x, k, f=f: jnp.sum(jnp.sin(f(x, k))), argnums=(0, 1))(x, kernel) for f in (ours, theirs)]
  for a, b in zip(*gradients, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size,stride,dilation", [(3, 1, 1), (3, 2, 2), (5, 2, 1)])
def test_the_vjp_can_be_differentiated_again(x64, size, stride, dilation):
  x, kernel = arrays(size, 8)

  def second(method):
    f = lambda x, k: jnp.sum(jnp.sin(depthwise(x, k, stride, dilation, method)))
    inner = lambda x, k: sum(jnp.sum(jnp.cos(g)) for g in jax.grad(f, argnums=(0, 1))(x, k))
    return jax.grad(inner, argnums=(0, 1))(x, kernel)

  for a, b in zip(second("shifts"), second("conv"), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_bfloat16_accumulates_in_float32():
  x, kernel = arrays(5, 8, jnp.bfloat16)
  y = depthwise(x, kernel, method="shifts")
  exact = depthwise(x.astype(jnp.float32), kernel.astype(jnp.float32), method="shifts")
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_module_has_one_kernel_per_channel():
  module = DepthwiseConv(5, stride=2)
  y, variables = module.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 6)))
  assert y.shape == (1, 4, 4, 6)
  assert variables["params"]["kernel"].shape == (5, 5, 1, 6)


def test_a_scan_over_it_can_be_differentiated_twice(x64):
  x, kernel = arrays(3, 8)
  kernels = jnp.stack([kernel, 2 * kernel, -kernel])

  def second(method):
    step = lambda x, k: (jnp.tanh(depthwise(x, k, method=method)), None)
    f = lambda x, k: jnp.sum(jnp.sin(jax.lax.scan(step, x, k)[0]))
    inner = lambda x, k: sum(jnp.sum(jnp.cos(g)) for g in jax.grad(f, argnums=(0, 1))(x, k))
    return jax.grad(inner, argnums=(0, 1))(x, kernels)

  for a, b in zip(second("shifts"), second("conv"), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
