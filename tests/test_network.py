import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models import network as networks
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.training import losses
from tests.conftest import ONE_OF_EACH_KIND


def test_outputs(config):
  config.network.layers = 6
  net = networks.final_network(config, formats.DARTS_V2)
  x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
  variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x), x)
  assert jax.eval_shape(net.apply, variables, x).auxiliary is None
  outputs, _ = jax.eval_shape(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]), variables, x)
  assert outputs.logits.shape == outputs.auxiliary.shape == (2, 10)
  # Channels double at each of the two reductions; a cell's output joins its four nodes.
  assert variables["params"]["classifier"]["kernel"].shape == (4 * 4 * config.network.channels, 10)


def test_features_halve_and_double_at_reductions():
  cells = tuple(CellSpec(n, kind, ((), ()), (2, 3)) for n, kind in (("n", "normal"), ("r", "reduction")))
  net = networks.Network(("n", "r", "n", "r"), cells, (), 4, 3)
  assert net.layer_features(9, 14) == [(9, 14, 8), (5, 7, 16), (5, 7, 16), (3, 4, 32)]
  assert net.clone(stem="imagenet").layer_features(224, 96) == [(28, 12, 8), (14, 6, 16), (14, 6, 16), (7, 3, 32)]


def test_without_auxiliary_weight_there_is_no_head(config):
  config.train.auxiliary_weight = 0.0
  config.network.layers = 6
  net = networks.final_network(config, formats.DARTS_V2)
  assert "auxiliary" not in net.lazy_init(jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))["params"]


@pytest.mark.parametrize(
  "size,reductions,auxiliary,stem,fits",
  [
    (8, 2, True, "cifar", True),
    (4, 2, True, "cifar", False),
    (4, 2, False, "cifar", True),
    (5, 2, True, "cifar", True),
    (8, 4, False, "cifar", False),
    (9, 4, False, "cifar", True),
    (224, 2, True, "imagenet", True),
    (32, 2, True, "imagenet", False),
    ((9, 40), 4, False, "cifar", True),
    ((40, 8), 4, False, "cifar", False),
  ],
)
def test_image_sizes_that_bear_the_reductions(config, size, reductions, auxiliary, stem, fits):
  config.data.image_size, config.network.stem = size, stem
  cells = (CellSpec("r", "reduction", (("max_pool_3x3",), ("max_pool_3x3",)), (2,)),)
  layout = ("r",) * reductions
  if not fits:
    with pytest.raises(UsageError, match=re.escape(f"config.data.image_size: {size}")):
      networks.check_resolution(config, layout, cells, auxiliary)
    return
  networks.check_resolution(config, layout, cells, auxiliary)
  net = networks.Network(layout, cells, ("max_pool_3x3",), 4, 3, stem=stem, auxiliary=auxiliary)
  x = jax.ShapeDtypeStruct((2, *schema.image_shape(config)[:2], 3), jnp.float32)
  variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x), x)
  outputs, _ = jax.eval_shape(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]), variables, x)
  assert outputs.logits.shape == (2, 3)


def gradient(supernet, **settings):
  """Loss, gradient by the weights and updated statistics of a supernet with other settings."""
  network = supernet.network.clone(**settings)
  mixtures = supernet.mixtures()

  def loss(params):
    variables = {"params": params, "batch_stats": supernet.batch_stats}
    outputs, updated = network.apply(variables, supernet.images, mixtures, True, mutable=["batch_stats"])
    return losses.cross_entropy(outputs.logits, supernet.labels), (updated["batch_stats"], outputs.logits)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(supernet.params)


@pytest.mark.parametrize("edges", ["scan", "unroll"])
def test_remat_changes_no_number(x64, supernet, edges):
  derived = (("sep_conv_3x3",), ("max_pool_3x3",))
  derive = lambda cell: dataclasses.replace(cell, candidates=derived) if cell.name == "n0" else cell
  net = supernet(nodes=1, edges=edges, candidates=derive, operations=ONE_OF_EACH_KIND)
  del net.alphas["n0"]
  (loss, (statistics, _)), by_weights = gradient(net)
  (again, (statistics_again, _)), by_weights_again = gradient(net, remat=True)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
  close(loss, again)
  jax.tree.map(close, by_weights, by_weights_again)
  jax.tree.map(close, statistics, statistics_again)


def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32(supernet):
  net = supernet(nodes=1, operations=ONE_OF_EACH_KIND)
  (loss, (_, logits)), _ = gradient(net)
  (rough, (rough_statistics, rough_logits)), rough_by_weights = gradient(net, dtype="bfloat16")
  assert {a.dtype for a in jax.tree.leaves([rough, rough_by_weights, rough_statistics, rough_logits])} == {
    np.dtype("float32")
  }
  # A bfloat16 has 8 bits: results differ, by about a hundredth.
  assert 0 < float(jnp.abs(rough_logits - logits).max()) < 0.05
  np.testing.assert_allclose(rough, loss, rtol=0.02)
  text = (
    jax.jit(lambda x: net.network.clone(dtype="bfloat16").apply(*x))
    .lower(
      (
        {"params": net.params, "batch_stats": net.batch_stats},
        net.images,
        {n: jnp.ones_like(a) for n, a in net.mixtures().items()},
      )
    )
    .as_text()
  )
  products = [line for line in text.splitlines() if "dot_general" in line]
  assert len(products) > 5 and ["bf16" in line for line in products].count(False) == 1  # The classifier's.
