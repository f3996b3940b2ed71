"""The cell as CPUs need it: the mixed op is compiled once, and a loop runs over the edges.

It computes what `cell.Cell` does. Written out edge by edge, a supernet takes XLA's CPU backend minutes to compile; in a
loop whose insides the backward pass computes anew it takes seconds, and a fraction of the memory.
"""

from collections.abc import Sequence
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.models.cell import NO_RATES, Call, Cell, MixedOp
from lfr_darts_jax.models.edge_stacks import Connection, having, stack_name
from lfr_darts_jax.models.operations import Operation
from lfr_darts_jax.search_space.cell_spec import NORMAL

Tree = Any


class MaskedMixedOp(MixedOp):
  """A mixed op that skips candidates at run time, each a branch of its own.

  Attributes:
    mask: `[len(candidates)]` bool: which to compute; None for all.
  """

  mask: jax.Array | None = None

  def evaluate(self, operation: Operation, index: int, x: jax.Array, train: bool) -> jax.Array:
    """Applies one candidate, or gives zeros."""
    if self.mask is None:
      return operation(x, train)
    height, width = (-(-n // self.stride) for n in x.shape[1:3])
    zeros = jnp.zeros((x.shape[0], height, width, self.channels), x.dtype)
    return nn.cond(self.mask[index], lambda op, x: op(x, train), lambda op, x: zeros, operation, x)


class ScanCell(Cell):
  """A cell that loops over its edges.

  Attributes:
    skip_unweighted: whether candidates without weight are skipped at run time, so that candidates can be pruned without
      another program; otherwise those that `spec` lacks.
  """

  skip_unweighted: bool = False

  def nodes(self, states: list[jax.Array], call: Call) -> Sequence[jax.Array] | jax.Array:
    """See `Cell`; one compiled body for all edges of a stride."""
    inputs = jnp.stack(states)
    if self.spec.kind == NORMAL:
      nodes = jnp.concatenate([inputs, jnp.zeros((self.spec.nodes, *inputs.shape[1:]), inputs.dtype)])
      return self._scan(nodes, None, 1, call)
    count, batch, height, width, features = inputs.shape
    nodes = jnp.zeros((count + self.spec.nodes, batch, -(-height // 2), -(-width // 2), features), inputs.dtype)
    nodes = self._scan(nodes, inputs, 2, call)
    return self._scan(nodes, None, 1, call)

  def _scan(self, nodes: jax.Array, inputs: jax.Array | None, stride: int, call: Call) -> jax.Array:
    """Adds the output of every connection of a stride to its target; reads the sources from `inputs`, or the nodes."""
    connections = edge_stacks.connections(self.spec, stride)
    if not connections:
      return nodes
    union = tuple(name for name in self.operations if any(name in names for _, _, names in connections))
    op = self.mixed_op(connections[0][0], union, call)
    stacks = {c: self.variables.get(c, {}).get(stack_name(stride), {}) for c in ("params", "batch_stats")}
    variables = {
      c: {n: _widen(tree, having(n, connections), len(connections)) for n, tree in of.items()}
      for c, of in stacks.items()
    }
    rows = jnp.array([self.row(s, t) for s, t, _ in connections])
    mixture = None if call.mixture is None else call.mixture[rows]
    weights, mask = self._weights_and_mask(connections, union, mixture)
    shares = None if mixture is None else jnp.sum(mixture, axis=-1)
    keys = None if call.skip_keys is None else call.skip_keys[rows]
    # Without checkpointing the backward pass would keep every intermediate of every edge.
    mix = jax.checkpoint(functools.partial(_mix, op.clone(parent=None, name=None), call.train))

    def add_edge(nodes: jax.Array, edge: Any) -> tuple[jax.Array, Tree]:
      source, target, share, *arguments = edge
      x = (nodes if inputs is None else inputs)[source]
      part = self.part(source, x, stride, call)
      y, statistics = mix(x if part is None else part.chosen, *arguments, call.rates.skip)
      y = self.joined(y, x, share, part, stride, call)
      return nodes.at[target].add(y), statistics

    sources, targets = (jnp.array([c[i] for c in connections]) for i in (0, 1))
    nodes, statistics = jax.lax.scan(add_edge, nodes, (sources, targets, shares, variables, weights, mask, keys))
    if call.train and self.is_mutable_collection("batch_stats") and statistics:
      own = {n: _narrow(tree, having(n, connections), len(connections)) for n, tree in statistics.items()}
      self.put_variable("batch_stats", stack_name(stride), own)
    return nodes

  def _weights_and_mask(
    self, connections: list[Connection], union: tuple[str, ...], mixture: jax.Array | None
  ) -> tuple[jax.Array | None, jax.Array | None]:
    """`[connections, len(union)]` each; None for weights of one, and where no candidate is to be skipped."""
    weights = None if mixture is None else mixture[:, self.columns(union)]
    if weights is not None and self.skip_unweighted:
      return weights, weights > 0
    if all(set(names) == set(union) for _, _, names in connections):
      return weights, None
    return weights, jnp.array([[name in names for name in union] for _, _, names in connections])


# Layers of equal shapes and candidates share one trace.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _mix(
  op: MixedOp,
  train: bool,
  x: jax.Array,
  variables: Tree,
  weights: jax.Array | None,
  mask: jax.Array | None,
  key: jax.Array | None,
  skip_rate: jax.Array | None,
) -> tuple[jax.Array, Tree]:
  op = MaskedMixedOp(op.candidates, op.channels, op.stride, op.settings, mask)
  mixture = (1.0,) * len(op.candidates) if weights is None else weights
  rates = NO_RATES._replace(skip=skip_rate)
  y, updated = op.apply(variables, x, mixture, train, rates, key, mutable=["batch_stats"])
  # Nothing is ever learnt from running statistics, and without derivatives they take less to trace.
  return y, jax.lax.stop_gradient(updated.get("batch_stats", {}))


def _widen(tree: Tree, rows: list[int], count: int) -> Tree:
  """Places a stack's rows among those of so many connections; the others are zeros, which nothing reads."""
  put = lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype).at[jnp.array(rows)].set(leaf)
  return tree if len(rows) == count else jax.tree.map(put, tree)


def _narrow(tree: Tree, rows: list[int], count: int) -> Tree:
  """What `_widen` placed."""
  return tree if len(rows) == count else jax.tree.map(lambda leaf: leaf[jnp.array(rows)], tree)
