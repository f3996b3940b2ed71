"""Pytree surgery: one network's parameters, statistics and optimizer states into another's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lfr_darts_jax.cell import edge_name
from lfr_darts_jax.genotype import Cell

Tree = Any
Path = tuple[str, ...]


def names(path: jax.tree_util.KeyPath) -> Path:
  """The names along a key path, whatever kind of container each is in."""
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def graft(new: Tree, old: Tree, source: Callable[[Path], Path | None] = lambda path: path) -> Tree:
  """Copies leaves of an old tree into a new one of another shape.

  Args:
    new: the tree whose structure the result has.
    old: the tree to copy from.
    source: path of a leaf of `new` to the path in `old` that it comes from, None to leave it as it is.

  Returns:
    `new` with every leaf replaced whose source path is in `old`. The replacements are copies, so that either tree may
    be donated.

  Raises:
    ValueError: where a leaf and its source differ in shape or type.
  """
  leaves = {names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(old)}

  def pick(path, leaf):
    origin = source(names(path))
    if origin is None or origin not in leaves:
      return leaf
    found = leaves[origin]
    if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
      raise ValueError(f"{'/'.join(names(path))}: {found.dtype}{found.shape} does not fit {leaf.dtype}{leaf.shape}")
    return jnp.array(found)

  return jax.tree_util.tree_map_with_path(pick, new)


def restrict(variables: dict[str, Tree], layout: tuple[str, ...], cells: tuple[Cell, ...]) -> dict[str, Tree]:
  """Drops the subtrees of operations that are no longer candidates.

  Args:
    variables: parameters or batch statistics of a network.
    layout: its layers' cells.
    cells: the cells after pruning.

  Returns:
    The variables of the network with these cells.
  """
  by_name = {cell.name: cell for cell in cells}
  kept = dict(variables)
  for i, name in enumerate(layout):
    alive = {edge_name(s, t): ops for s, t, ops in by_name[name].connections}
    layer = {}
    for part, subtree in variables.get(f"layer_{i}", {}).items():
      if part.startswith("edge_"):
        subtree = {op: leaves for op, leaves in subtree.items() if op in alive.get(part, ())}
      if subtree:
        layer[part] = subtree
    kept[f"layer_{i}"] = layer
  return kept
