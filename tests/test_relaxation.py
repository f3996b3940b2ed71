import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.search import relaxation
from lfr_darts_jax.search.relaxation import Moment, entropy, shares, softmax
from lfr_darts_jax.search.state import Alphas


def mixture_of(alphas, mask):
  return softmax(Alphas(alphas), Alphas(mask), Moment())


def test_pruned_entries_take_no_mass():
  alphas = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 9.0]])
  mask = jnp.array([[True, False, True], [True, True, False]])
  expected = [[1 / (1 + np.e**2), 0, np.e**2 / (1 + np.e**2)], [0.5, 0.5, 0]]
  np.testing.assert_allclose(mixture_of(alphas, mask), expected, rtol=1e-6)


def test_an_edge_with_none_left_contributes_nothing_and_has_a_finite_gradient():
  mask = jnp.zeros((1, 3), bool)
  weights = lambda a: jnp.sum(mixture_of(a, mask))
  assert weights(jnp.ones((1, 3))) == 0
  np.testing.assert_array_equal(jax.grad(weights)(jnp.ones((1, 3))), 0)


def test_pruned_alphas_have_no_gradient_and_large_ones_do_not_overflow():
  mask = jnp.array([[True, True, False]])
  gradient = jax.grad(lambda a: mixture_of(a, mask)[0, 0])(jnp.array([[500.0, 500.0, 1e9]]))
  np.testing.assert_allclose(gradient, [[0.25, -0.25, 0]])


def test_entropy_in_nats():
  np.testing.assert_allclose(entropy(jnp.array([[0.5, 0.5, 0], [1, 0, 0]])), [np.log(2), 0], atol=1e-7)


def test_shares_of_any_gate_sum_to_one():
  np.testing.assert_allclose(shares(jnp.array([[0.5, 1.5], [0.0, 0.0]])), [[0.25, 0.75], [0, 0]])


def make(config, **changes):
  config.search.update(changes)
  return relaxation.make(config.search)


def all_of(alphas):
  return Alphas(jnp.ones(alphas.shape, bool))


def test_sigmoid_by_hand(config):
  relax = make(config, gate="sigmoid")
  mask = Alphas(jnp.array([[True, True, False]]))
  mixture = relax(Alphas(jnp.array([[0.0, np.log(3.0), 5.0]])), mask, Moment())
  np.testing.assert_allclose(mixture, [[0.5, 0.75, 0]], rtol=1e-6)


def test_gumbel_samples_by_softmax_and_has_the_gradient_of_the_soft_sample(x64, config):
  relax, alphas = make(config, gate="gumbel", temperatures=(10.0, 0.5)), jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
  sample = lambda key, progress=0.5: relax(Alphas(alphas), all_of(alphas), Moment(progress, True, key))
  keys = jax.random.split(jax.random.PRNGKey(0), 20_000)
  drawn = jax.vmap(sample)(keys)[:, 0]
  assert set(np.unique(drawn)) == {0.0, 1.0} and (drawn.sum(axis=1) == 1).all()
  np.testing.assert_allclose(drawn.mean(axis=0), [1 / 8, 2 / 8, 5 / 8], atol=0.01)

  key, costs = keys[0], jnp.array([3.0, 5.0, 7.0])
  soft = jax.nn.softmax((alphas + jax.random.gumbel(key, alphas.shape)) / 5.25)[0]  # Halfway from 10 to 0.5.
  chosen = int(jnp.argmax(sample(key)[0]))
  loss = lambda a: jnp.sum(costs * relax(Alphas(a), all_of(a), Moment(0.5, True, key)))
  expected = costs[chosen] * soft[chosen] * ((jnp.arange(3) == chosen) - soft) / 5.25
  np.testing.assert_allclose(jax.grad(loss)(alphas)[0], expected, rtol=1e-9)
  np.testing.assert_allclose(relax(Alphas(alphas), all_of(alphas), Moment()), [[1 / 8, 2 / 8, 5 / 8]])


def test_gumbel_never_samples_what_is_pruned(config):
  mask = Alphas(jnp.array([[True, False, True], [False, False, False]]))
  relax = make(config, gate="gumbel")
  draw = lambda key: relax(Alphas(jnp.zeros((2, 3))), mask, Moment(1.0, True, key))
  drawn = jax.vmap(draw)(jax.random.split(jax.random.PRNGKey(1), 200))
  assert not drawn[:, 0, 1].any() and not drawn[:, 1].any() and (drawn[:, 0].sum(axis=1) == 1).all()


def test_edges_into_a_node_share_its_weight(config):
  # Of two nodes: edges 0 and 1 into the first, 2 to 4 into the second, of which the last has no candidates.
  left = jnp.array([True, True, True, True, False])
  q = relaxation.edge_shares(jnp.array([0.0, np.log(3.0), 0.0, 0.0, 9.0]), left)
  np.testing.assert_allclose(q, [1 / 4, 3 / 4, 1 / 2, 1 / 2, 0], rtol=1e-6)
  assert np.isfinite(jax.grad(lambda b: relaxation.edge_shares(b, left)[0])(jnp.zeros(5))).all()
  alphas = Alphas(jnp.zeros((2, 2)), jnp.array([0.0, np.log(3.0)]))
  mixture = make(config, edge_weights=True)(alphas, Alphas(jnp.ones((2, 2), bool), jnp.ones(2, bool)), Moment())
  np.testing.assert_allclose(mixture, [[1 / 8, 1 / 8], [3 / 8, 3 / 8]], rtol=1e-6)


@pytest.mark.parametrize(("progress", "reach"), [(0.0, 0.03), (1.0, 0.3)])
def test_alphas_are_shaken_while_weights_train_alone(config, progress, reach):
  calm = make(config)
  shaken, alphas = make(config, perturbation=0.3), Alphas(jnp.zeros((200, 3)))
  mixture = lambda relax, training: relax(alphas, all_of(alphas.operations), Moment(progress, training, key))
  key = jax.random.PRNGKey(0)
  np.testing.assert_array_equal(mixture(shaken, False), mixture(calm, False))
  np.testing.assert_array_equal(
    shaken(alphas, all_of(alphas.operations), Moment()), calm(alphas, all_of(alphas.operations), Moment())
  )
  noise = np.log(mixture(shaken, True))
  spread = np.ptp(noise, axis=1)  # Of three draws from -reach to reach.
  assert 1.7 * reach < spread.max() <= 2 * reach * 1.0001
