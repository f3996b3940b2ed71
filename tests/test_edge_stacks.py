import dataclasses

import jax
import numpy as np

from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.search_space.cell_spec import CellSpec

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3")
REDUCTION = CellSpec.full("r0", "reduction", 2, OPERATIONS)


def layer():
  """Variables of a cell as `cell.Cell` has them: identities have none, strided ones do."""
  leaf = lambda source, target: {"kernel": np.array([10.0 * source + target])}
  edges = {(s, t): {"sep_conv_3x3": leaf(s, t)} for s, t in ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))}
  for source, target in edges:
    if source < 2:
      edges[source, target]["skip_connect"] = leaf(source, target)
  return {"preprocess0": leaf(0, 0), **{edge_stacks.edge_name(*edge): tree for edge, tree in edges.items()}}


def test_stacks_run_by_source_and_come_apart_again():
  stacked = edge_stacks.stack(REDUCTION, layer())
  assert set(stacked) == {"preprocess0", "stride_1", "stride_2"}
  for name in ("sep_conv_3x3", "skip_connect"):
    np.testing.assert_array_equal(stacked["stride_2"][name]["kernel"][:, 0], [2, 3, 12, 13])
  assert set(stacked["stride_1"]) == {"sep_conv_3x3"} and stacked["stride_1"]["sep_conv_3x3"]["kernel"] == 23
  jax.tree.map(np.testing.assert_array_equal, edge_stacks.unstack(REDUCTION, stacked), layer())


def test_parallel_operations_have_subtrees_of_their_own():
  twice = ("sep_conv_3x3", "skip_connect", "sep_conv_3x3")
  spec = CellSpec("r0", "reduction", (("sep_conv_3x3",), twice), (2,), parallel=True)
  leaf = lambda value: {"kernel": np.array([value])}
  layer = {
    "edge_0_2": {"sep_conv_3x3": leaf(1.0)},
    "edge_1_2": {"sep_conv_3x3": leaf(2.0)},
    "edge_1_2_1": {"skip_connect": leaf(3.0)},
    "edge_1_2_2": {"sep_conv_3x3": leaf(4.0)},
  }
  stacked = edge_stacks.stack(spec, layer)
  np.testing.assert_array_equal(stacked["stride_2"]["sep_conv_3x3"]["kernel"][:, 0], [1, 2, 4])
  np.testing.assert_array_equal(stacked["stride_2"]["skip_connect"]["kernel"][:, 0], [3])
  jax.tree.map(np.testing.assert_array_equal, edge_stacks.unstack(spec, stacked), layer)


def test_fewer_candidates_keep_their_rows():
  fewer = dataclasses.replace(REDUCTION, candidates=(("sep_conv_3x3",), (), ("skip_connect",), ("sep_conv_3x3",), ()))
  kept = edge_stacks.restack(REDUCTION, fewer, edge_stacks.stack(REDUCTION, layer()))
  assert set(kept) == {"preprocess0", "stride_2"}
  np.testing.assert_array_equal(kept["stride_2"]["sep_conv_3x3"]["kernel"][:, 0], [2, 13])
  np.testing.assert_array_equal(kept["stride_2"]["skip_connect"]["kernel"][:, 0], [3])
