"""The cell as accelerators need it: all edges that leave a state are computed together, by few and large kernels.

It computes what `cell.Cell` does, in another order of sums. Operations are computed on all edges out of a state at once
(`star_operations.py`); statistics of all batch norms that can be taken at once are one small kernel behind one pass
over each array; and norms, mixture and the sum over candidates are one product and one sum per array.

On CPUs its dense kernels are far too many operations; `cell_scan.ScanCell` serves there.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.models import edge_stacks, partial
from lfr_darts_jax.models.cell import Call, Cell, drop
from lfr_darts_jax.models.edge_stacks import Connection, having, stack_name
from lfr_darts_jax.models.layers import norm
from lfr_darts_jax.models.operations import OPERATIONS
from lfr_darts_jax.models.star_operations import COMPOSED, FORMS, OPENED, Edges, Output, composed, ends, opening
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.operation_names import NONE, SKIP_CONNECT

Tree = Any
MOST_COMPOSED = 160  # Features of a node up to which dense kernels pay.


class Departure(NamedTuple):
  """The edges that leave states which are ready at the same time.

  Attributes:
    sources: the states.
    stride: of the edges.
    edges: in the order of the stacks: by source, then target.
  """

  sources: tuple[int, ...]
  stride: int
  edges: list[Connection]

  def counts(self, name: str) -> list[int]:
    """How many edges out of each source have an operation."""
    return [sum(source == s and name in left for s, _, left in self.edges) for source in self.sources]


def departures(spec: CellSpec) -> list[Departure]:
  """The edges of a cell in the order in which they can be computed: those out of both inputs first, then by node."""
  found = []
  for sources in ((0, 1), *((node,) for node in range(2, spec.nodes + 1))):
    stride = spec.stride(sources[0])
    own = [edge for edge in edge_stacks.connections(spec, stride) if edge[0] in sources]
    if own:
      found.append(Departure(sources, stride, own))
  return found


def dealt(stacks: Tree, among: list[Departure]) -> list[Tree]:
  """Stacks by operation, dealt to the departures of their stride: of every leaf the rows of each one's edges."""
  deals: list[dict[str, Tree]] = [{} for _ in among]
  for name, tree in stacks.items():
    counts = [len(having(name, departure.edges)) for departure in among]
    split = functools.partial(jnp.split, indices_or_sections=ends(counts))
    for count, deal, *leaves in zip(counts, deals, *map(split, jax.tree.leaves(tree)), strict=True):
      if count:
        deal[name] = jax.tree.unflatten(jax.tree.structure(tree), leaves)
  return deals


