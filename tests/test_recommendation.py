import jax.numpy as jnp
import numpy as np

from experiments import recommendation


def test_the_adjacency_and_a_light_layer_by_hand():
  matrix = recommendation.adjacency(np.array([0, 0, 1]), np.array([0, 1, 1]), (2, 2))
  np.testing.assert_allclose(matrix, [[1 / np.sqrt(2), 1 / 2], [0, 1 / np.sqrt(2)]])
  params = {"users": jnp.eye(2), "items": jnp.eye(2), "layers": [{}]}
  light = jnp.array([[1.0, 0, 0, 0]])
  matrices = {f"w{i}": jnp.eye(2) for i in range(3)}
  users, items = recommendation.embed(params | {"layers": [matrices]}, light, jnp.asarray(matrix))
  np.testing.assert_allclose(users, (np.eye(2) + matrix) / 2)
  np.testing.assert_allclose(items, (np.eye(2) + matrix.T) / 2)


def test_equal_scores_lose_log_2():
  params = {"users": jnp.zeros((2, 3)), "items": jnp.zeros((2, 3)), "layers": []}
  loss = recommendation.ranking_loss(params, jnp.zeros((0, 4)), jnp.zeros((2, 2)), jnp.array([[0, 1], [0, 1], [1, 0]]))
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


def test_the_loss_of_an_item_that_scores_above_another():
  params = {"users": jnp.ones((1, 1)), "items": jnp.array([[2.0], [0.0]]), "layers": []}
  loss = recommendation.ranking_loss(params, jnp.zeros((0, 4)), jnp.zeros((1, 2)), jnp.array([[0], [0], [1]]))
  # By two; and the squares of what is embedded.
  np.testing.assert_allclose(loss, np.log(1 + np.exp(-2)) + 1e-4 * (1 + 4) / 2, rtol=1e-6)


def test_recall_and_gain_by_hand():
  # User 0 saw item 0; the only one wanted is second of the others. User 1 wants nothing.
  scores = np.array([[9.0, 2.0, 3.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
  none = np.array([], int)
  recall, gain = recommendation.measure(scores, [np.array([0]), none], [np.array([1]), none])
  assert recall == 1 and abs(gain - 1 / np.log2(3)) < 1e-9


def test_operations_by_hand():
  params = {f"w{i}": (i + 1) * jnp.eye(2) for i in range(3)}
  nearby, own = jnp.array([[1.0, -2.0]]), jnp.array([[3.0, 1.0]])
  of = lambda name: recommendation.OPERATIONS[name](params, nearby, own)
  np.testing.assert_allclose(of("light"), nearby)
  np.testing.assert_allclose(of("gcn"), [[1, 0]])
  np.testing.assert_allclose(of("ngcf"), [[2 * 4 + 3 * 3, 0.2 * (2 * -1 + 3 * -2)]])
  np.testing.assert_allclose(of("skip"), own)
