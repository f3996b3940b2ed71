import dataclasses

import numpy as np
import pytest

from lfr_darts_jax.search import diagnostics, pruning
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")


def derived(nodes, skips, kind="normal"):
  """A cell derived from alphas by hand: an edge's first operation is `skip_connect` on so many of those it keeps."""
  cell = CellSpec.full("n0", kind, nodes, OPERATIONS)
  # Inputs 0 and 1 of every node are its strongest, so that these edges are kept; `none` is stronger, and never chosen.
  kept = [e for e, (source, _) in enumerate(edges(nodes)) if source < 2]
  strength = np.tile([0.5, 0.1, 0.2, 0.1], (len(cell.candidates), 1))
  strength[kept] = [0.35, 0.1, 0.3, 0.25]
  strength[kept[:skips]] = [0.35, 0.3, 0.1, 0.25]
  return pruning.derive(cell, strength, OPERATIONS)


@pytest.mark.parametrize(
  "nodes,skips,found",
  [(4, 2, False), (4, 3, True), (3, 1, False), (3, 2, True), (2, 1, False), (2, 2, True), (1, 1, False), (1, 2, True)],
)
def test_more_than_a_quarter_and_at_least_two_skip_connects(config, nodes, skips, found):
  findings = diagnostics.diagnose(1, derived(nodes, skips), 0.5, config.search, ended=False)
  assert [(f.iteration, f.cell, f.criterion, f.figure, f.threshold) for f in findings] == (
    [(1, "n0", "skip_connects", skips / (2 * nodes), 0.25)] if found else []
  )


def test_the_published_cell_of_darts_is_no_collapse_but_reaches_the_rule_of_darts_plus(config):
  normal = formats.DARTS_V2.cells[0]
  assert normal.count("skip_connect") == 2
  assert diagnostics.diagnose(0, normal, 0.5, config.search, ended=True) == []
  for share in (0.13, 0.24):
    config.search.collapse_skip_share = share
    (finding,) = diagnostics.diagnose(0, normal, 0.5, config.search, ended=True)
    assert finding.figure == 0.25 and finding.threshold == share
    assert diagnostics.diagnose(0, derived(4, 1), 0.5, config.search, ended=True) == []


def test_a_reduction_cell_may_have_any_number(config):
  assert diagnostics.diagnose(0, derived(4, 8, "reduction"), 0.5, config.search, ended=True) == []


@pytest.mark.parametrize("least,found", [(0.9899, []), (0.99, ["uniform_alphas"]), (1.0, ["uniform_alphas"])])
def test_alphas_that_never_left_uniform(config, least, found):
  findings = diagnostics.diagnose(0, derived(4, 0), least, config.search, ended=True)
  assert [f.criterion for f in findings] == found
  assert all(f.figure == least and f.threshold == 0.99 for f in findings)
  # Before the iteration ends they may still leave it.
  assert diagnostics.diagnose(0, derived(4, 0), least, config.search, ended=False) == []


def test_while_alphas_are_uniform_skip_connects_are_chance_until_they_are_kept(config):
  criteria = lambda least, ended: [
    f.criterion for f in diagnostics.diagnose(0, derived(4, 8), least, config.search, ended)
  ]
  assert criteria(0.995, False) == []
  assert criteria(0.9, False) == ["skip_connects"]
  assert criteria(0.995, True) == ["skip_connects", "uniform_alphas"]


def test_a_sentence_names_cell_figure_and_threshold(config):
  skips, uniform = diagnostics.diagnose(0, derived(4, 3), 0.99625, config.search, ended=True)
  assert skips.text == "n0: 3 of 8 connections are skip_connects, a sign of collapse above 25 %"
  assert uniform.text == (
    "n0: the alphas stayed uniform, at 0.9962 of the largest entropy, a sign of collapse from 0.99 on"
  )
  assert "DARTS+" in skips.source and "P-DARTS" in skips.source and uniform.source == "our choice"


def test_entropy_by_hand_over_the_operations_left():
  edges = [OPERATIONS, OPERATIONS, OPERATIONS[1:3], OPERATIONS[1:2], ()]
  cell = CellSpec("n0", "normal", tuple(edges), (2, 3))
  # 1.75 of 2 bits, 2 of 2, 1 of 1; the edge with one operation and the one with none have nothing to choose.
  weights = np.array([[0.5, 0.25, 0.125, 0.125], [0.25] * 4, [0, 0.5, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32)
  np.testing.assert_allclose(diagnostics.entropy_share(cell, weights, OPERATIONS), (0.875 + 1 + 1) / 3, rtol=1e-6)
  alone = dataclasses.replace(cell, candidates=(("skip_connect",),) * 5)
  assert diagnostics.entropy_share(alone, weights, OPERATIONS) == 0


def test_the_last_diagnosis_of_every_stage_counts(config):
  first, second = (diagnostics.diagnose(i, derived(2, 3), 0.5, config.search, ended=True) for i in (0, 1))
  lines = [
    {"iteration": 0, "collapse": list(map(dataclasses.asdict, first))},
    {"iteration": 0, "collapse": []},
    {"iteration": 1, "collapse": []},
    {"iteration": 1, "collapse": list(map(dataclasses.asdict, second))},
    {"iteration": 1, "pruned_to": 3},
  ]
  assert diagnostics.latest(lines) == second and second
  assert diagnostics.latest(lines[:1]) == first


def test_stops_only_when_told_to(config):
  findings = diagnostics.diagnose(0, derived(2, 3), 0.995, config.search, ended=True)
  diagnostics.stop_if_collapsed(config.search, findings)
  config.search.stop_on_collapse = True
  diagnostics.stop_if_collapsed(config.search, [])
  with pytest.raises(diagnostics.Collapsed) as error:
    diagnostics.stop_if_collapsed(config.search, findings)
  assert str(error.value) == (
    "the search has collapsed: n0: 3 of 4 connections are skip_connects, a sign of collapse above 25 % (and 1 more); "
    "its state is saved: --mode=report shows it, --config.search.stop_on_collapse=False goes on"
  )
