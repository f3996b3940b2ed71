import functools

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.models.layers.spiking import leaky_integrate_and_fire, spike

fire = functools.partial(leaky_integrate_and_fire, steps=3)


def test_spikes_by_hand():
  np.testing.assert_array_equal(fire(jnp.array([1.5, 1.5, 1.5])), [0, 1, 0])  # Potentials 0.75, 1.125, 0.75.
  np.testing.assert_array_equal(fire(jnp.array([3.0, 0.5, 1.9])), [1, 0, 1])  # 1.5, 0.25, 1.075.


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
