import jax
import jax.numpy as jnp
import pytest

from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import network as networks
from lfr_darts_jax.errors import UsageError


def test_outputs(config):
  config.network.layers = 6
  net = networks.final_network(config, genotypes.DARTS_V2)
  x = jnp.ones((2, 8, 8, 1))
  variables = net.lazy_init(jax.random.key(0), jax.ShapeDtypeStruct(x.shape, x.dtype))
  assert net.apply(variables, x).auxiliary is None
  outputs, _ = net.apply(variables, x, train=True, mutable=["batch_stats"])
  assert outputs.logits.shape == outputs.auxiliary.shape == (2, 10)
  # Channels double at each of the two reductions; a cell's output joins its four nodes.
  assert variables["params"]["classifier"]["kernel"].shape == (4 * 4 * config.network.channels, 10)


def test_without_auxiliary_weight_there_is_no_head(config):
  config.train.auxiliary_weight = 0.0
  config.network.layers = 6
  net = networks.final_network(config, genotypes.DARTS_V2)
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
  ],
)
def test_image_sizes_that_bear_the_reductions(config, size, reductions, auxiliary, stem, fits):
  config.data.image_size, config.network.stem = size, stem
  cells = (genotypes.Cell("r", "reduction", (("max_pool_3x3",), ("max_pool_3x3",)), (2,)),)
  layout = ("r",) * reductions
  if not fits:
    with pytest.raises(UsageError, match=f"config.data.image_size: {size}"):
      networks.check_resolution(config, layout, cells, auxiliary)
    return
  networks.check_resolution(config, layout, cells, auxiliary)
  net = networks.Network(layout, cells, ("max_pool_3x3",), 4, 3, stem=stem, auxiliary=auxiliary)
  x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
  variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x), x)
  outputs, _ = jax.eval_shape(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]), variables, x)
  assert outputs.logits.shape == (2, 3)
