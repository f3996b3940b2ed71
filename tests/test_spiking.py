import functools

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.models import network
from lfr_darts_jax.models.layers.spiking import leaky_integrate_and_fire, spike
from lfr_darts_jax.training import spikes
from tests import predictors

fire = functools.partial(leaky_integrate_and_fire, steps=3)


def test_spikes_by_hand():
  np.testing.assert_array_equal(fire(jnp.array([1.5, 1.5, 1.5])), [0, 1, 0])  # Potentials 0.75, 1.125, 0.75.
  np.testing.assert_array_equal(fire(jnp.array([3.0, 0.5, 1.9])), [1, 0, 1])  # 1.5, 0.25, 1.075.


def test_the_rate_of_a_network_is_the_mean_over_its_neurons(monkeypatch):
  seen, made = [], network.leaky_integrate_and_fire
  monkeypatch.setattr(network, "leaky_integrate_and_fire", lambda x, steps: seen.append(made(x, steps)) or seen[-1])
  trained = predictors.of_cells(("sep_conv_3x3", "skip_connect"), activation="lif", time_steps=2)
  seen.clear()
  images = predictors.images(6)
  with jax.disable_jit():
    trained.network.apply(trained.variables, augment.normalize(images, *trained.statistics))
  fired, neurons = sum(float(s.sum()) for s in seen), sum(s.size for s in seen)
  assert 0 < fired < neurons
  np.testing.assert_allclose(spikes.rate(trained, images), fired / neurons, rtol=1e-6)


def test_images_do_not_see_each_other():
  both = jnp.array([1.5, 3.0, 1.5, 0.5, 1.5, 1.9])  # Step by step, two images in each.
  np.testing.assert_array_equal(fire(both), [0, 1, 1, 0, 0, 1])


def test_the_gradient_is_that_of_an_arc_tangent():
  np.testing.assert_allclose(jax.grad(spike)(jnp.array(1.0)), 1)
  np.testing.assert_allclose(jax.grad(spike)(jnp.array(1.5)), 1 / (1 + (np.pi / 2) ** 2), rtol=1e-6)
  slope = lambda v: 1 / (1 + (np.pi * (v - 1)) ** 2)
  # By the first current: through 0.75 at once, through 1.125 after a leak of a half; behind the spike nothing is left.
  expected = slope(0.75) / 2 + slope(1.125) / 4
  np.testing.assert_allclose(jax.grad(lambda x: fire(x).sum())(jnp.array([1.5, 1.5, 1.5]))[0], expected, rtol=1e-6)
  assert np.isfinite(jax.jvp(jax.grad(lambda x: jnp.sum(fire(x) ** 2)), (jnp.ones(3),), (jnp.ones(3),))[1]).all()
