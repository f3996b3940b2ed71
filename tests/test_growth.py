import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.search import bilevel, growth, pruning, relaxation
from lfr_darts_jax.search.objective import Objective, supernet_loss
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.training import optimizers
from tests.conftest import ONE_OF_EACH_KIND
from tests.test_bilevel import STATISTICS, batch_pair, make, stage


def masks(network):
  """Those of a supernet's candidates."""
  return {c.name: Alphas(jnp.array(c.mask(network.operations))) for c in network.cells}


def pruned_pair(config, supernet, edges):
  """A small supernet's state before and after a round of pruning."""
  net = supernet(layout=("n0", "r0"), edges=edges, operations=ONE_OF_EACH_KIND)
  steps, state, chunk = make(config, net)
  strength = {k: np.asarray(mixture) for k, mixture in net.mixtures().items()}
  cells = tuple(pruning.prune_operations(c, strength[c.name], net.network.operations, 3) for c in net.network.cells)
  # One edge loses all, as in a derived cell.
  cells = tuple(dataclasses.replace(c, candidates=((), *c.candidates[1:])) for c in cells)
  network = net.network.clone(cells=cells)
  after = bilevel.SearchSteps(config, network, stage(net), 20, STATISTICS)
  pruned = jax.tree.map(jnp.asarray, growth.narrow(state, network.layout, net.network.cells, cells))
  return net, network, state, pruned, steps, after, chunk


@pytest.mark.parametrize("edges", ["scan", "unroll"])
@pytest.mark.parametrize(
  "precision,tolerance", [pytest.param("float32", 1e-5, marks=pytest.mark.slow), ("float64", 1e-10)]
)
def test_pruning_preserves_the_function(config, supernet, edges, precision, tolerance):
  with jax.enable_x64(precision == "float64"):
    net, network, state, pruned, _, after, chunk = pruned_pair(config, supernet, edges)
    mask = masks(network)
    _, train = batch_pair(after, state, chunk)
    run = lambda n, s: jax.jit(lambda s: supernet_loss(n, Objective(), mask, s.params, s.alphas, s.batch_stats, train))(
      s
    )
    logits = lambda n, s: (
      n.apply(
        {"params": s.params, "batch_stats": s.batch_stats},
        train.images,
        {k: relaxation.softmax(a, mask[k], relaxation.Moment()) for k, a in s.alphas.items()},
      ).logits
    )
    np.testing.assert_allclose(logits(network, pruned), logits(net.network, state), rtol=tolerance, atol=tolerance)
    loss, (statistics, *_) = run(net.network, state)
    pruned_loss, (pruned_statistics, *_) = run(network, pruned)
    np.testing.assert_allclose(pruned_loss, loss, rtol=tolerance)
    kept = growth.drop_pruned(statistics, network.layout, net.network.cells, network.cells)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), pruned_statistics, kept)


@pytest.mark.slow
def test_the_next_update_has_the_survivors_momentum(x64, config, supernet):
  net, network, state, pruned, _, after, chunk = pruned_pair(config, supernet, "scan")
  config.search.gradient_clip = 1e6  # The norm of the pruned gradient is another one.
  mask = masks(network)
  _, train = batch_pair(after, state, chunk)

  def step(network, state):
    optimizer = optimizers.search_weights(config, 20)
    gradient = jax.grad(
      lambda p: supernet_loss(network, Objective(), mask, p, state.alphas, state.batch_stats, train)[0]
    )(state.params)
    return optax.tree.get(optimizer.update(gradient, state.opt_state, state.params)[1], "trace")

  whole, survivors = step(net.network, state), step(network, pruned)
  expected = growth.drop_pruned(whole, network.layout, net.network.cells, network.cells)
  assert optax.tree.norm(survivors) > 0.1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), survivors, expected)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_to_skip_what_was_pruned_is_to_be_without_it(x64, config, supernet, order):
  net, network, state, pruned, _, rebuilt, chunk = pruned_pair(config, supernet, "scan")
  config.search.order = order
  mask = masks(network)
  passing = bilevel.SearchSteps(config, net.network.clone(skip_unweighted=True), stage(net), 20, STATISTICS)
  rebuilt = bilevel.SearchSteps(config, network, stage(net), 20, STATISTICS)
  whole, sums = passing.run(jax.tree.map(jnp.array, state.replace(mask=mask)), chunk, 2)
  own, own_sums = rebuilt.run(jax.tree.map(jnp.array, pruned.replace(mask=mask)), chunk, 2)
  close = lambda a, b: jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10), a, b)
  close(sums, own_sums)
  close(whole.alphas, own.alphas)
  restrict = lambda variables: growth.drop_pruned(variables, network.layout, net.network.cells, network.cells)
  close((restrict(whole.params), restrict(whole.batch_stats)), (own.params, own.batch_stats))
  # What was passed over has not seen the batches.
  kernel = lambda state: edge_stacks.unstack(net.network.cells[0], state.batch_stats["layer_0"])["edge_0_2"]
  close(kernel(whole), kernel(state))


