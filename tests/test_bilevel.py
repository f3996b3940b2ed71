import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.models import network as networks, operations
from lfr_darts_jax.search import bilevel, hypergradient, penalties, plans, relaxation
from lfr_darts_jax.search.objective import Batch, Objective, supernet_loss
from lfr_darts_jax.search.relaxation import Moment

STATISTICS = MEAN, STD = (0.4, 0.5), (0.3, 0.2)


def stage(net, **schedule):
  """A stage that searches all of a supernet's cells."""
  return plans.Stage(net.network.layout, tuple(net.alphas), alpha_rate=6e-3, **schedule)


def make(config, net, order=1, for_cpu=True, **search):
  """Steps, a state with momentum and data for a small supernet."""
  config.search.update(order=order, batch_size=4, **search)
  config.data.update(crop_padding=0)
  steps = bilevel.SearchSteps(config, net.network, stage(net), 20, STATISTICS, None, for_cpu)
  rng = np.random.default_rng(1)
  momentum = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * 0.1, p.dtype), net.params)
  variables = {"params": net.params, "batch_stats": net.batch_stats}
  state = steps.initial_state(variables, net.alphas, jax.random.PRNGKey(0))
  state = state.replace(opt_state=optax.tree.set(state.opt_state, trace=momentum))
  images, labels = rng.integers(0, 256, (24, 8, 8, 2)), rng.integers(0, 3, 24)
  dataset = ArrayDataset(jnp.asarray(images, jnp.uint8), jnp.asarray(labels))
  return steps, state, InMemoryChunk(dataset, jnp.arange(24).reshape(2, 12))


def batch_pair(steps, state, chunk):
  convert = lambda b: b._replace(images=b.images.astype(jax.tree.leaves(state.params)[0].dtype))
  ready, _ = chunk.epoch(steps.order_keys(state), state.step, 4)
  return [convert(steps._batch(state, ready, split)) for split in (bilevel.VALIDATION, bilevel.TRAIN)]


def test_order_2_equals_central_differences_of_the_bilevel_objective(x64, config, supernet):
  net = supernet(layout=("n0", "r0"), nodes=1, channels=2)
  rate, mu, decay = 0.2, 0.9, 3e-2
  steps, state, chunk = make(
    config, net, order=2, inner_learning_rate=rate, momentum=mu, weight_decay=decay, alpha_weight_decay=0.0
  )
  validation, train = batch_pair(steps, state, chunk)
  loss = functools.partial(supernet_loss, net.network, Objective(), net.mask)
  closed = jax.jit(lambda p, a, b: loss(p, a, state.batch_stats, b)[0])
  momentum = optax.tree.get(state.opt_state, "trace")
  train_gradient = jax.jit(jax.grad(lambda p, a: closed(p, a, train)))

  def objective(alphas):  # As DESIGN defines it, written out: L_val(w - xi (mu m + grad L_train + lambda w), alpha).
    gradient = train_gradient(state.params, alphas)
    moved = jax.tree.map(lambda w, m, g: w - rate * (mu * m + g + decay * w), state.params, momentum, gradient)
    return closed(moved, alphas, validation)

  after, sums = steps.run(jax.tree.map(jnp.array, state), chunk, 1)
  # Adam's first moment after one step is the gradient times 1 - beta1.
  gradient = jax.tree.map(lambda m: m / (1 - config.search.alpha_beta1), optax.tree.get(after.alpha_opt_state, "mu"))
  rng = np.random.default_rng(2)
  for _ in range(4):
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), state.alphas)
    shift = lambda h, d=direction: objective(jax.tree.map(lambda a, d: a + h * d, state.alphas, d))
    # Richardson's combination of two steps removes the leading error of central differences.
    central = lambda h: (shift(h) - shift(-h)) / (2 * h)
    numeric = (4 * central(5e-6) - central(1e-5)) / 3
    exact = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)
  # The look ahead is no half-step: it counts for nothing, and the validation loss is that behind it.
  np.testing.assert_array_equal(sums.batches, [1, 1])
  np.testing.assert_allclose(sums.loss[bilevel.VALIDATION], objective(state.alphas), rtol=1e-5)


