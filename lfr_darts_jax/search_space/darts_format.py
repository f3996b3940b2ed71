"""The cells of DARTS's `Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)`, in whatever lists.

DARTS lists two (operation, source) pairs for every node; GDAS and others a list per node; FairDARTS (operation, node,
source), for as many as there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lfr_darts_jax.errors import short
from lfr_darts_jax.search_space.cell_spec import NORMAL, REDUCTION, GenotypeError
from lfr_darts_jax.search_space.genotype import Genotype, derived_cell
from lfr_darts_jax.search_space.literals import Items, begins

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
CELLS = (("normal", "normal", NORMAL), ("reduce", "reduction", REDUCTION))  # Field, name, kind.
EMPTY: tuple[Any, ...] = (None, "", [])  # What fields of other programs hold that say nothing here.


class Nodes(NamedTuple):
  """What a field lists.

  Attributes:
    pairs: of every node.
    concat: the states that are the output.
    note: what there is to be said of how it was read; empty for nothing.
  """

  pairs: Sequence[Any]
  concat: Any
  note: str = ""


def from_fields(fields: Mapping[str, Any], at: str = "") -> tuple[Genotype, str]:
  """The genotype of DARTS's fields.

  Args:
    fields: by name, lists and tuples, with their places where they are `Items`.
    at: what messages begin with.

  Returns:
    The genotype, and what is to be said of how it was read; empty for nothing.

  Raises:
    GenotypeError: with place, field, what was met there and what is allowed.
  """
  if "recurrent" in fields:
    raise GenotypeError(f"{at}a recurrent cell of DARTS's language models; allowed are normal and reduction cells")
  missing = [name for name in FIELDS if fields.get(name) is None]
  more = [name for name, value in fields.items() if name not in FIELDS and value not in EMPTY]
  if missing or more:
    what = f"lacks {', '.join(missing)}" if missing else f"has {more[0]}={short(fields[more[0]])}"
    raise GenotypeError(f"{at}the genotype {what}; allowed are {', '.join(FIELDS)}")
  cells, notes = [], []
  for field, name, kind in CELLS:
    pairs, concat, note = _nodes(field, fields[field], fields[f"{field}_concat"], at)
    cells.append(derived_cell(name, kind, pairs, concat))
    notes += [f"{field}: {note}"] if note else []
  return Genotype(tuple(cells)), "; ".join(notes)


def to_darts(genotype: Genotype) -> str:
  """DARTS's `Genotype(normal=..., ...)` text; with a list per node where not all have two pairs.

  Raises:
    GenotypeError: where there is not just one cell of each kind.
  """
  by_kind = {cell.kind: cell for cell in genotype.cells}
  if len(genotype.cells) != 2 or len(by_kind) != 2:
    raise GenotypeError("cells: DARTS's format holds one normal and one reduction cell")
  fields = []
  for field, _, kind in CELLS:
    cell = by_kind[kind]
    nodes = [[(name, s) for s, t, (name,) in cell.connections if t == target] for target in range(2, cell.nodes + 2)]
    listed = _joined(nodes) if all(len(node) == 2 for node in nodes) else nodes
    fields.append(f"{field}={listed}, {field}_concat={list(cell.concat)}")
  return f"Genotype({', '.join(fields)})"


def _nodes(field: str, listed: Any, concat: Any, at: str) -> Nodes:
  if not _is_list(listed) or not listed:
    met = f"{begins(listed) or at}{field}: {short(listed)}"
    raise GenotypeError(f"{met}; allowed is a list of (operation, source) pairs")
  nested = [_is_list(item) and all(map(_is_list, item)) for item in listed]
  odd = nested.index(not nested[0]) if len(set(nested)) > 1 else None
  if odd is not None:
    raise GenotypeError(
      f"{begins(listed, odd)}{field}: {short(listed[odd])}; allowed are pairs, or a list of pairs for every node"
    )
  pairs = _joined(listed) if nested[0] else listed
  triples = [i for i, pair in enumerate(pairs) if _is_list(pair) and len(pair) == 3]
  if triples:
    return _sparse(field, pairs, concat)
  if nested[0]:
    return Nodes(listed, concat)
  last = max((state for state in concat if type(state) is int), default=0) if _is_list(concat) else 0
  if len(pairs) % 2 == 0 and last <= len(pairs) // 2 + 1:
    return Nodes(_parts(pairs, 2), concat)
  if len(pairs) == last - 1:
    note = "one operation into every node, since the output joins as many" if len(pairs) % 2 == 0 else ""
    return Nodes(_parts(pairs, 1), concat, note)
  raise GenotypeError(
    f"{begins(listed)}{field}: {len(pairs)} pairs, and an output that joins states up to {last}; allowed are two pairs "
    "per node, a list of pairs for every node, or (operation, node, source) each"
  )


def _sparse(field: str, triples: Sequence[Any], concat: Any) -> Nodes:
  """Of FairDARTS's triples; as there, nodes without an operation are left out, and with them what reads them."""
  into: dict[int, list[Any]] = {}
  for i, triple in enumerate(triples):
    ends = triple[1:] if _is_list(triple) and len(triple) == 3 else ()
    if not all(type(state) is int and state >= 0 for state in ends) or len(set(ends)) != 2 or max(ends) < 2:
      raise GenotypeError(f"{begins(triples, i)}{field}: {short(triple)}; allowed are (operation, node, source) each")
    into.setdefault(max(ends), []).append(_picked(triple, [0, triple.index(min(ends), 1)]))
  numbers, nodes, gaps = {0: 0, 1: 1}, list[list[Any]](), set[int]()
  for target in sorted(into):
    gaps |= {pair[1] for pair in into[target]} - numbers.keys()
    kept = [pair for pair in into[target] if pair[1] in numbers]
    if kept:
      numbers[target] = len(nodes) + 2
      nodes.append(kept)
  for pair in (pair for node in nodes for pair in node):
    pair[1] = numbers[pair[1]]
  if not _is_list(concat) or not all(type(state) is int for state in concat):
    return Nodes(nodes, concat)
  gaps |= {state for state in concat if state > 1} - numbers.keys()
  joined = _picked(concat, [i for i, state in enumerate(concat) if state not in gaps])
  joined[:] = [numbers.get(state, state) for state in joined]
  note = f"no operation into {', '.join(map(str, sorted(gaps)))}: left out, and what reads it, as FairDARTS does"
  return Nodes(nodes, joined, note if gaps else "")


def _is_list(value: Any) -> bool:
  return isinstance(value, (list, tuple))


def _picked(listed: Sequence[Any], which: Sequence[int]) -> Any:
  """Some items of a list, with their places where it has them."""
  items = [listed[i] for i in which]
  return Items(items, [listed.places[i] for i in which], listed.begins) if isinstance(listed, Items) else items


def _parts(listed: Sequence[Any], size: int) -> list[Any]:
  """A list in parts of a size."""
  return [_picked(listed, range(i, i + size)) for i in range(0, len(listed), size)]


def _joined(lists: Sequence[Any]) -> Any:
  """Several lists as one."""
  items = [item for part in lists for item in part]
  return Items(items, [p for part in lists for p in part.places], lists.begins) if isinstance(lists, Items) else items