def test_schedule_counts_go_on_through_pruning(config, supernet):
  net, network, state, pruned, steps, after, chunk = pruned_pair(config, supernet, "scan")
  moved, _ = steps.run(jax.tree.map(jnp.array, state), chunk, 2)
  assert optax.tree.get(moved.opt_state, "count") == 2
  grafted = growth.narrow(moved, network.layout, net.network.cells, network.cells).opt_state
  assert jax.tree.structure(grafted) == jax.tree.structure(after.optimizer.init(pruned.params))
  assert optax.tree.get(grafted, "count") == 2


def test_the_pruned_tree_is_that_of_a_fresh_network(config, supernet):
  net, network, _, pruned, *_ = pruned_pair(config, supernet, "scan")
  fresh = network.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(net.images.shape, jnp.float32), net.mixtures())
  assert jax.tree.map(jnp.shape, fresh["params"]) == jax.tree.map(jnp.shape, pruned.params)
  assert jax.tree.map(jnp.shape, fresh["batch_stats"]) == jax.tree.map(jnp.shape, pruned.batch_stats)


def test_matching_leaves_are_copied_by_path_and_refuses_another_shape():
  new, old = {"a": jnp.zeros(2), "b": jnp.zeros(3)}, {"a": jnp.ones(2), "c": jnp.ones(3)}
  got = growth.copy_matching(new, old)
  np.testing.assert_array_equal(got["a"], 1)
  np.testing.assert_array_equal(got["b"], 0)
  np.testing.assert_array_equal(growth.copy_matching(new, old, lambda path: ("c",) if path == ("b",) else None)["b"], 1)
  with pytest.raises(ValueError, match="does not fit"):
    growth.copy_matching({"a": jnp.zeros(2)}, {"a": jnp.zeros(3)})


OLD, NEW = ("n0", "r0"), ("n0", "n0", "r0", "n1")


def test_origins():
  assert growth.origins(OLD, NEW) == {0: (0, True), 1: (0, False), 2: (1, True)}
  assert growth.origins(("n0", "n0"), ("n0", "r0")) == {0: (0, True)}
  assert growth.origins(("a", "a"), ("a", "a", "a")) == {0: (0, True), 1: (1, True), 2: (1, False)}


def derived(cell):
  return pruning.derive(cell, np.random.default_rng(0).random((5, 8)), tuple(cell.candidates[0]))


@pytest.fixture
def nets(supernet):
  old = supernet(layout=OLD, candidates=derived, edges="unroll")
  new = supernet(layout=NEW, candidates=lambda c: c if c.name == "n1" else derived(c), edges="unroll")
  new.params = jax.tree.map(lambda p: p + 1, new.params)
  return old, new


def test_inherited_parameters_are_bit_equal_and_the_rest_is_fresh(nets):
  old, new = nets
  got = growth.inherit(new.params, old.params, OLD, NEW)
  equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  assert jax.tree.structure(got) == jax.tree.structure(new.params)
  for name in ("stem", "stem_norm"):
    equal(got[name], old.params[name])
  equal(got["layer_0"], old.params["layer_0"])
  equal(got["layer_3"], new.params["layer_3"])
  equal(got["classifier"], new.params["classifier"])
  # The reduction moved from place 1 to 2 with all its weights, as its input has as many features as before.
  edges = [part for part in got["layer_2"] if part.startswith("stride")]
  assert edges
  equal({p: got["layer_2"][p] for p in edges}, {p: old.params["layer_1"][p] for p in edges})
  # A copy of n0 reads n0's eight features where n0 reads the stem's twelve: its preprocessing starts fresh.
  equal(got["layer_1"]["preprocess1"], new.params["layer_1"]["preprocess1"])
  equal(
    {p: v for p, v in got["layer_1"].items() if p.startswith("stride")},
    {p: v for p, v in old.params["layer_0"].items() if p.startswith("stride")},
  )


def test_inherited_activations_are_equal(nets):
  old, new = nets
  params = growth.inherit(new.params, old.params, OLD, NEW)
  statistics = growth.inherit(new.batch_stats, old.batch_stats, OLD, NEW)

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
  got = growth.inherit_momentum(optimizer.init(new.params), state, OLD, NEW)
  trace, before = optax.tree.get(got, "trace"), optax.tree.get(state, "trace")
  equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  equal(trace["layer_0"], before["layer_0"])
  assert optax.tree.norm(before["layer_0"]) > 0
  for fresh in ("layer_1", "layer_3", "classifier"):
    assert optax.tree.norm(trace[fresh]) == 0
  assert optax.tree.get(got, "count") == 0
