"""MixedOp and Cell as DARTS writes them: mixed while candidates compete, discrete once the cell is derived.

This is the reference; `cell_scan` computes the same sums in the form that CPUs need.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from lfr_darts_jax.models.edge_stacks import edge_name
from lfr_darts_jax.models.operations import OPERATIONS, FactorizedReduce, LayerSettings, Operation, ReluConvNorm
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH, BatchSharding
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges
from lfr_darts_jax.search_space.operation_names import SKIP_CONNECT

CHOSEN = (1.0,)  # The mixture of a derived edge, which has one operation.


class DropRates(NamedTuple):
  """Dropout rates of a training step, each a scalar that may be traced, or None for none; they need the rng "dropout".

  Attributes:
    path: of the edges of a derived cell for a sample; spares identities (DARTS, appendix A.2).
    skip: of single features behind unstrided skip_connects (P-DARTS, section 3.3).
  """

  path: jax.Array | None = None
  skip: jax.Array | None = None


NO_DROP = DropRates()


def drop(
  x: jax.Array, rate: jax.Array, key: jax.Array, sharding: BatchSharding = WHOLE_BATCH, per_sample: bool = False
) -> jax.Array:
  """Dropout with a traced rate, scaled to keep the mean: of single features, or of whole samples (drop path).

  The mask is drawn for the whole batch, so that it does not depend on how that is split over devices.
  """
  batch = x.shape[0] * sharding.shards
  mask = jax.random.bernoulli(key, 1 - rate, (batch, 1, 1, 1) if per_sample else (batch, *x.shape[1:]))
  return jnp.where(sharding.local_shard(mask), x / (1 - rate), 0).astype(x.dtype)


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
    rates: DropRates = NO_DROP,
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

  def output(
    self, name: str, index: int, x: jax.Array, train: bool, rates: DropRates, key: jax.Array | None
  ) -> jax.Array:
    """Output of one candidate."""
    y = self.evaluate(OPERATIONS[name](self.channels, self.stride, self.settings, name=name), index, x, train)
    if name == SKIP_CONNECT and self.stride == 1 and train and rates.skip is not None:
      assert key is not None
      y = drop(y, rates.skip, key, self.settings.sharding)
    return y

  def evaluate(self, operation: Operation, index: int, x: jax.Array, train: bool) -> jax.Array:
    """Applies one candidate."""
    return operation(x, train)


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
    self, s0: jax.Array, s1: jax.Array, mixture: jax.Array | None, train: bool, rates: DropRates = NO_DROP
  ) -> jax.Array:
    """Runs the cell.

    Args:
      s0: output of the layer two before, `[batch, height, width, features]`, twice as large where that layer's
        successor halved the resolution.
      s1: output of the layer before.
      mixture: `[edges, operations]`; None for a derived cell.
      train: see `MixedOp`.
      rates: of dropout.

    Returns:
      `[batch, height / s, width / s, len(concat) * channels]`, s = 2 for a reduction cell.
    """
    chex.assert_rank((s0, s1), 4)
    if mixture is not None:
      chex.assert_shape(mixture, (len(self.spec.candidates), len(self.operations)))
    align = FactorizedReduce if self.reduction_before else ReluConvNorm
    s0 = align(self.channels, 2 if self.reduction_before else 1, self.settings, name="preprocess0")(s0, train)
    s1 = ReluConvNorm(self.channels, 1, self.settings, name="preprocess1")(s1, train)
    states = self.nodes([s0, s1], mixture, train, rates)
    return jnp.concatenate([states[i] for i in self.spec.concat], axis=-1)

  def nodes(
    self, states: list[jax.Array], mixture: jax.Array | None, train: bool, rates: DropRates
  ) -> Sequence[jax.Array] | jax.Array:
    """Every node is the sum of the edges into it (DARTS, equation 1).

    Args:
      states: the two inputs, `[batch, height, width, channels]`.
      mixture, train, rates: see `__call__`.

    Returns:
      Inputs and nodes.
    """
    skip_keys = self.skip_keys(rates)
    for target in range(2, self.spec.nodes + 2):
      into = [connection for connection in self.spec.connections if connection[1] == target]
      outputs = (self.edge(*connection, states, mixture, train, rates, skip_keys) for connection in into)
      states = [*states, sum(outputs, jnp.zeros((), states[0].dtype))]
    return states

  def edge(
    self,
    source: int,
    target: int,
    candidates: tuple[str, ...],
    states: list[jax.Array],
    mixture: jax.Array | None,
    train: bool,
    rates: DropRates,
    skip_keys: jax.Array | None,
  ) -> jax.Array:
    """What an edge adds to its target."""
    op = self.mixed_op(source, candidates, edge_name(source, target))
    row = self.row(source, target)
    weights = CHOSEN if mixture is None else mixture[row][self.columns(candidates)]
    y = op(states[source], weights, train, rates, None if skip_keys is None else skip_keys[row])
    identity = candidates == (SKIP_CONNECT,) and op.stride == 1
    if train and rates.path is not None and not identity:
      y = drop(y, rates.path, self.make_rng("dropout"), self.settings.sharding, per_sample=True)
    return y

  def mixed_op(self, source: int, candidates: tuple[str, ...], name: str | None = None) -> MixedOp:
    """The mixed op of an edge; those out of a reduction cell's inputs are strided."""
    return MixedOp(candidates, self.channels, self.spec.stride(source), self.settings, name=name)

  def skip_keys(self, rates: DropRates) -> jax.Array | None:
    """`[edges, ...]` keys of dropout on skip_connects, by edge, so that all forms of the cell drop the same."""
    return None if rates.skip is None else jax.random.split(self.make_rng("dropout"), len(self.spec.candidates))

  def row(self, source: int, target: int) -> int:
    """An edge's row of the mixture."""
    return edges(self.spec.nodes).index((source, target))

  def columns(self, candidates: tuple[str, ...]) -> jax.Array:
    """Where the candidates stand among the operations."""
    return jnp.array([self.operations.index(name) for name in candidates])
