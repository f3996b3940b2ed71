import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers.conv import conv_general_dilated

DIMENSIONS = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


@pytest.mark.parametrize(
  "shape,strides,padding",
  [
    ((3, 3), (1, 1), ((1, 1), (1, 1))),
    ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 7), (1, 2), ((0, 0), (3, 3))),
    ((7, 1), (2, 1), ((3, 3), (0, 0))),
    ((2, 2), (1, 1), "VALID"),
  ],
)
def test_equals_lax(x64, shape, strides, padding):
  rng = np.random.default_rng(0)
  x, kernel = jnp.asarray(rng.normal(size=(2, 8, 9, 3))), jnp.asarray(rng.normal(size=(*shape, 3, 5)))
  expected = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)
  np.testing.assert_allclose(
    conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS), expected, rtol=1e-12, atol=1e-12
  )


def test_grouped_is_left_to_lax(x64):
  x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
  y = conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS, feature_group_count=2)
  np.testing.assert_allclose(y, 9 * np.ones((1, 2, 2, 2)))
