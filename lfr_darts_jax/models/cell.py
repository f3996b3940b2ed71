"""MixedOp and Cell as DARTS writes them: mixed while candidates compete, discrete once the cell is derived.

This is the reference; `cell_scan` computes the same sums in the form that CPUs need.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.models import partial
from lfr_darts_jax.models.edge_stacks import Connection, edge_names
from lfr_darts_jax.models.operations import OPERATIONS, FactorizedReduce, LayerSettings, Operation, ReluConvNorm
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges
from lfr_darts_jax.search_space.operation_names import SKIP_CONNECT

PLAIN = LayerSettings()
CHOSEN = (1.0,)  # The mixture of a derived connection, which has one operation.


class Rates(NamedTuple):
  """Rates of a training step, each a scalar that may be traced, or None for none; dropout needs the rng "dropout".

  Attributes:
    path: of dropout of the edges of a derived cell for a sample; spares identities (DARTS, appendix A.2).
    skip: of dropout of single features behind unstrided skip_connects (P-DARTS, section 3.3).
    auxiliary_skip: of every unstrided mixed edge's source that is added to its output (DARTS-, equation 7).
  """

  path: jax.Array | None = None
  skip: jax.Array | None = None
  auxiliary_skip: jax.Array | None = None


NO_RATES = Rates()


def drop(
  x: jax.Array, rate: jax.Array, key: jax.Array, settings: LayerSettings = PLAIN, per_sample: bool = False
) -> jax.Array:
  """Dropout with a traced rate, scaled to keep the mean: of single features, or of whole samples (drop path).

  The mask is drawn for the whole batch, so that it does not depend on how that is split over devices, and is the same
  for all time steps of an image.
  """
  batch = x.shape[0] // settings.steps * settings.sharding.shards
  mask = jax.random.bernoulli(key, 1 - rate, (batch, 1, 1, 1) if per_sample else (batch, *x.shape[1:]))
  mask = jnp.tile(settings.sharding.local_shard(mask), (settings.steps, 1, 1, 1))
  return jnp.where(mask, x / (1 - rate), 0).astype(x.dtype)


class MixedOp(nn.Module):
  """Weighted sum of the candidate operations of one edge.

  Attributes:
    candidates: names of the operations.
    channels: features of input and output.
    stride: of every candidate, in pixels.
    settings: how layers compute.
  """

  candidates: tuple[str, ...]
  channels: int
  stride: int
  settings: LayerSettings

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    weights: jax.Array | Sequence[float],
    train: bool,
    rates: Rates = NO_RATES,
    key: jax.Array | None = None,
  ) -> jax.Array:
    """Mixes the candidates (DARTS, equation 2).

    Args:
      x: `[batch, height, width, channels]`.
      weights: `[len(candidates)]`. In bfloat16 those of young alphas would all be the same: they keep their type, as
        does the sum.
      train: whether batch norms use and update the batch's statistics.
      rates: of dropout.
      key: of dropout on a skip_connect.
    """
    outputs = (self.output(name, i, x, train, rates, key) for i, name in enumerate(self.candidates))
    return sum(weight * y for weight, y in zip(weights, outputs, strict=True)).astype(x.dtype)

  def output(self, name: str, index: int, x: jax.Array, train: bool, rates: Rates, key: jax.Array | None) -> jax.Array:
    """Output of one candidate."""
    y = self.evaluate(self.module(name, rates), index, x, train)
    if name == SKIP_CONNECT and self.stride == 1 and train and rates.skip is not None:
      assert key is not None
      y = drop(y, rates.skip, key, self.settings)
    return y

  def module(self, name: str, rates: Rates) -> Operation:
    """The module of one candidate."""
    return OPERATIONS[name](self.channels, self.stride, self.settings, name=name)

  def evaluate(self, operation: Operation, index: int, x: jax.Array, train: bool) -> jax.Array:
    """Applies one candidate."""
    return operation(x, train)


class Call(NamedTuple):
  """What all edges of a cell share in one call.

  Attributes:
    mixture, train, rates: as of `Cell`.
    skip_keys: `[edges, ...]` keys of dropout on skip_connects, by edge, so that all forms of the cell drop the same.
    attention: kernels by state, see `Cell.attention`.
  """

  mixture: jax.Array | None
  train: bool
  rates: Rates
  skip_keys: jax.Array | None
  attention: jax.Array | None


class Cell(nn.Module):
  """A directed acyclic graph of nodes.

  Attributes:
    spec: the candidates of every edge.
    channels: features of a node; the output has `len(spec.concat)` times as many.
    reduction_before: whether the layer before halved the resolution, so that `s0` must follow.
    operations: names of the columns of `mixture`.
    settings: how layers compute.
  """

  spec: CellSpec
  channels: int
  reduction_before: bool
  operations: tuple[str, ...]
  settings: LayerSettings

  @nn.compact
  def __call__(
    self, s0: jax.Array, s1: jax.Array, mixture: jax.Array | None, train: bool, rates: Rates = NO_RATES
  ) -> jax.Array:
    """Runs the cell.

    Args:
      s0: output of the layer two before, `[batch, height, width, features]`, twice as large where that layer's
        successor halved the resolution.
      s1: output of the layer before.
      mixture: `[edges, operations]`; None for a derived cell.
      train: see `MixedOp`.
      rates: of dropout, and of auxiliary skips.

    Returns:
      `[batch, height / s, width / s, len(concat) * channels]`, s = 2 for a reduction cell.
    """
    chex.assert_rank((s0, s1), 4)
    if mixture is not None:
      chex.assert_shape(mixture, (len(self.spec.candidates), len(self.operations)))
    align = FactorizedReduce if self.reduction_before else ReluConvNorm
    s0 = align(self.channels, 2 if self.reduction_before else 1, self.settings, name="preprocess0")(s0, train)
    s1 = ReluConvNorm(self.channels, 1, self.settings, name="preprocess1")(s1, train)
    keys = None if rates.skip is None else jax.random.split(self.make_rng("dropout"), len(self.spec.candidates))
    states = self.nodes([s0, s1], Call(mixture, train, rates, keys, self.attention(mixture)))
    return jnp.concatenate([states[i] for i in self.spec.concat], axis=-1)

  def nodes(self, states: list[jax.Array], call: Call) -> Sequence[jax.Array] | jax.Array:
    """Every node is the sum of the edges into it (DARTS, equation 1).

    Args:
      states: the two inputs, `[batch, height, width, channels]`.
      call: what this call is.

    Returns:
      Inputs and nodes.
    """
    connections = self.spec.connections
    named = list(zip(connections, edge_names(connections), strict=True))
    for target in range(2, self.spec.nodes + 2):
      into = [(connection, name) for connection, name in named if connection[1] == target]
      outputs = (self.edge(connection, name, states[connection[0]], call) for connection, name in into)
      states = [*states, sum(outputs, jnp.zeros((), states[0].dtype))]
    return states

  def edge(self, connection: Connection, name: str, x: jax.Array, call: Call) -> jax.Array:
    """What a connection adds to its target, from the state `x` that it leaves; `name` is that of its variables."""
    source, target, candidates = connection
    op = self.mixed_op(source, candidates, call, name)
    row = self.row(source, target)
    weights = CHOSEN if call.mixture is None else call.mixture[row][self.columns(candidates)]
    key = None if call.skip_keys is None else call.skip_keys[row]
    part = self.part(source, x, op.stride, call)
    y = op(x if part is None else part.chosen, weights, call.train, call.rates, key)
    share = None if call.mixture is None else jnp.sum(call.mixture[row])
    y = self.joined(y, x, share, part, op.stride, call)
    identity = candidates == (SKIP_CONNECT,) and op.stride == 1
    if call.train and call.rates.path is not None and not identity:
      y = drop(y, call.rates.path, self.make_rng("dropout"), self.settings, per_sample=True)
    return y

  def mixed_op(self, source: int, candidates: tuple[str, ...], call: Call, name: str | None = None) -> MixedOp:
    """The mixed op of an edge; those out of a reduction cell's inputs are strided."""
    return MixedOp(candidates, self.width(call), self.spec.stride(source), self.settings, name=name)

  def width(self, call: Call) -> int:
    """Channels that operations see: of a mixed cell, perhaps a part."""
    return self.channels if call.mixture is None else self.channels // self.settings.partial.fraction

  def attention(self, mixture: jax.Array | None) -> jax.Array | None:
    """`[states, size]` kernels of the attention that chooses channels; None where there is none."""
    if mixture is None or not self.settings.partial.attention:
      return None
    shape = self.spec.nodes + 1, partial.attention_size(self.channels)
    return self.param("attention", partial.attention_init, shape)

  def part(self, source: int | jax.Array, x: jax.Array, stride: int, call: Call) -> partial.Part | None:
    """A state as its edges see it where they see a part of its channels; else None."""
    fraction = self.settings.partial.fraction
    if call.mixture is None or fraction == 1:
      return None
    if call.attention is None:
      return partial.first_channels(x, fraction, stride)
    return partial.attended_channels(x, fraction, stride, call.attention[source], self.settings.sharding)

  def joined(
    self, y: jax.Array, x: jax.Array, share: jax.Array | None, part: partial.Part | None, stride: int, call: Call
  ) -> jax.Array:
    """What an edge gives: the output `y` of its mixed op, and what passes by that.

    Args:
      y: `[..., channels]`, or of a part of them.
      x: the state that it leaves.
      share: of the edge among those into its target, by which what passes by is weighted; sum of its mixture.
      part: what of the state the mixed op saw.
      stride, call: see `part`.
    """
    if part is not None:
      assert share is not None
      y = (part.place(y) + share * part.bypass).astype(y.dtype)
    if call.mixture is not None and call.train and call.rates.auxiliary_skip is not None and stride == 1:
      y = (y + call.rates.auxiliary_skip * x).astype(y.dtype)
    return y

  def row(self, source: int, target: int) -> int:
    """An edge's row of the mixture."""
    return edges(self.spec.nodes).index((source, target))

  def columns(self, candidates: tuple[str, ...]) -> jax.Array:
    """Where the candidates stand among the operations."""
    return jnp.array([self.operations.index(name) for name in candidates])
