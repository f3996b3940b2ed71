"""MixedOp and Cell: the DARTS cell, mixed while candidates compete, discrete once it is derived."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax import genotype
from lfr_darts_jax.norm import WHOLE_BATCH
from lfr_darts_jax.norm import Batching
from lfr_darts_jax.operations import OPERATIONS
from lfr_darts_jax.operations import FactorizedReduce
from lfr_darts_jax.operations import ReluConvNorm

Tree = Any


def drop(
  x: jax.Array, rate: jax.Array, key: jax.Array, batching: Batching = WHOLE_BATCH, per_sample: bool = False
) -> jax.Array:
  """Dropout with a traced rate, scaled to keep the mean: of single features, or of whole samples (drop path).

  The mask is drawn for the whole batch, so that it does not depend on how that is split over devices.
  """
  whole = x.shape[0] * batching.shards
  mask = jax.random.bernoulli(key, 1 - rate, (whole, 1, 1, 1) if per_sample else (whole, *x.shape[1:]))
  return jnp.where(batching.own(mask), x / (1 - rate), 0).astype(x.dtype)


def edge_name(source: int, target: int) -> str:
  """Name of an edge's subtree of variables."""
  return f"edge_{source}_{target}"


class MixedOp(nn.Module):
  """Weighted sum of the candidate operations of one edge (DARTS, equation 2).

  Attributes:
    candidates: names of the operations alive.
    channels: features of input and output.
    stride: of every candidate, in pixels.
    searching: see `operations.Operation`.
    depthwise: see `operations.Operation`.
    batching: see `norm.Batching`.
  """

  candidates: tuple[str, ...]
  channels: int
  stride: int
  searching: bool
  depthwise: str = "auto"
  batching: Batching = WHOLE_BATCH

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    weights: jax.Array | None,
    train: bool,
    live: jax.Array | None = None,
    skip_dropout: jax.Array | None = None,
  ) -> jax.Array:
    """Mixes the candidates.

    Args:
      x: `[batch, height, width, channels]`.
      weights: `[len(candidates)]`; None where the single candidate stands for itself.
      train: whether batch norms use and update the batch's statistics.
      live: `[len(candidates)]` bool, candidates to compute; None computes all, without run-time conditions.
      skip_dropout: dropout rate on the output of an unstrided `skip_connect` (P-DARTS, section 3.3).
    """
    total = jnp.zeros((), x.dtype)
    for i, name in enumerate(self.candidates):
      settings = self.channels, self.stride, self.searching, self.depthwise, self.batching
      operation = OPERATIONS[name](*settings, name=name)
      if live is None:
        y = operation(x, train)
      else:
        height, width = (-(-n // self.stride) for n in x.shape[1:3])
        zeros = jnp.zeros((x.shape[0], height, width, self.channels), x.dtype)
        y = nn.cond(live[i], lambda op, x: op(x, train), lambda op, x: zeros, operation, x)
      if name == "skip_connect" and self.stride == 1 and train and skip_dropout is not None:
        y = drop(y, skip_dropout, self.make_rng("dropout"), self.batching)
      # In bfloat16 the mixture weights of young alphas would all be the same: they keep their type, as does the sum.
      total += y if weights is None else weights[i] * y
    return total.astype(x.dtype)


class Cell(nn.Module):
  """A directed acyclic graph of nodes, each the sum of its incoming edges (DARTS, equation 1).

  Attributes:
    spec: the candidates of every edge.
    channels: features of a node; the output has `len(spec.concat)` times as many.
    reduction_before: whether the layer before halved the resolution, so that the input from two layers before must
      follow.
    searching: see `operations.Operation`.
    operations: names of the columns of `mixture`.
    edges: "scan" compiles the mixed op once and loops over the edges, whose insides the backward pass computes anew;
      "unroll" writes all edges out, and alone can drop paths.
    depthwise: see `operations.Operation`.
    batching: see `norm.Batching`.
    conditional: whether "scan" passes over candidates without weight at run time, so that candidates can be pruned
      without another program; otherwise over those that `spec` lacks.
  """

  spec: genotype.Cell
  channels: int
  reduction_before: bool
  searching: bool
  operations: tuple[str, ...]
  edges: str
  depthwise: str = "auto"
  batching: Batching = WHOLE_BATCH
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    before: jax.Array,
    previous: jax.Array,
    mixture: jax.Array | None,
    train: bool,
    drop_path: jax.Array | None = None,
    skip_dropout: jax.Array | None = None,
  ) -> jax.Array:
    """Runs the cell.

    Args:
      before: output of the layer two before, `[batch, height, width, features]`, twice as large where that layer's
        successor halved the resolution.
      previous: output of the layer before.
      mixture: `[edges, operations]`, mixture weights; None for a derived cell.
      train: see `MixedOp`.
      drop_path: probability of dropping an edge of a derived cell for a sample; spares identities.
      skip_dropout: see `MixedOp`.

    Returns:
      `[batch, height / s, width / s, len(concat) * channels]`, s = 2 for a reduction cell.
    """
    settings: Any = {"searching": self.searching, "batching": self.batching}
    align = (
      FactorizedReduce(self.channels, 2, **settings, name="preprocess0")
      if self.reduction_before
      else ReluConvNorm(self.channels, 1, **settings, name="preprocess0")
    )
    inputs = [align(before, train), ReluConvNorm(self.channels, 1, **settings, name="preprocess1")(previous, train)]
    if self.edges == "scan" and not self.is_initializing():
      states = self._scanned(jnp.stack(inputs), mixture, train, skip_dropout)
    else:
      states = self._unrolled(inputs, mixture, train, drop_path, skip_dropout)
    return jnp.concatenate([states[i] for i in self.spec.concat], axis=-1)

  def _mixed_op(self, source, candidates, name=None):
    stride = 2 if self.spec.kind == genotype.REDUCTION and source < 2 else 1
    return MixedOp(candidates, self.channels, stride, self.searching, self.depthwise, self.batching, name=name)

  def _columns(self, candidates):
    return jnp.array([self.operations.index(name) for name in candidates])

  def _unrolled(self, states, mixture, train, drop_path, skip_dropout):
    rows = {edge: row for row, edge in enumerate(genotype.edges(self.spec.nodes))}
    connections = self.spec.connections
    for target in range(2, self.spec.nodes + 2):
      total = 0
      for source, alive in ((s, ops) for s, t, ops in connections if t == target):
        op = self._mixed_op(source, alive, edge_name(source, target))
        weights = None if mixture is None else mixture[rows[source, target]][self._columns(alive)]
        y = op(states[source], weights, train, None, skip_dropout)
        identity = alive == ("skip_connect",) and op.stride == 1
        if train and drop_path is not None and not identity:
          y = drop(y, drop_path, self.make_rng("dropout"), self.batching, per_sample=True)
        total += y
      states = [*states, total]
    return states

  def _scanned(self, inputs, mixture, train, skip_dropout):
    """The same as `_unrolled`, with one compiled body for all edges of a stride."""
    connections = self.spec.connections
    if self.spec.kind == genotype.NORMAL:
      states = jnp.concatenate([inputs, jnp.zeros((self.spec.nodes, *inputs.shape[1:]), inputs.dtype)])
      return self._scan(states, None, connections, mixture, train, skip_dropout)
    count, batch, height, width, features = inputs.shape
    states = jnp.zeros((count + self.spec.nodes, batch, -(-height // 2), -(-width // 2), features), inputs.dtype)
    strided = [c for c in connections if c[0] < 2]
    states = self._scan(states, inputs, strided, mixture, train, skip_dropout)
    return self._scan(states, None, [c for c in connections if c[0] >= 2], mixture, train, skip_dropout)

  def _scan(self, states, inputs, connections, mixture, train, skip_dropout):
    """Adds every connection's output to its target state; reads the sources from `inputs`, or from the states."""
    if not connections:
      return states
    union = tuple(name for name in self.operations if any(name in ops for _, _, ops in connections))
    everywhere = all(set(ops) == set(union) for _, _, ops in connections)
    op = self._mixed_op(connections[0][0], union)
    names = [edge_name(s, t) for s, t, _ in connections]
    variables = {c: _stack([self.variables.get(c, {}).get(n, {}) for n in names]) for c in ("params", "batch_stats")}
    rows = {edge: row for row, edge in enumerate(genotype.edges(self.spec.nodes))}
    weights = None
    if mixture is not None:
      weights = mixture[jnp.array([rows[s, t] for s, t, _ in connections])][:, self._columns(union)]
    live = None
    if self.conditional and weights is not None:
      live = weights > 0
    elif not everywhere:
      live = jnp.array([[name in ops for name in union] for _, _, ops in connections])
    keys = None if skip_dropout is None else jax.random.split(self.make_rng("dropout"), len(connections))

    # Without checkpointing the backward pass would keep every intermediate of every edge.
    mix = jax.checkpoint(functools.partial(_mix, op.clone(parent=None, name=None), train))

    def body(states, edge):
      source, target, *arguments = edge
      y, statistics = mix((states if inputs is None else inputs)[source], *arguments, skip_dropout)
      return states.at[target].add(y), statistics

    sources, targets = (jnp.array([c[i] for c in connections]) for i in (0, 1))
    states, statistics = jax.lax.scan(body, states, (sources, targets, variables, weights, live, keys))
    if train and self.is_mutable_collection("batch_stats"):
      for i, (name, (_, _, ops)) in enumerate(zip(names, connections, strict=False)):
        # In a fixed order: the program's key in the compilation cache depends on it.
        for operation in (o for o in union if o in ops and o in statistics):
          self.scope.put_variable(
            "batch_stats",
            name,
            {operation: jax.tree.map(lambda s: jax.lax.index_in_dim(s, i, keepdims=False), statistics[operation])},
          )
    return states


# Layers of equal shapes and candidates share one trace.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _mix(op, train, x, variables, weights, live, key, skip_dropout):
  rngs = {} if key is None else {"dropout": key}
  y, updated = op.apply(variables, x, weights, train, live, skip_dropout, rngs=rngs, mutable=["batch_stats"])
  # Nothing is ever learnt from running statistics, and without derivatives they take less to trace.
  return y, jax.lax.stop_gradient(updated.get("batch_stats", {}))


def _stack(trees: list[Tree]) -> Tree:
  """Stacks the edges' subtrees on a leading axis; what an edge lacks is filled with zeros, which nothing reads."""
  template: dict[str, Tree] = {}
  for tree in trees:
    template |= tree
  zeros = jax.tree.map(jnp.zeros_like, template)
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[{**zeros, **tree} for tree in trees])
