import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax import deepen
from lfr_darts_jax import optimizers
from lfr_darts_jax import prune

OLD, NEW = ("n0", "r0"), ("n0", "n0", "r0", "n1")


def test_origins():
  assert deepen.origins(OLD, NEW) == {0: (0, True), 1: (0, False), 2: (1, True)}
  assert deepen.origins(("n0", "n0"), ("n0", "r0")) == {0: (0, True)}
  assert deepen.origins(("a", "a"), ("a", "a", "a")) == {0: (0, True), 1: (1, True), 2: (1, False)}


def derived(cell):
  return prune.derive(cell, np.random.default_rng(0).random((5, 8)), tuple(cell.candidates[0]))


@pytest.fixture
def nets(supernet):
  old = supernet(layout=OLD, candidates=derived, edges="unroll")
  new = supernet(layout=NEW, candidates=lambda c: c if c.name == "n1" else derived(c), edges="unroll")
  new.params = jax.tree.map(lambda p: p + 1, new.params)
  return old, new


def test_inherited_parameters_are_bit_equal_and_the_rest_is_fresh(nets):
  old, new = nets
  got = deepen.inherit(new.params, old.params, OLD, NEW)
  equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  assert jax.tree.structure(got) == jax.tree.structure(new.params)
  for name in ("stem", "stem_norm"):
    equal(got[name], old.params[name])
  equal(got["layer_0"], old.params["layer_0"])
  equal(got["layer_3"], new.params["layer_3"])
  equal(got["classifier"], new.params["classifier"])
  # The reduction moved from place 1 to 2 with all its weights, as its input has as many features as before.
  edges = [part for part in got["layer_2"] if part.startswith("edge")]
  assert edges
  equal({p: got["layer_2"][p] for p in edges}, {p: old.params["layer_1"][p] for p in edges})
  # A copy of n0 reads n0's eight features where n0 reads the stem's twelve: its preprocessing starts fresh.
  equal(got["layer_1"]["preprocess1"], new.params["layer_1"]["preprocess1"])
  equal(
    {p: v for p, v in got["layer_1"].items() if p.startswith("edge")},
    {p: v for p, v in old.params["layer_0"].items() if p.startswith("edge")},
  )


def test_inherited_activations_are_equal(nets):
  old, new = nets
  params = deepen.inherit(new.params, old.params, OLD, NEW)
  statistics = deepen.inherit(new.batch_stats, old.batch_stats, OLD, NEW)

  def layer_0(net, params, statistics, mixtures):
    _, state = net.network.apply(
      {"params": params, "batch_stats": statistics},
      net.images,
      mixtures,
      capture_intermediates=lambda m, _: m.name == "layer_0",
      mutable=["intermediates"],
    )
    return state["intermediates"]["layer_0"]["__call__"][0]

  before = layer_0(old, old.params, old.batch_stats, None)
  after = layer_0(new, params, statistics, {"n1": jnp.ones((5, 8)) / 8})
  np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


def test_momentum_of_kept_layers_stays_copies_start_at_zero_and_counts_restart(config, nets):
  old, new = nets
  optimizer = optimizers.search_weights(config, 10)
  state = optimizer.init(old.params)
  _, state = optimizer.update(jax.tree.map(jnp.ones_like, old.params), state, old.params)
  got = deepen.inherit_momentum(optimizer.init(new.params), state, OLD, NEW)
  trace, before = optax.tree.get(got, "trace"), optax.tree.get(state, "trace")
  equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  equal(trace["layer_0"], before["layer_0"])
  assert optax.tree.norm(before["layer_0"]) > 0
  for fresh in ("layer_1", "layer_3", "classifier"):
    assert optax.tree.norm(trace[fresh]) == 0
  assert optax.tree.get(got, "count") == 0
