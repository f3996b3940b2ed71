import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers import init
from lfr_darts_jax.models.layers.init import kernel_init

SHAPES = ((1, 1, 1, 1), (3, 3, 1, 4), (1, 1, 48, 16), (3, 3, 3, 24), (64, 10), (2, 2, 128, 768))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_library(shape):
  key = jax.random.PRNGKey(7)
  expected = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, shape, jnp.float32)
  got = kernel_init(key, shape)
  assert got.dtype == jnp.float32 and got.shape == shape
  np.testing.assert_array_equal(got, expected)
  np.testing.assert_array_equal(jax.jit(lambda key: kernel_init(key, shape))(key), expected)
  assert jnp.max(jnp.abs(got)) <= 1 / np.sqrt(np.prod(shape[:-1]))


def test_shapes_of_nearly_equal_size_share_a_program(monkeypatch):
  drawn, uniform = set(), jax.random.uniform

  def draw(key, shape, *rest):
    drawn.add(shape)
    return uniform(key, shape, *rest)

  monkeypatch.setattr(init.jax.random, "uniform", draw)
  for features in range(1, 65):
    kernel_init(jax.random.PRNGKey(0), (3, 3, 1, features))
  assert drawn == {(64,), (128,), (256,), (512,), (1024,)}
