import jax.numpy as jnp
import numpy as np
import optax

from lfr_darts_jax.training import optimizers


def test_sgd_by_hand():
  optimizer = optimizers.sgd(optax.constant_schedule(0.5), 0.9, 0.1, 5.0)
  params = {"w": jnp.array([1.0, -2.0])}
  state = optimizer.init(params)
  # Clipped from norm 10 to 5: (3, 4); with L2: (3.1, 3.8); momentum is the same in the first step.
  updates, state = optimizer.update({"w": jnp.array([6.0, 8.0])}, state, params)
  np.testing.assert_allclose(updates["w"], [-1.55, -1.9], rtol=1e-6)
  # Then 0.9 * (3.1, 3.8) + (0, 0) + 0.1 * (1, -2).
  updates, _ = optimizer.update({"w": jnp.zeros(2)}, state, params)
  np.testing.assert_allclose(updates["w"], [-0.5 * 2.89, -0.5 * 3.22], rtol=1e-6)


def test_search_schedule_is_a_cosine_from_rate_to_floor(config):
  schedule = optimizers.search_schedule(config, 100)
  np.testing.assert_allclose([schedule(0), schedule(50), schedule(100)], [0.025, 0.013, 0.001], rtol=1e-5)


def test_alphas_have_l2_in_the_gradient_and_dead_ones_hold(config):
  config.search.alpha_weight_decay = 0.5
  live = {"n0": jnp.array([[True, False, True]])}
  optimizer = optimizers.search_alphas(config, 0.1, live)
  alphas = {"n0": jnp.array([[2.0, 3.0, 2.0]])}
  # L2 turns the third's gradient -0.4 into +0.6: Adam's first step is the sign times the rate; AdamW would move it up.
  updates, state = optimizer.update({"n0": jnp.array([[1.0, 1.0, -0.4]])}, optimizer.init(alphas), alphas)
  np.testing.assert_allclose(updates["n0"], [[-0.1, 0, -0.1]], rtol=1e-5)
  np.testing.assert_allclose(optax.tree.get(state, "mu")["n0"], [[1.0, 0, 0.3]], rtol=1e-6)


def test_alphas_are_clipped_over_all_cells_before_l2(config):
  config.search.update(alpha_gradient_clip=5.0, alpha_weight_decay=0.5)
  live = {"n0": jnp.array([[True]]), "r0": jnp.array([[True]])}
  optimizer = optimizers.search_alphas(config, 0.1, live)
  alphas = {"n0": jnp.array([[2.0]]), "r0": jnp.array([[0.0]])}
  _, state = optimizer.update({"n0": jnp.array([[6.0]]), "r0": jnp.array([[8.0]])}, optimizer.init(alphas), alphas)
  # From norm 10 to 5: 3 and 4; with L2 4 and 4; Adam's first moment takes half.
  np.testing.assert_allclose([m.item() for m in optax.tree.get(state, "mu").values()], [2.0, 2.0], rtol=1e-6)


def test_cosine_is_multiplied_by_the_warm_up(config):
  config.train.update(epochs=12, warmup_epochs=2, learning_rate=1.0)
  schedule = optimizers.train_schedule(config, 10)
  # (1 + cos(pi 30 / 120)) / 2, (1 + cos(pi / 2)) / 2.
  np.testing.assert_allclose([schedule(i) for i in (0, 30, 60, 120)], [0.5, 0.853553, 0.5, 0], atol=1e-6)
  assert schedule(9) < 0.5 < schedule(10)


def test_linear_is_that_of_pdarts_on_imagenet(config):
  config.train.update(epochs=250, warmup_epochs=5, schedule="linear", learning_rate=0.5)
  schedule = optimizers.train_schedule(config, 10)
  rates = [float(schedule(10 * epoch + 9)) for epoch in (0, 1, 4, 5, 122, 244, 245, 249)]
  # The first of five epochs at a fifth of 0.5; 0.4 of 0.5 * 244 / 245; ...; 0.5 / 245; the tail falls from there.
  expected = [0.1, 0.2 * 244 / 245, 0.5 * 241 / 245, 0.5 * 240 / 245, 0.5 * 123 / 245]
  expected += [0.5 / 245, 0.5 / 245, 0.5 / 245 / 5]
  np.testing.assert_allclose(rates, expected, rtol=1e-6)
  config.train.update(epochs=2, warmup_epochs=1)
  schedule = optimizers.train_schedule(config, 10)
  np.testing.assert_allclose([schedule(0), schedule(10)], [0.5, 0.25])


def test_training_without_warm_up_starts_at_the_peak(config):
  optimizer = optimizers.train_weights(config, 10)
  params = {"w": jnp.array(1.0)}
  updates, _ = optimizer.update({"w": jnp.array(1.0)}, optimizer.init(params), params)
  np.testing.assert_allclose(updates["w"], -0.025 * (1 + 3e-4), rtol=1e-5)