def test_order_1_equals_order_2_at_inner_rate_0(x64, config, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  results = []
  for order in (1, 2):
    steps, state, chunk = make(config, net, order, inner_learning_rate=0.0)
    state = jax.tree.map(jnp.array, state)
    results.append(steps.run(state, chunk, 2)[0])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *results)


def test_order_2_differs_at_the_current_rate(config, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  gradients = []
  for order in (1, 2):
    steps, state, chunk = make(config, net, order)
    state, _ = steps.run(jax.tree.map(jnp.array, state), chunk, 1)
    # Adam's first moment after one update is the gradient times a constant.
    gradients.append(optax.tree.get(state.alpha_opt_state, "mu")["n0"].operations)
  difference = np.linalg.norm(gradients[0] - gradients[1]) / np.linalg.norm(gradients[0])
  assert 1e-3 < difference < 1


def test_one_step_moves_alphas_on_validation_then_weights_on_train(x64, config, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  steps, state, chunk = make(config, net)
  validation, train = batch_pair(steps, state, chunk)
  for batch, own in ((train, chunk.splits[0]), (validation, chunk.splits[1])):
    normal = (np.asarray(chunk.dataset.images[own]) / 255 - np.array(MEAN)) / np.array(STD)
    for image, label in zip(batch.images, batch.labels, strict=True):
      (found,) = np.flatnonzero(np.abs(normal - image).max((1, 2, 3)) < 1e-5)
      assert chunk.dataset.labels[own[found]] == label
  loss = lambda p, a, b: supernet_loss(net.network, Objective(), net.mask, p, a, state.batch_stats, b)
  by_alphas = jax.grad(lambda a: loss(state.params, a, validation)[0])(state.alphas)
  expected = steps.apply_alpha_gradient(state, by_alphas)
  (_, (statistics, *_)), by_weights = jax.value_and_grad(lambda p: loss(p, expected.alphas, train), has_aux=True)(
    state.params
  )
  expected = steps.apply_weight_gradient(expected, by_weights, statistics).replace(step=jnp.int32(1))
  got, sums = steps.run(jax.tree.map(jnp.array, state), chunk, 1)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, expected)
  np.testing.assert_array_equal(sums.batches, [1, 1])
  np.testing.assert_allclose(
    sums.alpha_gradients["n0"], np.sqrt(np.sum(np.square(by_alphas["n0"].operations))), rtol=1e-5
  )


def test_the_dropout_of_skip_connects_falls_twice_in_a_stage_of_pdarts():
  rate = lambda initial, epoch: float(bilevel.skip_dropout_rate(initial, epoch, 10, 25))
  # In the warm-up 0.4 * (25 - epoch - 1) / 25.
  np.testing.assert_allclose([rate(0.4, e) for e in (0, 9)], [0.384, 0.24], rtol=1e-6)
  np.testing.assert_allclose([rate(0.7, e) for e in (0, 9)], [0.672, 0.42], rtol=1e-6)
  # Then 0.4 * e^(-0.2 (epoch - 10)).
  np.testing.assert_allclose([rate(0.4, e) for e in (10, 11, 24)], [0.4, 0.327492, 0.024324], rtol=1e-4)
  # A warm-up that ends within an epoch: that epoch belongs to it.
  assert float(bilevel.skip_dropout_rate(1.0, 1, 1.2, 3)) == pytest.approx(1 / 3)


def test_the_auxiliary_skip_falls_from_1_to_0():
  factors = [float(bilevel.auxiliary_skip_factor(progress)) for progress in (0, 1 / 3, 0.5, 2 / 3, 1)]
  np.testing.assert_allclose(factors, [1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_warm_up_trains_weights_alone(config, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  config.search.steps_per_chunk = 4
  steps, state, chunk = make(config, net)
  steps = bilevel.SearchSteps(config, net.network, stage(net, warmup=0.1), 20, STATISTICS)
  before = np.array(state.alphas["n0"].operations)
  state, sums = steps.run(jax.tree.map(jnp.array, state), chunk, 2)
  np.testing.assert_array_equal(state.alphas["n0"].operations, before)
  np.testing.assert_array_equal(sums.batches, [0, 2])
  assert sums.alpha_gradients["n0"] == 0
  state, sums = steps.run(state, chunk, 3)
  assert np.abs(state.alphas["n0"].operations - before).max() > 1e-4
  np.testing.assert_array_equal(sums.batches, [1, 1])


def test_chunks_of_any_length_run_one_program_to_the_same_result(config, supernet, caplog):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  steps, state, chunk = make(config, net)
  assert not steps.compiled
  steps.compile(state, chunk)
  once, _ = steps.run(jax.tree.map(jnp.array, state), chunk, 4)
  parts = jax.tree.map(jnp.array, state)
  # One program for all lengths, and nothing of the state passes through the host.
  with jax.transfer_guard("disallow"), jax.log_compiles(), caplog.at_level("WARNING"):
    for stop in (1, 3, 4):
      parts, _ = steps.run(parts, chunk, stop)
  assert not [record for record in caplog.records if "_take_steps" in record.message]
  jax.tree.map(np.testing.assert_array_equal, once, parts)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_unrolled_params_by_hand(rate):
  moved = hypergradient.unrolled_params(
    {"w": jnp.array(2.0)}, {"w": jnp.array(1.0)}, {"w": jnp.array(4.0)}, rate, 0.5, 0.25
  )
  np.testing.assert_allclose(moved["w"], 1 - rate * (0.5 * 4 + 2 + 0.25))


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_gradient_by_what_a_phase_needs_alone_gives_the_same_step(x64, config, supernet, order):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  results = []
  for for_cpu in (True, False):
    steps, state, chunk = make(config, net, order, for_cpu)
    results.append(steps.run(jax.tree.map(jnp.array, state), chunk, 2))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *results)


def test_a_penalty_moves_the_alphas_alone(x64, supernet, monkeypatch):
  # The sum of the squares of all alphas, whose gradient is twice themselves.
  squares = lambda choice: sum(jnp.sum(a.operations**2) for a in choice.alphas.values())
  monkeypatch.setitem(penalties.PENALTIES, "squares", squares)
  net = supernet(layout=("n0",), nodes=1, channels=2)
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))

  def gradients(named):
    loss = lambda p, a: supernet_loss(net.network, Objective(terms=named), net.mask, p, a, net.batch_stats, batch)
    return jax.grad(loss, argnums=(0, 1), has_aux=True)(net.params, net.alphas)

  (plain, _), (penalized, _) = gradients(()), gradients((("squares", 3.0, "constant"),))
  jax.tree.map(np.testing.assert_array_equal, plain[0], penalized[0])
  added = penalized[1]["n0"].operations - plain[1]["n0"].operations
  np.testing.assert_allclose(added, 6 * net.alphas["n0"].operations, rtol=1e-9)


def test_a_penalty_is_of_the_cells_that_are_searched(x64, supernet, monkeypatch):
  net, seen = supernet(layout=("n0", "n1"), nodes=1, channels=2), []
  monkeypatch.setitem(penalties.PENALTIES, "seen", lambda choice: seen.append(set(choice.mixtures)) or 0.0)
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))
  for searched in (("n1",), ()):
    objective = Objective(terms=(("seen", 1.0, "constant"),), searched=searched)
    arguments = net.mask, net.params, net.alphas, net.batch_stats, batch
    jax.eval_shape(lambda objective=objective, given=arguments: supernet_loss(net.network, objective, *given))
  assert seen == [{"n1"}, {"n0", "n1"}]


