import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models import cost
from lfr_darts_jax.models.layers.binary import BinaryConv, sign
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.operations import OPERATIONS, LayerSettings
from lfr_darts_jax.search_space.cell_spec import CellSpec


def test_signs_pass_their_gradient_within_one_of_zero():
  x = jnp.array([-2.0, -0.3, 0.0, 0.5, 1.0, 1.5])
  np.testing.assert_array_equal(sign(x), [-1, -1, 1, 1, 1, 1])
  np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(3 * sign(x)))(x), [0, 3, 3, 3, 3, 0])


def test_a_product_by_hand():
  x, kernel = jnp.array([0.5, -0.3]).reshape(1, 1, 1, 2), jnp.array([2.0, -1.0]).reshape(1, 1, 2, 1)
  y = BinaryConv(1, 1).apply({"params": {"kernel": kernel}}, x)
  np.testing.assert_allclose(np.ravel(y), [3.0])  # (1 * 1 + -1 * -1) * 1.5


@pytest.mark.parametrize("name", ["bin_conv_3x3", "bin_dil_conv_5x5"])
def test_a_real_shortcut_and_derivatives_of_both_modes(name):
  x = jax.random.normal(jax.random.PRNGKey(0), (2, 6, 6, 4))
  operation = OPERATIONS[name](4, 1, LayerSettings(True))
  variables = operation.init(jax.random.PRNGKey(1), x, True)
  run = lambda v, x: operation.apply(v, x, True, mutable=["batch_stats"])[0]
  flat = jax.tree.map(jnp.zeros_like, variables["params"])
  np.testing.assert_allclose(run({**variables, "params": flat}, x), x, atol=1e-6)
  loss = lambda p: jnp.sum(jnp.sin(run({**variables, "params": p}, x)))
  ones = jax.tree.map(jnp.ones_like, variables["params"])
  _, second = jax.jvp(jax.grad(loss), (variables["params"],), (ones,))
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
  strided = OPERATIONS[name](4, 2, LayerSettings(True))
  y, _ = strided.apply({**variables, "params": flat}, x, True, mutable=["batch_stats"])
  assert not y.any()


def test_binary_multiply_adds_are_counted_apart():
  cell = CellSpec("n", "normal", (("bin_conv_3x3",), ("bin_conv_3x3",)), (2,))
  costs = cost.describe(Network(("n",), (cell,), ("bin_conv_3x3",), 4, 10), (8, 8, 3))
  assert costs["binary_multiply_adds"] == 2 * 64 * 9 * 4 * 4
  assert costs["multiply_adds"] == 64 * (9 * 3 * 12 + 2 * 12 * 4) + 4 * 10
