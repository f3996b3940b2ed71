import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers.conv import pointwise
from lfr_darts_jax.models.operations import OPERATIONS, FactorizedReduce, LayerSettings, Operation
from lfr_darts_jax.search_space.operation_names import OPERATION_NAMES


def test_every_name_has_a_module():
  assert tuple(OPERATIONS) == OPERATION_NAMES


def test_another_activation_reaches_every_operation():
  doubled, x = LayerSettings(activation=lambda x: 2 * nn.relu(x)), jnp.linspace(-1, 2, 72).reshape(1, 6, 6, 2)
  for name in ("sep_conv_3x3", "dil_conv_3x3", "conv_7x1_1x7"):
    variables = OPERATIONS[name](2).init(jax.random.key(0), x, False)
    plain, changed = (OPERATIONS[name](2, 1, s).apply(variables, x, False) for s in (LayerSettings(), doubled))
    factor = 4 if name == "sep_conv_3x3" else 2  # It activates twice.
    np.testing.assert_allclose(changed, factor * plain, rtol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_shapes_and_affine(name, stride, size):
  x = jnp.ones((2, size, size, 4))
  for searching in (True, False):
    y, variables = OPERATIONS[name](4, stride, LayerSettings(searching)).init_with_output(jax.random.key(0), x, True)
    assert y.shape == (2, -(-size // stride), -(-size // stride), 4)
    affine = [p for p in jax.tree_util.tree_leaves_with_path(variables.get("params", {})) if "scale" in str(p[0])]
    normed = "batch_stats" in variables
    # Pools are followed by a norm, never an affine one, in the search alone.
    assert normed == (
      not (name == "none" or (name == "skip_connect" and stride == 1) or ("pool" in name and not searching))
    )
    assert bool(affine) == (normed and not searching)


def test_parameter_counts():
  count = lambda name, stride=1: sum(
    v.size
    for v in jax.tree.leaves(
      OPERATIONS[name](8, stride, LayerSettings(True))
      .init(jax.random.key(0), jnp.ones((1, 8, 8, 8)), True)
      .get("params", {})
    )
  )
  assert count("sep_conv_3x3") == 2 * (9 * 8 + 64)
  assert count("sep_conv_7x7") == 2 * (49 * 8 + 64)
  assert count("dil_conv_5x5") == 25 * 8 + 64
  assert count("conv_7x1_1x7") == 2 * 7 * 64
  assert count("dw_conv_5x5") == 25 * 8 + 64
  assert count("shuffle_conv_3x3") == 2 * 4 * 4 + 9 * 8
  assert count("ghost_conv_3x3") == 8 * 4 + 9 * 4
  assert count("multi_conv_3x3_5x5") == count("multi_dil_conv_3x3_5x5") == 9 * 4 + 25 * 4 + 64
  assert count("bin_conv_3x3") == 9 * 64
  assert count("skip_connect", 2) == 2 * 8 * 4
  assert count("skip_connect") == count("none") == count("max_pool_3x3") == 0


def test_average_pool_leaves_padding_out():
  y = OPERATIONS["avg_pool_3x3"](1).apply({}, jnp.ones((1, 4, 4, 1)), True)
  np.testing.assert_allclose(y, 1)


def test_dilated_convolution_reads_every_other_pixel():
  x = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
  operation = OPERATIONS["dil_conv_3x3"](1)
  variables = jax.tree.map(jnp.ones_like, operation.init(jax.random.key(0), x, False))
  touched = np.argwhere(
    np.abs(operation.apply(variables, x, False)[0, :, :, 0] - operation.apply(variables, 0 * x, False)[0, :, :, 0])
    > 1e-6
  )
  assert touched.tolist() == [[i, j] for i in (2, 4, 6) for j in (2, 4, 6)]


def test_the_groups_of_a_shuffle_are_mixed():
  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
  operation = OPERATIONS["shuffle_conv_3x3"](4, 1, LayerSettings(True))
  variables = operation.init(jax.random.key(1), x, False)
  of = lambda channel: jnp.abs(jax.grad(lambda x: operation.apply(variables, x, False)[..., channel].sum())(x))
  read = [np.flatnonzero(of(channel).sum((0, 1, 2))).tolist() for channel in range(4)]
  positive = np.flatnonzero(x.max((0, 1, 2)) > 0).tolist()
  assert [set(r) <= {0, 1} for r in read] == [True, False, True, False] and positive == [0, 1, 2, 3]


def test_factorized_reduce_sees_both_grids():
  # Halves of the features come from pixels (0, 0) and (1, 1) of every 2x2 block.
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  module = FactorizedReduce(2, 2, LayerSettings(True))
  variables = module.init(jax.random.key(0), x, False)
  variables = {"params": jax.tree.map(jnp.ones_like, variables["params"]), "batch_stats": variables["batch_stats"]}
  y = module.apply(variables, x, False)
  np.testing.assert_allclose(y[0, :, :, 0], [[0, 2], [8, 10]], rtol=1e-4)
  np.testing.assert_allclose(y[0, :, :, 1], [[5, 7], [13, 15]], rtol=1e-4)


def test_a_new_operation_is_one_module_and_one_row(monkeypatch, supernet):
  class Conv1x1(Operation):
    @nn.compact
    def __call__(self, x, train):
      x = pointwise(self.channels)(self.activate(x)[:, :: self.stride, :: self.stride])
      return self.batch_norm(x, train)

  monkeypatch.setitem(OPERATIONS, "conv_1x1", Conv1x1)
  net = supernet(operations=("none", "skip_connect", "conv_1x1"))
  mixtures = {name: jnp.ones(a.shape) / 3 for name, a in net.mixtures().items()}
  variables = {"params": net.params, "batch_stats": net.batch_stats}
  assert net.network.apply(variables, net.images, mixtures).logits.shape == (4, 3)
  assert net.params["layer_1"]["stride_2"]["conv_1x1"]["Dense_0"]["kernel"].shape[1:] == (8, 8)