@pytest.mark.slow
@pytest.mark.parametrize("size", [6, 7])
def test_order_2_compiled_equals_order_2_operation_by_operation(x64, supernet, size):
  # XLA's CPU fusions once made this one wrong by percents: a derived max pool behind a mixed cell.
  candidates = {"n0": (("skip_connect", "dil_conv_3x3"),) * 2, "n1": ((), ("max_pool_3x3",))}
  choose = lambda cell: dataclasses.replace(cell, candidates=candidates[cell.name])
  net = supernet(layout=("n0", "n1"), nodes=1, size=size, edges="unroll", candidates=choose)
  mask, alphas = ({"n0": values["n0"]} for values in (net.mask, net.alphas))
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))
  loss = lambda p, a: supernet_loss(net.network, Objective(), mask, p, a, net.batch_stats, batch)[0]

  def gradient(alphas):
    unrolled = lambda a: jax.tree.map(lambda w, g: w - 0.2 * g, net.params, jax.grad(loss)(net.params, a))
    return jax.grad(lambda a: loss(unrolled(a), a))(alphas)["n0"].operations

  compiled = jax.jit(gradient)(alphas)
  with jax.disable_jit():
    np.testing.assert_allclose(compiled, gradient(alphas), rtol=1e-9, atol=1e-12)


