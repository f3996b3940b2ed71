import numpy as np
import pytest

from lfr_darts_jax.search import pruning
from lfr_darts_jax.search_space.cell_spec import CellSpec

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")


def cell(nodes=2, operations=OPERATIONS):
  return CellSpec.full("n0", "normal", nodes, operations)


def test_keeps_the_strongest_of_every_edge_in_column_order():
  strength = np.tile([0.1, 0.4, 0.2, 0.3], (5, 1))
  strength[1] = [0.4, 0.1, 0.2, 0.3]
  pruned = pruning.prune_operations(cell(), strength, OPERATIONS, 2)
  assert pruned.candidates[0] == ("skip_connect", "max_pool_3x3")
  assert pruned.candidates[1] == ("none", "max_pool_3x3")


def test_a_dead_candidate_does_not_come_back():
  strength = np.tile([0.1, 0.4, 0.2, 0.3], (5, 1))
  once = pruning.prune_operations(cell(), strength, OPERATIONS, 2)
  twice = pruning.prune_operations(once, strength[:, ::-1], OPERATIONS, 3)
  assert twice == once


def test_derives_two_edges_per_node_by_their_strongest_operation_other_than_none():
  strength = np.array(
    [
      [0.70, 0.10, 0.15, 0.05],  # 0 -> 2
      [0.10, 0.40, 0.30, 0.20],  # 1 -> 2
      [0.05, 0.30, 0.35, 0.30],  # 0 -> 3
      [0.90, 0.04, 0.03, 0.03],  # 1 -> 3: strong in none alone
      [0.10, 0.20, 0.20, 0.50],
    ]
  )  # 2 -> 3
  derived = pruning.derive(cell(), strength, OPERATIONS)
  assert derived.candidates == (("sep_conv_3x3",), ("skip_connect",), ("sep_conv_3x3",), (), ("max_pool_3x3",))
  assert derived.derived


def test_ties_go_to_the_earlier_edge_and_column():
  derived = pruning.derive(cell(), np.ones((5, 4)), OPERATIONS)
  assert derived.candidates == (("skip_connect",), ("skip_connect",), ("skip_connect",), ("skip_connect",), ())


def test_the_cap_strikes_the_weakest_skip_connects():
  strength = np.tile([0.0, 0.5, 0.3, 0.2], (5, 1)) + 0.01 * np.arange(5)[:, None] * np.array([0, 1, 0, 0])
  for cap, expected in ((0, 0), (1, 1), (2, 2), (None, 4)):
    derived = pruning.derive(cell(), strength, OPERATIONS, cap)
    assert derived.count("skip_connect") == expected
    assert sum(map(len, derived.candidates)) == 4
  # Edge 0 is the weakest: with three allowed it is the one that changes.
  assert pruning.derive(cell(), strength, OPERATIONS, 3).candidates[0] == ("sep_conv_3x3",)


def test_the_cap_yields_where_nothing_else_is_left():
  only = cell(operations=("skip_connect",))
  assert pruning.derive(only, np.ones((5, 1)), ("skip_connect",), 0).count("skip_connect") == 4


@pytest.mark.parametrize("rule", ["softmax", "random"])
def test_strengths(rule):
  weights = np.random.default_rng(0).random((5, 4))
  draw = lambda seed: pruning.RULES[rule].strengths(weights, np.random.default_rng(seed))
  np.testing.assert_array_equal(draw(1), draw(1))
  assert np.array_equal(draw(1), weights) == (rule == "softmax")
  assert np.array_equal(draw(1), draw(2)) == (rule == "softmax")


def test_ties_go_to_the_earlier_operation():
  assert list(pruning.strongest(np.array([0.2, 0.4, 0.4, 0.4]), 2)) == [1, 2]


def test_the_gap_is_cut_where_alphas_differ_most():
  softmax = lambda alphas: np.exp(alphas) / np.exp(alphas).sum()
  keep = lambda alphas, count: list(pruning.RULES["gap"].keep(softmax(np.array(alphas)), count))
  assert keep([1.1, 1.0, 0.15, 0.1, 0.0], 3) == [0, 1]
  assert keep([0.0, 1.0, 0.95, 0.9, 0.1], 3) == [1, 2, 3]
  assert keep([9.0, 1.0, 0.9, 0.1, 0.0], 3) == [0, 1, 2]  # Two at least.
  assert keep([1.1, 1.0, 0.15], 3) == [0, 1, 2]


def test_a_weak_second_edge_is_left_out_below_a_threshold():
  cell = CellSpec.full("n0", "normal", 1, ("none", "skip_connect"))
  strength = np.array([[0.2, 0.8], [0.7, 0.3]])
  edges = lambda **options: [s for s, _, _ in pruning.derive(cell, strength, cell.candidates[0], **options).connections]
  assert edges() == edges(threshold=0.3) == [0, 1]
  assert edges(threshold=0.4) == edges(threshold=0.9) == edges(inputs=1) == [0]  # The strongest stays.


def test_a_window_leaves_far_edges_without_candidates():
  cell = CellSpec.full("n0", "normal", 4, ("none", "skip_connect"), window=2)
  assert [(s, t) for s, t, _ in cell.connections] == [(t - i, t) for t in range(2, 6) for i in (2, 1)]
