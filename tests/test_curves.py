import numpy as np

from lfr_darts_jax.report import curves
from lfr_darts_jax.report.run_data import AlphaHistory, Scalars

OPERATIONS = ("none", "skip_connect", "max_pool_3x3")
# Two edges; after the second step the second edge has lost its first operation.
WEIGHTS = np.array([[[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]], [[0.1, 0.6, 0.3], [0.5, 0.3, 0.2]], [[0, 0.6, 0.4], [0, 1, 0]]])
COURSE = AlphaHistory(np.array([10, 20, 30]), WEIGHTS, ((20, 2),))


def test_alphas_have_a_panel_per_edge_and_end_where_they_are_pruned():
  figure = curves.alphas(COURSE, OPERATIONS, [(0, 2), (1, 2)])
  panels = [a for a in figure.axes if a.get_title()]
  assert [a.get_title() for a in panels] == ["c(k-2) \u2192 2", "c(k-1) \u2192 2"]
  lines = panels[1].lines[:3]
  np.testing.assert_array_equal(lines[0].get_ydata(), [0.4, 0.5, np.nan])
  np.testing.assert_array_equal(lines[1].get_ydata(), [0.3, 0.3, 1])
  assert list(panels[1].lines[3].get_xdata()) == [20, 20]  # The pruning.
  assert [t.get_text() for t in figure.legends[0].get_texts()] == list(OPERATIONS)


def test_certainty_by_hand():
  left, right = curves.certainty(COURSE, OPERATIONS).axes
  both = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
  # After the pruning the first edge has two operations left, the second one.
  np.testing.assert_allclose(left.lines[0].get_ydata()[2], both / np.log(2))
  leads = {line.get_label(): list(line.get_ydata()) for line in right.lines[:3]}
  assert leads == {"none": [1, 1, 0], "skip_connect": [1, 1, 2], "max_pool_3x3": [0, 0, 0]}


def test_strengths_are_losses_beside_the_best_of_a_layer():
  (axes,) = curves.strengths({"l0": (0.25, 0.5, 0.25), "l1": (0.0, 0.2, 0.8)}, ("identity", "small", "large")).axes
  heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
  np.testing.assert_allclose(heights, [[np.log(2), np.nan], [0, np.log(4)], [np.log(2), 0]])
  assert [label.get_text() for label in axes.get_xticklabels()] == ["l0", "l1"]


def test_phases_follow_each_other():
  one = Scalars(np.array([1, 2]), {"train_loss": np.array([3.0, 2.0]), "validation_loss": np.full(2, np.nan)})
  (axes,) = curves.progress([one, one], ("train_loss", "validation_loss"), "loss").axes
  np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, np.nan, 3, 4, np.nan])
  np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3, 2, np.nan, 3, 2, np.nan])
  assert list(axes.lines[1].get_xdata()) == [2, 2]  # The border; nothing was validated.