def plain(net, monkeypatch):
  """The same supernet the way it reads in the paper: every edge written out, everything by XLA's own convolutions."""
  monkeypatch.setattr(
    operations, "max_pool", lambda x, stride: nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))
  )
  monkeypatch.setattr(networks, "convolution", functools.partial(nn.Conv, use_bias=False))
  monkeypatch.setattr(operations, "pointwise", functools.partial(nn.Dense, use_bias=False))
  settings = net.network.settings._replace(depthwise="conv")
  return dataclasses.replace(net.network, edges="unroll", settings=settings)


@pytest.mark.slow
@pytest.mark.parametrize("dtype,count,tolerance", [("float64", 5, 1e-9), ("float32", 5, 1e-5)])
def test_losses_equal_those_of_the_straightforward_formulation(
  config, supernet, monkeypatch, request, dtype, count, tolerance
):
  if dtype == "float64":
    request.getfixturevalue("x64")
  net = supernet(layout=("n0", "r0"), nodes=2, channels=4, edges="scan")
  steps, state, chunk = make(config, net)
  ours, fast = [], jax.tree.map(jnp.array, state)
  for step in range(1, count + 1):
    fast, sums = steps.run(fast, chunk, step)
    ours.append(np.asarray(sums.loss))
  network = plain(net, monkeypatch)
  loss = functools.partial(supernet_loss, network, Objective(), net.mask)

  @jax.jit
  def update(state):
    ready, _ = chunk.epoch(steps.order_keys(state), state.step, 4)
    validation, train = (steps._batch(state, ready, split) for split in (bilevel.VALIDATION, bilevel.TRAIN))
    validation_loss, by_alphas = jax.value_and_grad(lambda a: loss(state.params, a, state.batch_stats, validation)[0])(
      state.alphas
    )
    state = steps.apply_alpha_gradient(state, by_alphas)
    (train_loss, (statistics, *_)), by_weights = jax.value_and_grad(
      lambda p: loss(p, state.alphas, state.batch_stats, train), has_aux=True
    )(state.params)
    state = steps.apply_weight_gradient(state, by_weights, statistics)
    return state.replace(step=state.step + 1), jnp.stack([validation_loss, train_loss])

  theirs = []
  for _ in range(count):
    state, losses = update(state)
    theirs.append(losses)
  np.testing.assert_allclose(ours, theirs, rtol=tolerance)
  assert abs(theirs[-1][1] - theirs[0][1]) > 0.1


def perturbed(config, **more):
  config.search.update(perturbation=0.3, perturbed_by="adversary", **more)


def test_the_adversary_of_a_linear_loss_goes_to_the_corner(config, supernet):
  perturbed(config)
  net = supernet(layout=("n0",), nodes=1, channels=2)
  steps, state, _ = make(config, net, 1)
  carry = steps.carry(state)._replace(shift=steps._first_shift(state, jnp.array(True)))
  assert jnp.abs(carry.shift["n0"].operations).max() <= steps._reach(state)
  costs = {"n0": net.alphas["n0"]._replace(operations=jnp.sin(1 + jnp.arange(16.0)).reshape(2, 8))}
  for _ in range(bilevel.PROBES):
    gradient = bilevel.Gradient(0.0, None, 0.0, None, costs)
    carry = steps._probe(carry, gradient, None)
  expected = steps._reach(state) * jnp.sign(costs["n0"].operations)
  np.testing.assert_allclose(carry.shift["n0"].operations, expected, rtol=1e-6)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_weights_alone_train_under_the_adversary(x64, config, supernet, order):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  calm, state, chunk = make(config, net, order)
  expected = calm.run(jax.tree.map(jnp.array, state), chunk, 1)[0]
  perturbed(config)
  results = [make(config, net, order, for_cpu) for for_cpu in (True, False)]
  (first, _), (second, _) = (steps.run(jax.tree.map(jnp.array, state), chunk, 1) for steps, _, _ in results)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), first, second)
  jax.tree.map(np.testing.assert_array_equal, first.alphas, expected.alphas)
  moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), first.params, expected.params)
  assert max(jax.tree.leaves(moved)) > 1e-6


