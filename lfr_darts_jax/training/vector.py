"""A tree of arrays as one vector, so that an optimizer is a handful of kernels instead of some for every array."""

import math
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

Tree = Any


class Vector(struct.PyTreeNode):
  """A tree of arrays of one type, end to end; to optimizers it is a tree with a single leaf.

  Attributes:
    values: `[n]`.
    structure: of the tree.
    shapes: of its leaves.
  """

  values: jax.Array
  structure: Any = struct.field(pytree_node=False)
  shapes: tuple[tuple[int, ...], ...] = struct.field(pytree_node=False)

  def unpack(self) -> Tree:
    """The tree."""
    sizes = [math.prod(shape) for shape in self.shapes]
    # One split, whose derivative is one concatenation.
    parts = jax.lax.split(self.values, sizes)
    return self.structure.unflatten([part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)])


def pack(tree: Tree) -> Vector:
  """A tree as a vector."""
  leaves, structure = jax.tree.flatten(tree)
  return Vector(jnp.concatenate([leaf.reshape(-1) for leaf in leaves]), structure, tuple(leaf.shape for leaf in leaves))


def unpacked(tree: Tree) -> Tree:
  """A vector's tree; another tree as it is."""
  return tree.unpack() if isinstance(tree, Vector) else tree


def like(tree: Tree, other: Tree) -> Tree:
  """A tree as a vector where the other is one."""
  return pack(tree) if isinstance(other, Vector) else tree


def pack_state(state: Any) -> Any:
  """A `SearchState` or `TrainState` with weights, momentum and batch statistics as vectors."""
  return _each(state, pack)


def unpack_state(state: Any) -> Any:
  """What `pack_state` packed; a state with trees as it is."""
  return _each(state, unpacked)


def _each(state: Any, change: Any) -> Any:
  changed = {"params": change(state.params), "batch_stats": change(state.batch_stats)}
  changed["opt_state"] = optax.tree.set(state.opt_state, trace=change(optax.tree.get(state.opt_state, "trace")))
  if getattr(state, "average", None) is not None:
    changed["average"] = {name: change(tree) for name, tree in state.average.items()}
  return state.replace(**changed)
