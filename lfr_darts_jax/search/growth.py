"""What a supernet keeps when it is pruned or deepened: one network's variables in another's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.search_space.cell_spec import LAYER, CellSpec

Tree = Any
Path = tuple[str, ...]


def names(path: jax.tree_util.KeyPath) -> Path:
  """The names along a key path, whatever kind of container each is in."""
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def copy_matching(new: Tree, old: Tree, source: Callable[[Path], Path | None] = lambda path: path) -> Tree:
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

  def pick(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
    origin = source(names(path))
    if origin is None or origin not in leaves:
      return leaf
    found = leaves[origin]
    if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
      raise ValueError(f"{'/'.join(names(path))}: {found.dtype}{found.shape} does not fit {leaf.dtype}{leaf.shape}")
    return jnp.array(found)

  return jax.tree_util.tree_map_with_path(pick, new)


def drop_pruned(
  variables: dict[str, Tree], layout: tuple[str, ...], before: tuple[CellSpec, ...], after: tuple[CellSpec, ...]
) -> dict[str, Tree]:
  """Drops the variables of operations that are no longer candidates, on the host.

  Args:
    variables: parameters or batch statistics of a network, or what has their structure.
    layout: its layers' cells.
    before: its cells.
    after: the cells after pruning.

  Returns:
    The variables of the network with these cells.
  """
  fewer = {cell.name: cell for cell in after}

  def restack(cell: CellSpec, layer: Mapping[str, Tree]) -> dict[str, Tree]:
    if cell == fewer[cell.name]:
      return dict(layer)
    if cell.kind == LAYER:
      return {name: tree for name, tree in layer.items() if name in fewer[cell.name].candidates[0]}
    return edge_stacks.restack(cell, fewer[cell.name], jax.tree.map(np.asarray, layer))

  return edge_stacks.of_network(restack, layout, before, variables)


def narrow(state: Any, layout: tuple[str, ...], before: tuple[CellSpec, ...], after: tuple[CellSpec, ...]) -> Any:
  """A `SearchState` without what `drop_pruned` drops: weights, statistics, momentum; the schedules' counts go on."""
  drop = lambda tree: drop_pruned(tree, layout, before, after)
  opt_state = optax.tree.set(state.opt_state, trace=drop(optax.tree.get(state.opt_state, "trace")))
  return state.replace(params=drop(state.params), batch_stats=drop(state.batch_stats), opt_state=opt_state)


def origins(old: tuple[str, ...], new: tuple[str, ...]) -> dict[int, tuple[int, bool]]:
  """Where the layers of a deeper network come from.

  Args:
    old: the layout before.
    new: the deeper layout.

  Returns:
    For every layer of `new` whose cell `old` has: the layer of `old` that it starts from, and whether it is that layer
    itself. The others are further copies, which start from the nearest one.
  """
  found = {}
  for i, name in enumerate(new):
    copies = [j for j, other in enumerate(old) if other == name]
    rank = new[:i].count(name)
    if copies:
      found[i] = (copies[min(rank, len(copies) - 1)], rank < len(copies))
  return found


def inherit(fresh: Tree, before: Tree, old: tuple[str, ...], new: tuple[str, ...], copies: bool = True) -> Tree:
  """Fills a deeper network's variables from the network before: stem and layers that both have.

  A preprocessing whose input differs stays fresh as a whole. The searched cell and the heads stay fresh. Of an equal
  layout everything goes on.

  Args:
    fresh: initial parameters or batch statistics of the deeper network.
    before: those of the network before, with the cells that it derived.
    old: its layout.
    new: the deeper layout.
    copies: whether further copies of a layer are filled too.
  """
  if old == new:
    return copy_matching(fresh, before)
  layers = {f"layer_{i}": f"layer_{j}" for i, (j, same) in origins(old, new).items() if same or copies}
  result = dict(fresh)
  for name in fresh:
    if name in ("stem", "stem_norm"):
      result[name] = copy_matching(fresh[name], before[name])
    elif name in layers:
      source = before[layers[name]]
      result[name] = {
        part: copy_matching(subtree, source[part]) if _alike(subtree, source.get(part)) else subtree
        for part, subtree in fresh[name].items()
      }
  return result


def inherit_momentum(fresh: Tree, before: Tree, old: tuple[str, ...], new: tuple[str, ...]) -> Tree:
  """Fills a deeper network's optimizer state: the momentum of layers that stay; copies and fresh layers start at zero.

  The schedules' counts start afresh too: schedules restart at each stage.
  """
  trace = inherit(optax.tree.get(fresh, "trace"), optax.tree.get(before, "trace"), old, new, copies=False)
  return optax.tree.set(fresh, trace=trace)


def _alike(a: Tree, b: Tree) -> bool:
  shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
  return b is not None and shapes(a) == shapes(b)