class StarCell(Cell):
  """A cell that computes its edges by their sources."""

  def nodes(self, states: list[jax.Array], call: Call) -> Sequence[jax.Array] | jax.Array:
    """See `Cell`."""
    kept = self._kept(states[0].shape[0], call)
    sums: dict[int, list[jax.Array]] = {target: [] for target in range(2, self.spec.nodes + 2)}
    statistics: dict[int, list[Tree]] = {1: [], 2: []}
    for departure, params, running in self._dealt(call):
      states = self._grown(states, sums, departure.sources[-1])
      sources = [states[s] for s in departure.sources]
      parts = [self.part(s, x, departure.stride, call) for s, x in zip(departure.sources, sources, strict=True)]
      seen = [x if part is None else part.chosen for part, x in zip(parts, sources, strict=True)]
      total, updated = self._total(departure, seen, params, running, call)
      statistics[departure.stride].append(updated)
      total = self._joined(departure, total, sources, parts, call)
      if kept:
        ones = jnp.ones((len(total), 1, 1, 1))
        total *= jnp.stack([kept.get(name, ones) for name in edge_stacks.edge_names(departure.edges)], axis=3)
      targets, part_sums = _by_target(departure, total)
      # As the edges' outputs are in the reference; gradients by them take half the memory.
      part_sums = part_sums.astype(states[0].dtype)
      if call.mixture is not None:
        # Otherwise one kernel would compute a node out of all that the edges into it gave, and take long to compile.
        part_sums = lax.optimization_barrier(part_sums)
      for target, y in zip(targets, jnp.split(part_sums, len(targets), axis=3), strict=True):
        sums[target].append(y[..., 0, :])
    if call.train and self.is_mutable_collection("batch_stats"):
      for stride, updates in statistics.items():
        self._put_statistics(stride, updates)
    return self._grown(states, sums, self.spec.nodes + 1)

  def _joined(
    self, departure: Departure, total: jax.Array, sources: list[jax.Array], parts: list[partial.Part | None], call: Call
  ) -> jax.Array:
    """What every edge gives, see `Cell.joined`; source by source, since their edges are neighbours."""
    if parts[0] is None and call.rates.auxiliary_skip is None:
      return total
    counts = [sum(source == s for s, _, _ in departure.edges) for source in departure.sources]
    rows = jnp.array([self.row(source, target) for source, target, _ in departure.edges])
    shares = None if call.mixture is None else jnp.sum(call.mixture[rows], axis=-1)[:, None]
    among = lambda x: x[..., None, :]
    wide = [p and p._replace(bypass=among(p.bypass)) for p in parts]
    split = [None] * len(counts) if shares is None else jnp.split(shares, ends(counts))
    own = zip(jnp.split(total, ends(counts), axis=3), map(among, sources), split, wide, strict=True)
    return jnp.concatenate([self.joined(*each, departure.stride, call) for each in own], axis=3)

  def _dealt(self, call: Call) -> list[tuple[Departure, Tree, Tree]]:
    """The departures, each with its rows of parameters and running statistics by operation."""
    found: list[tuple[Departure, Tree, Tree]] = []
    for stride in (2, 1):
      among = [departure for departure in departures(self.spec) if departure.stride == stride]
      params, running = (self.variables.get(c, {}).get(stack_name(stride), {}) for c in ("params", "batch_stats"))
      params = {n: composed(tree) if n in COMPOSED and self._fast(n, call) else tree for n, tree in params.items()}
      found += zip(among, dealt(params, among), dealt(running, among), strict=True)
    return found

  def _fast(self, name: str, call: Call) -> bool:
    return name in FORMS and (name not in COMPOSED or self.width(call) <= MOST_COMPOSED)

  def _grown(self, states: list[jax.Array], sums: dict[int, list[jax.Array]], last: int) -> list[jax.Array]:
    """The states up to number `last`."""
    kind = states[0].dtype
    wide = lambda y: y.astype(jnp.promote_types(kind, jnp.float32))
    new = [sum(map(wide, sums[target]), jnp.zeros(())).astype(kind) for target in range(len(states), last + 1)]
    return [*states, *new]

  def _kept(self, batch: int, call: Call) -> dict[str, jax.Array]:
    """By connection's name, what drop path multiplies its output with: `[batch, 1, 1, 1]`; random as in `Cell.edge`."""
    rate = call.rates.path
    if not call.train or rate is None:
      return {}
    connections = self.spec.connections
    named = zip(connections, edge_stacks.edge_names(connections), strict=True)
    some = [name for (s, _, left), name in named if left != (SKIP_CONNECT,) or self.spec.stride(s) == 2]
    ones = jnp.ones((batch, 1, 1, 1))
    return {n: drop(ones, rate, self.make_rng("dropout"), self.settings, per_sample=True) for n in some}

  def _total(
    self, departure: Departure, states: list[jax.Array], params: Tree, running: Tree, call: Call
  ) -> tuple[jax.Array, Tree]:
    """What mixed ops give: `[batch, height, width, edges, channels]`; and the new running statistics."""
    names = sorted({name for _, _, left in departure.edges for name in left} - {NONE})
    fast, kind = [n for n in names if self._fast(n, call)], states[0].dtype
    edges = {n: self._edges(n, departure, states, params.get(n, {})) for n in fast}
    openings = {n: Output(opening(edges[n]), ("BatchNorm_0",)) for n in fast if n in OPENED}
    scales, statistics = _scales(openings, edges, running, call.train, {})
    opened = {n: (scales[n].factor * openings[n].values + scales[n].shift).astype(kind) for n in openings}
    outputs = {n: FORMS[n](edges[n], opened.get(n)) for n in fast}
    weights = {} if call.mixture is None else self._weights(departure, names, call.mixture)
    scales, more = _scales(outputs, edges, running, call.train, weights)
    updated = {n: {**statistics.get(n, {}), **more.get(n, {})} for n in fast}

    height, width = (-(-n // departure.stride) for n in states[0].shape[1:3])
    places = len(states[0]), height, width, len(departure.edges), self.width(call)
    total = jnp.zeros(places, jnp.promote_types(kind, jnp.float32))
    shifts = jnp.zeros((), total.dtype)
    for name in names:
      own = having(name, departure.edges)
      weight = weights[name][:, None] if name in weights else 1
      place = functools.partial(_placed, rows=own, count=len(departure.edges))
      if name not in fast:
        y, updated[name] = self._one_by_one(name, departure, states, params.get(name, {}), running.get(name, {}), call)
        total += place(weight * y)
      elif name == SKIP_CONNECT and departure.stride == 1 and call.train and call.rates.skip is not None:
        total += place(weight * self._dropped(departure, states, call))
      else:
        spread = functools.partial(_spread, counts=edges[name].counts) if outputs[name].shared else lambda x: x
        total += place((scales[name].factor if name in scales else weight) * spread(outputs[name].values))
        shifts += place(scales[name].shift) if name in scales else 0
    return total + shifts, {n: tree for n, tree in updated.items() if tree}

  def _edges(self, name: str, departure: Departure, states: list[jax.Array], params: Tree) -> Edges:
    counts = departure.counts(name)
    used = [state for state, count in zip(states, counts, strict=True) if count]
    return Edges(used, [count for count in counts if count], departure.stride, params, self.settings)

  def _weights(self, departure: Departure, names: list[str], mixture: jax.Array) -> dict[str, jax.Array]:
    """The mixture by operation, `[rows]`: of the edges that have it."""
    rows = jnp.array([self.row(source, target) for source, target, _ in departure.edges])
    columns = mixture[rows]
    weights = {}
    for name in names:
      own, column = having(name, departure.edges), columns[:, self.operations.index(name)]
      weights[name] = column if len(own) == len(departure.edges) else jnp.stack([column[i] for i in own])
    return weights

  def _dropped(self, departure: Departure, states: list[jax.Array], call: Call) -> jax.Array:
    """The skip_connects with dropout, random as in `MixedOp`: `[batch, height, width, rows, channels]`."""
    rate, keys = call.rates.skip, call.skip_keys
    assert rate is not None and keys is not None
    own = [departure.edges[i] for i in having(SKIP_CONNECT, departure.edges)]
    of = lambda source: states[departure.sources.index(source)]
    masked = [drop(of(s), rate, keys[self.row(s, t)], self.settings) for s, t, _ in own]
    return jnp.stack(masked, axis=3)

  def _one_by_one(
    self, name: str, departure: Departure, states: list[jax.Array], params: Tree, running: Tree, call: Call
  ) -> tuple[jax.Array, Tree]:
    """An operation by the reference's module, edge by edge: `[batch, height, width, rows, channels]`."""
    op = OPERATIONS[name](self.width(call), departure.stride, self.settings, parent=None)
    outputs, statistics = [], []
    for row, i in enumerate(having(name, departure.edges)):
      variables = jax.tree.map(lambda leaf, row=row: leaf[row], {"params": params, "batch_stats": running})
      x = states[departure.sources.index(departure.edges[i][0])]
      y, updated = op.apply(variables, x, call.train, mutable=["batch_stats"])
      outputs.append(y)
      statistics.append(updated.get("batch_stats", {}))
    return jnp.stack(outputs, axis=3), jax.tree.map(lambda *leaves: jnp.stack(leaves), *statistics)

  def _put_statistics(self, stride: int, parts: list[Tree]) -> None:
    names = sorted({name for part in parts for name in part})
    joined = {n: jax.tree.map(lambda *a: jnp.concatenate(a), *[part[n] for part in parts if n in part]) for n in names}
    if joined:
      self.put_variable("batch_stats", stack_name(stride), joined)


class Scale(NamedTuple):
  """A batch norm as an affine map: `factor * x + shift`, each `[batch or 1, 1, 1, rows, channels]`."""

  factor: jax.Array
  shift: jax.Array


def _scales(
  outputs: dict[str, Output], edges: dict[str, Edges], running: Tree, train: bool, weights: dict[str, jax.Array]
) -> tuple[dict[str, Scale], Tree]:
  """The batch norms of several operations, computed on one vector of all features; and their new running statistics.

  Args:
    outputs, edges: by operation.
    running: running statistics by operation.
    train: whether the batch's statistics are used.
    weights: by operation `[rows]`, multiplied in; none for ones.
  """
  normed = {n: output for n, output in outputs.items() if output.norm}
  if not normed:
    return {}, {}
  spread = {
    n: functools.partial(_spread, counts=edges[n].counts) if o.shared else lambda x: x for n, o in normed.items()
  }
  old = {n: _at(running[n], o.norm or ()) for n, o in normed.items()}
  images = len(next(iter(normed.values())).values)
  if train:
    sharding = next(iter(edges.values())).settings.sharding
    taken = norm.moments([o.values for o in normed.values()], sharding)
    moments = {n: norm.Moments(*map(spread[n], own)) for n, own in zip(normed, taken, strict=True)}
  else:
    moments = {n: norm.Moments(own["mean"][None], own["var"][None]) for n, own in old.items()}
  shapes = [m.mean.shape[1:] for m in moments.values()]
  join = lambda arrays: jnp.concatenate([a.reshape(len(a), -1) for a in arrays], axis=-1)
  mean, variance = join([m.mean for m in moments.values()]), join([m.variance for m in moments.values()])
  factor = lax.rsqrt(variance + norm.EPSILON)
  affine = [_at(edges[n].params, o.norm or ()) for n, o in normed.items()]
  if any(affine):
    factor *= join([a["scale"][None] for a in affine])
  shift = -mean * factor
  if any(affine):
    shift += join([a["bias"][None] for a in affine])
  if weights:
    each = jnp.concatenate([weights[n] for n in normed])
    each = jnp.broadcast_to(each[:, None], (len(each), shapes[0][1])).reshape(1, -1)
    factor, shift = factor * each, shift * each
  # A row per image, so that the backward pass sums over images once for all arrays.
  wide = lambda m: jnp.repeat(m, images // len(m), axis=0) if len(m) > 1 else jnp.broadcast_to(m, (images, m.shape[1]))
  cuts = ends([math.prod(shape) for shape in shapes])
  parts = zip(*(jnp.split(wide(m), cuts, axis=-1) for m in (factor, shift)), strict=True)
  scales = {
    n: Scale(*(part.reshape(images, 1, 1, *shape) for part in own))
    for n, shape, own in zip(normed, shapes, parts, strict=True)
  }
  updated: Tree = {}
  for name, output in normed.items():
    updated[name] = norm.running(old[name], *moments[name])
    for key in reversed(output.norm or ()):
      updated[name] = {key: updated[name]}
  return scales, updated


def _by_target(departure: Departure, total: jax.Array) -> tuple[list[int], jax.Array]:
  """The targets of a departure and the sums of the edges into them, or all edges where its sources' targets differ."""
  targets, count = [target for _, target, _ in departure.edges], len(departure.sources)
  once = targets[: len(targets) // count]
  if targets != once * count:
    return targets, total
  return once, total.reshape(*total.shape[:3], count, len(once), total.shape[-1]).sum(3)


def _at(tree: Tree, path: tuple[str, ...]) -> Tree:
  """A subtree, empty where it is not there."""
  return functools.reduce(lambda tree, name: tree.get(name, {}), path, tree)


def _spread(x: jax.Array, counts: list[int]) -> jax.Array:
  """From a row per source to one per edge: `[..., sources, channels]` to `[..., sum(counts), channels]`."""
  parts = [jnp.broadcast_to(x[..., i : i + 1, :], (*x.shape[:-2], n, x.shape[-1])) for i, n in enumerate(counts)]
  return jnp.concatenate(parts, axis=-2)


def _placed(y: jax.Array, rows: list[int], count: int) -> jax.Array:
  """Places rows among so many; the others are zeros."""
  if len(rows) == count:
    return y
  zeros = jnp.zeros_like(y[..., 0, :])
  return jnp.stack([y[..., rows.index(i), :] if i in rows else zeros for i in range(count)], axis=-2)
