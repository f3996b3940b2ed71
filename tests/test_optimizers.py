import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax import optimizers


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
  config.search.update(alpha_learning_rate=0.1, alpha_weight_decay=0.5)
  live = {"n0": jnp.array([[True, False, True]])}
  optimizer = optimizers.search_alphas(config, live)
  alphas = {"n0": jnp.array([[2.0, 3.0, 2.0]])}
  # L2 turns the third's gradient -0.4 into +0.6: Adam's first step is the sign times the rate; AdamW would move it up.
  updates, state = optimizer.update({"n0": jnp.array([[1.0, 1.0, -0.4]])}, optimizer.init(alphas), alphas)
  np.testing.assert_allclose(updates["n0"], [[-0.1, 0, -0.1]], rtol=1e-5)
  np.testing.assert_allclose(optax.tree.get(state, "mu")["n0"], [[1.0, 0, 0.3]], rtol=1e-6)


@pytest.mark.parametrize("schedule,middle", [("cosine", 0.5), ("linear", 0.5)])
def test_training_rate_warms_up_and_decays_to_zero(config, schedule, middle):
  config.train.update(epochs=12, warmup_epochs=2, schedule=schedule, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
  optimizer = optimizers.train_weights(config, 10)
  params, rates = {"w": jnp.array(1.0)}, []
  state = optimizer.init(params)
  for _ in range(121):
    updates, state = optimizer.update({"w": jnp.array(1.0)}, state, params)
    rates.append(-float(updates["w"]))
  np.testing.assert_allclose([rates[i] for i in (0, 10, 20, 70, 120)], [0, 0.5, 1, middle, 0], atol=1e-6)


def test_training_without_warm_up_starts_at_the_peak(config):
  optimizer = optimizers.train_weights(config, 10)
  params = {"w": jnp.array(1.0)}
  updates, _ = optimizer.update({"w": jnp.array(1.0)}, optimizer.init(params), params)
  np.testing.assert_allclose(updates["w"], -0.025 * (1 + 3e-4), rtol=1e-5)
