import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.fields import DARTS_OPERATIONS
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.runtime import target
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.training import optimizers, vector
from lfr_darts_jax.training.train import TrainSteps

TREE = {"a": jnp.arange(6.0).reshape(2, 3), "b": {"c": jnp.array(7.0), "d": -jnp.ones((1, 2))}}


def test_a_tree_comes_back_and_so_does_its_gradient():
  packed = vector.pack(TREE)
  assert packed.values.shape == (9,) and len(jax.tree.leaves(packed)) == 1
  jax.tree.map(np.testing.assert_array_equal, packed.unpack(), TREE)
  loss = lambda tree: sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(vector.unpacked(tree)))
  expected = vector.pack(jax.grad(loss)(TREE))
  np.testing.assert_allclose(jax.grad(loss)(packed).values, expected.values, rtol=1e-6)
  assert vector.unpacked(TREE) is TREE and vector.like(TREE, TREE) is TREE
  np.testing.assert_array_equal(vector.like(TREE, packed).values, packed.values)


def test_an_optimizer_moves_it_as_it_moves_the_tree():
  optimizer = optimizers.sgd(lambda step: 0.1, 0.9, 3e-4, clip=1.0)
  trees, vectors = TREE, vector.pack(TREE)
  states = optimizer.init(trees), optimizer.init(vectors)
  for step in range(3):
    gradient = jax.tree.map(lambda leaf, step=step: jnp.cos(leaf + step), trees)
    updates, first = optimizer.update(gradient, states[0], trees)
    other, second = optimizer.update(vector.pack(gradient), states[1], vectors)
    trees, vectors, states = optax.apply_updates(trees, updates), optax.apply_updates(vectors, other), (first, second)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), vectors.unpack(), trees)


@pytest.mark.slow
def test_a_training_as_accelerators_take_it_equals_that_of_the_cpu(config):
  config.train.update(batch_size=8, drop_path=0.3, ema=0.5)
  network = Network(formats.DARTS_V2.layout(3), formats.DARTS_V2.cells, DARTS_OPERATIONS, 4, 10, auxiliary=True)
  rng = np.random.default_rng(0)
  dataset = ArrayDataset(rng.integers(0, 256, (16, 8, 8, 1), np.uint8), rng.integers(0, 10, 16).astype(np.int32))
  chunk = jax.tree.map(jnp.asarray, InMemoryChunk(dataset, np.arange(16, dtype=np.int32)[None]))

  def trained():
    steps = TrainSteps(config, network, 16, ((0.5,), (0.2,)))
    state = steps.initial_state((8, 8, 1))
    return steps.compile(state, chunk)(state, chunk, jnp.int32(3))

  state, sums = trained()
  with target.compiling_for("gpu"):
    other, other_sums = trained()
  assert jax.tree.structure(other) == jax.tree.structure(state)
  np.testing.assert_allclose(other_sums, sums, rtol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), other, state)
