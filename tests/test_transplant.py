import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax import bilevel
from lfr_darts_jax import optimizers
from lfr_darts_jax import prune
from lfr_darts_jax import transplant
from lfr_darts_jax.relaxation import mixture_weights
from tests.conftest import ONE_OF_EACH_KIND
from tests.test_bilevel import DEVIATION
from tests.test_bilevel import MEAN
from tests.test_bilevel import batch_pair
from tests.test_bilevel import iteration
from tests.test_bilevel import make


def pruned_pair(config, supernet, edges):
  """A small supernet's state before and after a round of pruning."""
  net = supernet(layout=("n0", "r0"), edges=edges, operations=ONE_OF_EACH_KIND)
  updates, state, feed = make(config, net)
  strength = {k: np.asarray(mixture_weights(a, net.live[k])) for k, a in net.alphas.items()}
  cells = tuple(prune.prune_operations(c, strength[c.name], net.network.operations, 3) for c in net.network.cells)
  # One edge loses all, as in a derived cell.
  cells = tuple(dataclasses.replace(c, candidates=((), *c.candidates[1:])) for c in cells)
  network = net.network.clone(cells=cells)
  params = transplant.restrict(state.params, network.layout, cells)
  after = bilevel.Updates(config, network, iteration(net), 20, MEAN, DEVIATION)
  pruned = state.replace(
    params=params,
    batch_stats=transplant.restrict(state.batch_stats, network.layout, cells),
    weight_state=transplant.graft(after.weight_optimizer.init(params), state.weight_state),
  )
  return net, network, state, pruned, updates, after, feed


@pytest.mark.parametrize("edges", ["scan", "unroll"])
@pytest.mark.parametrize("precision,tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_pruning_preserves_the_function(config, supernet, edges, precision, tolerance):
  with jax.enable_x64(precision == "float64"):
    net, network, state, pruned, _, after, feed = pruned_pair(config, supernet, edges)
    live = {c.name: jnp.array(c.live(network.operations)) for c in network.cells}
    _, train = batch_pair(after, state, feed)
    run = lambda n, s: jax.jit(
      lambda s: bilevel.supernet_loss(n, live, s.params, s.alphas, s.batch_stats, train, None)
    )(s)
    logits = lambda n, s: (
      n.apply(
        {"params": s.params, "batch_stats": s.batch_stats},
        train.images,
        {k: mixture_weights(a, live[k]) for k, a in s.alphas.items()},
      ).logits
    )
    np.testing.assert_allclose(logits(network, pruned), logits(net.network, state), rtol=tolerance, atol=tolerance)
    loss, (statistics, _) = run(net.network, state)
    pruned_loss, (pruned_statistics, _) = run(network, pruned)
    np.testing.assert_allclose(pruned_loss, loss, rtol=tolerance)
    kept = transplant.restrict(statistics, network.layout, network.cells)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), pruned_statistics, kept)


def test_the_next_update_has_the_survivors_momentum(x64, config, supernet):
  net, network, state, pruned, _, after, feed = pruned_pair(config, supernet, "scan")
  config.search.gradient_clip = 1e6  # The norm of the pruned gradient is another one.
  live = {c.name: jnp.array(c.live(network.operations)) for c in network.cells}
  _, train = batch_pair(after, state, feed)

  def step(network, state):
    optimizer = optimizers.search_weights(config, 20)
    gradient = jax.grad(
      lambda p: bilevel.supernet_loss(network, live, p, state.alphas, state.batch_stats, train, None)[0]
    )(state.params)
    return optax.tree.get(optimizer.update(gradient, state.weight_state, state.params)[1], "trace")

  whole, survivors = step(net.network, state), step(network, pruned)
  expected = transplant.restrict(whole, network.layout, network.cells)
  assert optax.tree.norm(survivors) > 0.1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), survivors, expected)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_to_pass_over_what_was_pruned_is_to_be_without_it(x64, config, supernet, order):
  net, network, state, pruned, _, rebuilt, feed = pruned_pair(config, supernet, "scan")
  config.search.order = order
  live = {c.name: jnp.array(c.live(network.operations)) for c in network.cells}
  passing = bilevel.Updates(config, net.network.clone(conditional=True), iteration(net), 20, MEAN, DEVIATION)
  rebuilt = bilevel.Updates(config, network, iteration(net), 20, MEAN, DEVIATION)
  whole, sums = passing.run(jax.tree.map(jnp.array, state.replace(live=live)), feed, 2)
  own, own_sums = rebuilt.run(jax.tree.map(jnp.array, pruned.replace(live=live)), feed, 2)
  close = lambda a, b: jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10), a, b)
  close(sums, own_sums)
  close(whole.alphas, own.alphas)
  restrict = lambda variables: transplant.restrict(variables, network.layout, network.cells)
  close((restrict(whole.params), restrict(whole.batch_stats)), (own.params, own.batch_stats))
  # What was passed over has not seen the batches.
  kernel = lambda state: state.batch_stats["layer_0"]["edge_0_2"]
  close(kernel(whole), kernel(state))


def test_schedule_counts_go_on_through_pruning(config, supernet):
  _, _, state, pruned, updates, after, feed = pruned_pair(config, supernet, "scan")
  moved, _ = updates.run(jax.tree.map(jnp.array, state), feed, 2)
  assert optax.tree.get(moved.weight_state, "count") == 2
  grafted = transplant.graft(after.weight_optimizer.init(pruned.params), moved.weight_state)
  assert optax.tree.get(grafted, "count") == 2


def test_the_pruned_tree_is_that_of_a_fresh_network(config, supernet):
  net, network, _, pruned, *_ = pruned_pair(config, supernet, "scan")
  fresh = network.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(net.images.shape, jnp.float32), net.alphas)
  assert jax.tree.map(jnp.shape, fresh["params"]) == jax.tree.map(jnp.shape, pruned.params)
  assert jax.tree.map(jnp.shape, fresh["batch_stats"]) == jax.tree.map(jnp.shape, pruned.batch_stats)


def test_graft_copies_by_path_and_refuses_another_shape():
  new, old = {"a": jnp.zeros(2), "b": jnp.zeros(3)}, {"a": jnp.ones(2), "c": jnp.ones(3)}
  got = transplant.graft(new, old)
  np.testing.assert_array_equal(got["a"], 1)
  np.testing.assert_array_equal(got["b"], 0)
  np.testing.assert_array_equal(transplant.graft(new, old, lambda path: ("c",) if path == ("b",) else None)["b"], 1)
  with pytest.raises(ValueError, match="does not fit"):
    transplant.graft({"a": jnp.zeros(2)}, {"a": jnp.zeros(3)})
