"""Variables of a cell's edges, stacked: what all edges of a stride have under one name is one array.

`cell.Cell` has a subtree per edge. Its networks keep the stacks: optimizer, clipping and checkpoints see a tenth of the
leaves, and the forms of the cell that compute several edges at once read them as they are. All forms share them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.operation_names import OPERATION_NAMES

Tree = Any
Connection = tuple[int, int, tuple[str, ...]]


def edge_name(source: int, target: int) -> str:
  """Name of an edge's subtree of variables."""
  return f"edge_{source}_{target}"


def edge_names(among: Sequence[Connection]) -> list[str]:
  """Names of the connections' subtrees of variables: of their edges; further ones of an edge are numbered from 1."""
  ends = [(source, target) for source, target, _ in among]
  earlier = (ends[:i].count(edge) for i, edge in enumerate(ends))
  return [edge_name(*edge) + (f"_{number}" if number else "") for edge, number in zip(ends, earlier, strict=True)]


def stack_name(stride: int) -> str:
  """Name of the subtree of the stacks of all edges of a stride."""
  return f"stride_{stride}"


def connections(spec: CellSpec, stride: int) -> list[Connection]:
  """The connections of a stride in the order of the stacks: by source, then target, then as the cell has them."""
  return sorted((c for c in spec.connections if spec.stride(c[0]) == stride), key=lambda c: c[:2])


def having(name: str, among: list[Connection]) -> list[int]:
  """Which of the connections have variables of this name: those with the operation, or all where it is none."""
  return [i for i, (_, _, left) in enumerate(among) if name in left or name not in OPERATION_NAMES]


def stack(spec: CellSpec, layer: Mapping[str, Tree]) -> dict[str, Tree]:
  """Stacks the subtrees of the edges of a layer: parameters, or batch statistics.

  Args:
    spec: the layer's cell; what it has no candidate for is left out.
    layer: its variables, as of `cell.Cell`.

  Returns:
    The variables with a subtree `stride_1`, `stride_2` or both in place of the edges': by operation, every leaf
    `[connections, ...]`.
  """
  stacked = {name: tree for name, tree in layer.items() if not name.startswith("edge_")}
  for stride in (1, 2):
    among = connections(spec, stride)
    own = [layer.get(name, {}) for name in edge_names(among)]
    group = {}
    # In a fixed order: the program's key in the compilation cache depends on it.
    for name in sorted({name for tree in own for name in tree}):
      trees = [own[i][name] for i in having(name, among) if name in own[i]]
      if trees:
        group[name] = jax.tree.map(_stack, *trees)
    if group:
      stacked[stack_name(stride)] = group
  return stacked


def unstack(spec: CellSpec, layer: Mapping[str, Tree]) -> dict[str, Tree]:
  """The subtrees of the edges of a layer, from their stacks; arguments and result as of `stack`, swapped."""
  result = {name: tree for name, tree in layer.items() if not name.startswith("stride_")}
  for stride in (1, 2):
    among = connections(spec, stride)
    names = edge_names(among)
    for name, tree in layer.get(stack_name(stride), {}).items():
      for row, i in enumerate(having(name, among)):
        own = result.setdefault(names[i], {})
        own[name] = jax.tree.map(lambda leaf, row=row: leaf[row], tree)
  return result


def restack(spec: CellSpec, fewer: CellSpec, layer: Mapping[str, Tree]) -> dict[str, Tree]:
  """The stacks of a cell that has fewer candidates, from those of `spec`."""
  return stack(fewer, unstack(spec, layer))


def of_network(
  of: Callable[[CellSpec, Mapping[str, Tree]], dict[str, Tree]],
  layout: Sequence[str],
  cells: Sequence[CellSpec],
  variables: Mapping[str, Tree],
) -> dict[str, Tree]:
  """Changes the variables of every layer of a network.

  Args:
    of: `stack`, `unstack`, or another function of a cell and its layer's variables.
    layout: names of the layers' cells.
    cells: the cells.
    variables: parameters or batch statistics of the network.
  """
  by_name = {cell.name: cell for cell in cells}
  layers = ((f"layer_{i}", by_name[name]) for i, name in enumerate(layout))
  return {**variables, **{layer: of(cell, variables[layer]) for layer, cell in layers if layer in variables}}


def _stack(*leaves: Any) -> Any:
  # A program for every shape would take longer to compile than a network's initial values to draw.
  on_host = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
  return np.stack([np.asarray(leaf) for leaf in leaves]) if on_host else jnp.stack(leaves)
