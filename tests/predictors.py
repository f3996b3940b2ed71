"""Networks as if they were trained, within seconds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.data import augment
from lfr_darts_jax.models.layers import norm
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.search_space import genotype as genotypes
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training.predictor import Predictor
from tests.conftest import tiny_config
from tests.test_chain import small

STATISTICS = (0.3,), (0.4,)


def images(count):
  """Digits' size of noise, from dark to bright, so that a network says other things of each."""
  noise = np.random.default_rng(5).random((count, 8, 8, 1))
  return (noise * np.linspace(0, 255, count).reshape(-1, 1, 1, 1)).astype(np.uint8)


def make(config, genotype, workdir=None):
  """A predictor of images of digits' size, with random weights, and the statistics of `images`."""
  network, rng = final_network(config, genotype), np.random.default_rng(0)
  seen = augment.normalize(jnp.asarray(images(16)), *STATISTICS)
  shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0), seen)
  drawn = jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape).astype(np.float32), shapes)
  # Whatever the weights, images then differ in every layer, as after a training.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(norm, "MOMENTUM", 0.0)
    trained = jax.jit(lambda variables: network.apply(variables, seen, None, True, mutable=["batch_stats"])[1])
    variables = {**drawn, **jax.tree.map(np.asarray, trained(drawn))}
  return Predictor(config, genotype, tuple("abcdefghij"), STATISTICS, variables, workdir)


def of_chain(workdir=None, **overrides):
  """That of a chain of three layers."""
  return make(small(**overrides), genotypes.chain(("mb1_k3", "identity", "mb2_k5")), workdir)


def of_cells(operations, **network):
  """That of a normal, a reduction and a normal cell of one node, which has these operations on the layer before."""
  config = tiny_config()
  config.network.update(layers=3, channels=4, **network)
  config.train.auxiliary_weight = 0.0
  kinds = {"n0": "normal", "r0": "reduction", "n1": "normal"}
  nodes = [[[operation, 1] for operation in operations]]
  return make(config, Genotype(tuple(genotypes.derived_cell(name, kind, nodes, [2]) for name, kind in kinds.items())))
