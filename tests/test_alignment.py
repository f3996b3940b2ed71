import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.search import alignment


def test_agreement_by_hand():
  x, y, back = jnp.array([3.0, 0.0]), jnp.array([0.0, 0.5]), jnp.array([-1.0, 0.0])
  np.testing.assert_allclose(alignment.agreement([x, y]), 0, atol=1e-6)
  np.testing.assert_allclose(alignment.agreement([x, 2 * x]), 1, rtol=1e-6)
  np.testing.assert_allclose(alignment.agreement([x, y, back]), -1 / 3, rtol=1e-6)  # Of three pairs one is opposite.


def test_layers_that_agree_are_not_pulled(x64):
  loss = lambda w, shifts: jnp.sum(w * (shifts["layer_0"] + shifts["layer_1"]) ** 2) + jnp.sum(w * shifts["layer_0"])
  loss_of_equals = lambda w, shifts: jnp.sum(w * (shifts["layer_0"] + shifts["layer_1"]))
  zeros = {"layer_0": jnp.zeros(2), "layer_1": jnp.zeros(2)}
  pulled = alignment.pull(loss_of_equals, jnp.array([1.0, 2.0]), zeros, [("layer_0", "layer_1")])
  np.testing.assert_allclose(pulled, 0, atol=1e-12)
  assert np.isfinite(alignment.pull(loss, jnp.array([1.0, 2.0]), zeros, [("layer_0", "layer_1")])).all()


def test_the_pull_is_the_gradient_of_the_agreement(x64):
  loss = lambda w, shifts: jnp.sum(jnp.sin(w) * shifts["layer_0"]) + jnp.sum(w**2 * shifts["layer_1"])
  zeros, w = {"layer_0": jnp.zeros(2), "layer_1": jnp.zeros(2)}, jnp.array([0.3, 0.8])
  expected = jax.grad(lambda w: alignment.agreement([jnp.sin(w), w**2]))(w)
  np.testing.assert_allclose(alignment.pull(loss, w, zeros, [("layer_0", "layer_1")]), expected, rtol=1e-9)
