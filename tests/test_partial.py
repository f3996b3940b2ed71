import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models import partial
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH

X = jnp.arange(1.0, 5.0).reshape(1, 1, 1, 4)


def given(part, weight):
  """What an edge gives whose mixed op multiplies by a weight."""
  return np.ravel(part.place(weight * part.chosen) + part.bypass)


def test_pc_darts_by_hand():
  # p(skip_connect) = 1/4, p(none) = 3/4.
  np.testing.assert_allclose(given(partial.first_channels(X, 2, 1), 1 / 4), [0.25, 3, 0.5, 4])


def test_epc_darts_by_hand():
  kernel = jnp.array([0.0, 1.0, 0.0])
  np.testing.assert_allclose(partial.attention(X, kernel)[0], jax.nn.sigmoid(jnp.arange(1.0, 5.0)))
  part = partial.attended_channels(X, 2, 1, kernel, WHOLE_BATCH)
  np.testing.assert_allclose(np.ravel(part.chosen), [4 * 0.98201, 3 * 0.95257], rtol=1e-4)
  np.testing.assert_allclose(given(part, 1 / 4), [0.7311, 1.7616, 0.7144, 0.9820], rtol=1e-4)


def test_the_kernel_of_the_attention_sees_neighbours():
  np.testing.assert_allclose(
    partial.attention(X, jnp.array([0.0, 0.0, 1.0]))[0], jax.nn.sigmoid(jnp.array([2.0, 3, 4, 0]))
  )
  assert [partial.attention_size(c) for c in (4, 16, 64, 256)] == [1, 3, 3, 5]


@pytest.mark.parametrize("size", [4, 5])
def test_what_passes_by_a_strided_edge_is_halved(size):
  x = jax.random.normal(jax.random.PRNGKey(0), (2, size, size, 4))
  part = partial.first_channels(x, 2, 2)
  half = -(-size // 2)
  assert part.bypass.shape == (2, half, half, 4) and not part.bypass[..., ::2].any()
  np.testing.assert_allclose(part.bypass[0, 0, 0, 1], x[0, :2, :2, 2].max())
  np.testing.assert_allclose(part.bypass[1, -1, -1, 3], x[1, 2 * half - 2 :, 2 * half - 2 :, 3].max())


def test_the_choice_of_channels_has_no_gradient():
  kernel = jnp.array([0.0, 1.0, 0.0])
  gradient = jax.grad(lambda x: jnp.sum(partial.attended_channels(x, 2, 1, kernel, WHOLE_BATCH).chosen))(X)
  s = jax.nn.sigmoid(X)
  np.testing.assert_allclose(np.ravel(gradient), np.ravel(s + X * s * (1 - s)) * [0, 0, 1, 1], rtol=1e-6)
