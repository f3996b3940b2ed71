import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models import star_operations
from lfr_darts_jax.models.layers.depthwise import depthwise

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape))


@pytest.mark.parametrize("size", [6, 7])
def test_parity_images_by_hand(x64, size):
  x = normal(2, size, size, 3)
  apart = star_operations.by_parity(x)
  assert apart.shape == (8, (size + 1) // 2, (size + 1) // 2, 3)
  np.testing.assert_array_equal(
    apart[2 * 1 + 1], x[1, ::2, 1::2] if size % 2 == 0 else jnp.pad(x[1, ::2, 1::2], ((0, 0), (0, 1), (0, 0)))
  )
  np.testing.assert_array_equal(star_operations.from_parity(apart, size, size), x)


@pytest.mark.parametrize("counts", [(2, 2), (1, 3), (4,)])
def test_one_convolution_for_all_is_one_for_each(x64, counts):
  inputs, kernels = [normal(2, 5, 6, 3) for _ in counts], normal(sum(counts), 3, 3, 3, 4)
  got = star_operations.convolve(inputs, counts, kernels, (2, 2))
  each = [x for x, count in zip(inputs, counts, strict=True) for _ in range(count)]
  expected = [star_operations.convolve([x], [1], k[None], (2, 2)) for x, k in zip(each, kernels, strict=True)]
  assert got.shape == (2, 3, 3, sum(counts), 4)
  np.testing.assert_allclose(got, jnp.concatenate(expected, axis=3), rtol=1e-12, atol=1e-12)


def test_a_dense_kernel_is_a_depthwise_one_and_the_1x1_behind_it(x64):
  x, deep, wide = normal(2, 6, 6, 3), normal(2, 5, 5, 1, 3), normal(2, 3, 4)
  params = {"DepthwiseConv_0": {"kernel": deep}, "Dense_0": {"kernel": wide}, "BatchNorm_0": {"scale": normal(2, 4)}}
  made = star_operations.composed(params)
  assert set(made) == {"Dense_0", "BatchNorm_0"}
  got = star_operations.convolve([x], [2], made["Dense_0"]["kernel"])
  for row in range(2):
    expected = depthwise(x, deep[row]) @ wide[row]
    np.testing.assert_allclose(got[..., row, :], expected, rtol=1e-10, atol=1e-12)


def test_every_composed_operation_has_a_form():
  assert set(star_operations.OPENED) < set(star_operations.COMPOSED) < set(star_operations.FORMS)
  assert star_operations.ends([2, 3, 1]) == [2, 5]