def test_layers_that_share_alphas_are_pulled_together(x64, config, supernet):
  net = supernet(layout=("n0", "n0"), nodes=1, channels=2)
  _, state, chunk = make(config, net, 1)
  results = []
  for strength in (0.0, 0.125):
    config.search.layer_alignment = strength
    steps, _, _ = make(config, net, 1)
    results.append(steps.run(jax.tree.map(jnp.array, state), chunk, 2)[0])
  # At the first step the factor is 0; the second moves the weights, but not yet the alphas.
  jax.tree.map(np.testing.assert_array_equal, results[0].alphas, results[1].alphas)
  moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), results[0].params, results[1].params)
  assert 0 < max(jax.tree.leaves(moved)) < 0.1


def test_what_fades_weighs_less_until_it_is_gone(config, supernet):
  config.prune.fade = 0.5
  net = supernet(layout=("n0",), nodes=1, channels=2, operations=("skip_connect", "avg_pool_3x3"))
  steps, state, _ = make(config, net, 1)
  state = state.replace(
    mask={"n0": state.mask["n0"]._replace(operations=jnp.array([[True, False], [True, True]]))},
    until={"n0": state.until["n0"].at[0, 1].set(steps._total // 2)},
    alphas={"n0": state.alphas["n0"]._replace(operations=jnp.zeros((2, 2)))},
  )
  for step, expected in ((0, 1 / 2), (steps._total // 4, 1 / 3), (steps._total // 2, 0.0), (steps._total, 0.0)):
    mask = steps._mask(state.replace(step=jnp.int32(step)))
    mixture = steps._objective.relax(state.alphas["n0"], mask["n0"], Moment())
    np.testing.assert_allclose(mixture, [[1 - expected, expected], [0.5, 0.5]], rtol=1e-6)


def test_hard_images_count_more_where_alphas_move(x64, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))

  def loss(exponent, training):
    objective = Objective(sample_weight_exponent=exponent)
    inputs = net.mask, net.params, net.alphas, net.batch_stats, batch
    return float(supernet_loss(net.network, objective, *inputs, moment=Moment(training=training))[0])

  assert loss(1.0, True) == loss(0.0, True) == loss(0.0, False) < loss(1.0, False)


@pytest.mark.parametrize("training", [True, False])  # Where weights move, and where alphas do.
def test_classes_count_by_their_weights_where_weights_and_where_alphas_move(x64, supernet, training):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  inputs = net.mask, net.params, net.alphas, net.batch_stats, Batch(net.images, net.labels, jax.random.PRNGKey(0))

  def loss(weights, exponent):
    objective = Objective(sample_weight_exponent=exponent, class_weights=weights)
    return float(supernet_loss(net.network, objective, *inputs, moment=Moment(training=training))[0])

  for exponent in (0.0, 1.0):
    apart = [loss(tuple(map(float, np.arange(3) == label)), exponent) for label in range(3)]
    assert min(apart) > 0
    np.testing.assert_allclose(loss((3.0, 0.5, 2.0), exponent), np.dot(apart, [3, 0.5, 2]))
    np.testing.assert_allclose(loss((1.0,) * 3, exponent), loss(None, exponent))


@pytest.mark.parametrize("form", ["scan", pytest.param("star", marks=pytest.mark.slow)])
def test_one_sampled_operation_has_the_same_gradient_in_all_forms(x64, config, supernet, form):
  config.search.gate = "gumbel"
  net = supernet(layout=("n0",), nodes=2, operations=("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3"))
  batch = Batch(net.images, net.labels, jax.random.PRNGKey(0))
  moment = Moment(0.5, False, jax.random.PRNGKey(3))

  def gradients(network):
    loss = lambda p, a: supernet_loss(
      network, Objective(relaxation.make(config.search)), net.mask, p, a, net.batch_stats, batch, moment=moment
    )[0]
    return jax.grad(loss, argnums=(0, 1))(net.params, net.alphas)

  # The loop skips what was not sampled at run time.
  expected, found = (
    gradients(net.network.clone(edges="unroll")),
    gradients(net.network.clone(edges=form, skip_unweighted=True)),
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), expected, found)
  assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(expected[1])) > 1e-6
