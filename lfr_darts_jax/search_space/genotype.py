"""Layered genotypes: derived cells, shallow to deep; how they are laid out, and `genotype.json`.

Version 1 of the file holds cells, version 2 the layers of a chain.
"""

import collections
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from lfr_darts_jax.errors import short
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import (
  LAYER,
  MAX_NODES,
  NORMAL,
  REDUCTION,
  CellSpec,
  GenotypeError,
  check_name,
  edges,
)
from lfr_darts_jax.search_space.literals import begins
from lfr_darts_jax.search_space.operation_names import IDENTITY, NONE, OPERATION_NAMES, block

FORMAT, VERSION, CHAIN_VERSION = "lfr-darts-genotype", 1, 2
MAX_CELLS = 64
MAX_CONNECTIONS = len(edges(MAX_NODES))  # Of a cell: as many as one operation on every edge makes.


@dataclasses.dataclass(frozen=True)
class Genotype:
  """A layered genotype: derived cells, shallow to deep."""

  cells: tuple[CellSpec, ...]

  @property
  def space(self) -> str:
    """Name of its search space."""
    return spaces.MOBILE if self.cells[0].kind == LAYER else spaces.CELLS

  def layout(self, layers: int) -> tuple[str, ...]:
    """Names of the cells of a network with `layers` layers, shallow to deep.

    As many cells as layers are the layers. Otherwise reductions divide the depth evenly (DARTS: at a third and two
    thirds); one normal and one reduction cell, as DARTS has them, are repeated over three sections.

    Raises:
      GenotypeError: where the cells don't alternate between sections of one normal cell and reductions, or there are
        fewer layers than cells.
    """
    kinds = [cell.kind for cell in self.cells]
    names = [cell.name for cell in self.cells]
    if LAYER in kinds:
      raise GenotypeError("genotype: layers of a chain; config.space.name allows cells")
    if len(names) == layers:
      return tuple(names)
    if sorted(kinds) == [NORMAL, REDUCTION]:
      normal, reduction = names[kinds.index(NORMAL)], names[kinds.index(REDUCTION)]
      names = [normal, reduction, normal, reduction, normal]
    elif kinds != [NORMAL, *[REDUCTION, NORMAL] * (len(kinds) // 2)]:
      raise GenotypeError(
        f"cells: the kinds {', '.join(kinds)} can't be laid out; allowed are normal cells with one "
        "reduction between each two, or one cell of each kind"
      )
    return section_layout(names, layers)

  def to_json(self) -> str:
    """The text of `genotype.json`."""
    if self.space == spaces.MOBILE:
      names = [cell.candidates[0][0] for cell in self.cells]
      value = {"format": FORMAT, "version": CHAIN_VERSION, "space": spaces.MOBILE, "layers": names}
      return json.dumps(value) + "\n"

    def node(cell: CellSpec, target: int) -> str:
      return ", ".join(json.dumps([ops[0], s]) for s, t, ops in cell.connections if t == target)

    lines = ",\n".join(
      f'  {{"name": {json.dumps(c.name)}, "kind": "{c.kind}", "nodes": [\n    '
      + ",\n    ".join(f"[{node(c, t)}]" for t in range(2, c.nodes + 2))
      + f'], "concat": {json.dumps(list(c.concat))}}}'
      for c in self.cells
    )
    return f'{{"format": "{FORMAT}", "version": {VERSION}, "cells": [\n{lines}\n]}}\n'

  def _repr_html_(self) -> str:
    """Its cells, drawn, as a notebook shows them."""
    import lfr_darts_jax  # Which looks up on demand what draws, since that lies floors above.

    html: str = lfr_darts_jax.in_notebook(self)
    return html


def section_layout(names: Sequence[str], layers: int) -> tuple[str, ...]:
  """Lays out normal and reduction cells in turn so that the reductions divide the depth evenly.

  Args:
    names: normal, reduction, normal, ..., normal; shallow to deep.
    layers: depth of the network in cells.

  Raises:
    GenotypeError: where a section would be left without its normal cell.
  """
  sections = len(names) // 2 + 1
  reductions = [i * layers // sections for i in range(1, sections)]
  layout: list[str] = []
  for layer in range(layers):
    section = sum(r < layer for r in reductions)
    layout.append(names[2 * section + (layer in reductions)])
  if not set(names) <= set(layout):
    raise GenotypeError(f"layers: {layers} are too few to hold the cells {', '.join(names)}")
  return tuple(layout)


def parse_json(text: str) -> Genotype:
  """Reads `genotype.json`, which may come from anybody, as data.

  Raises:
    GenotypeError: with one line that says what is wrong.
  """
  return from_json(decode_json(text))


def decode_json(text: str, start: int | None = None) -> Any:
  """The JSON of a text, or what begins at an offset of it, whatever follows; errors as of `parse_json`."""
  decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
  try:
    value = decoder.decode(text) if start is None else decoder.raw_decode(text, start)[0]
    if "\\u" in text:  # Alone such an escape may spell half a character.
      json.dumps(value, ensure_ascii=False).encode()
  except RecursionError:
    raise GenotypeError("genotype: nested too deeply; allowed is JSON of fewer levels") from None
  except UnicodeEncodeError:
    raise GenotypeError("genotype: half of a surrogate pair; allowed is text that UTF-8 can express") from None
  except ValueError as error:
    raise GenotypeError(f"genotype: {error}; allowed is JSON") from None
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  value = dict(pairs)
  if len(value) < len(pairs):
    ((name, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
    raise ValueError(f"the key {short(name)} stands twice in one object")
  return value


def _refuse(constant: str) -> None:
  raise ValueError(f"{constant} is no number of JSON")


def chain(names: Sequence[Any]) -> Genotype:
  """The genotype of a chain whose layers, shallow to deep, have these operations.

  Raises:
    GenotypeError: where one of them is none of a chain.
  """
  for i, name in enumerate(names):
    if name != IDENTITY and not (isinstance(name, str) and block(name)):
      raise GenotypeError(f"layers[{i}]: {short(name)}; allowed are {IDENTITY} and blocks such as mb6_k5")
  return Genotype(tuple(CellSpec.layer(f"l{i}", (name,)) for i, name in enumerate(names)))


def _chain_from_json(value: dict[str, Any]) -> Genotype:
  unknown, layers = set(value) - {"format", "version", "space", "layers"}, value.get("layers")
  if unknown:
    raise GenotypeError(f"genotype: unknown key {short(min(unknown))}; allowed are format, version, space, layers")
  if value.get("space") != spaces.MOBILE:
    raise GenotypeError(f'genotype: "space": {short(value.get("space"))}; allowed is {spaces.MOBILE}')
  if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_CELLS:
    raise GenotypeError(f'genotype: "layers" must be a list of 1 to {MAX_CELLS} names')
  return chain(layers)


def from_json(value: dict[str, Any]) -> Genotype:
  """The genotype of what `genotype.json` holds; errors as of `parse_json`."""
  if value.get("format") == FORMAT and value.get("version") == CHAIN_VERSION:
    return _chain_from_json(value)
  if value.get("format") != FORMAT or value.get("version") != VERSION:
    raise GenotypeError(
      f'genotype: "format" and "version" must be "{FORMAT}" and {VERSION} or {CHAIN_VERSION}, not '
      f"{short(value.get('format'))} and {short(value.get('version'))}"
    )
  entries = value.get("cells")
  if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CELLS:
    raise GenotypeError(f'genotype: "cells" must be a list of 1 to {MAX_CELLS} cells')
  cells: list[CellSpec] = []
  for i, entry in enumerate(entries):
    if not isinstance(entry, dict):
      raise GenotypeError(f"cells[{i}]: {short(entry)} is not an object")
    unknown = set(entry) - {"name", "kind", "nodes", "concat"}
    if unknown:
      raise GenotypeError(f"cells[{i}]: unknown key {short(min(unknown))}; allowed are name, kind, nodes, concat")
    name, nodes = check_name(entry.get("name")), entry.get("nodes")
    if not isinstance(nodes, list):
      raise GenotypeError(f"cells[{i}].nodes: {short(nodes)} is not a list of nodes")
    cells.append(derived_cell(name, entry.get("kind"), nodes, entry.get("concat")))
  return of_cells(cells)


def of_cells(cells: Sequence[CellSpec]) -> Genotype:
  """The genotype of derived cells.

  Raises:
    GenotypeError: where two have one name, or they are too many.
  """
  ((name, count),) = collections.Counter(cell.name for cell in cells).most_common(1)
  if count > 1:
    raise GenotypeError(f"cells: {short(name)} names an earlier cell too; allowed are names of one cell each")
  if len(cells) > MAX_CELLS:
    raise GenotypeError(f"cells: {len(cells)}; allowed are 1 to {MAX_CELLS}")
  return Genotype(tuple(cells))


def derived_cell(name: str, kind: Any, nodes: Sequence[Any], concat: Any) -> CellSpec:
  """Makes a derived cell of what was parsed.

  Args:
    name: of the cell.
    kind: of the cell.
    nodes: for every node its [operation, source] pairs; the same pair may stand there twice.
    concat: the states whose features are the output.

  Raises:
    GenotypeError: where it is no cell.
  """
  if kind not in (NORMAL, REDUCTION):
    raise GenotypeError(f"{name}.kind: {short(kind)}; allowed are {NORMAL}, {REDUCTION}")
  if not 1 <= len(nodes) <= MAX_NODES:
    raise GenotypeError(f"{begins(nodes)}{name}.nodes: {len(nodes)} nodes; allowed are 1 to {MAX_NODES}")
  chosen: dict[tuple[int, int], tuple[str, ...]] = {}
  for target, node in enumerate(nodes, 2):
    if not isinstance(node, (list, tuple)) or not node:
      raise GenotypeError(f"{begins(node)}{name}: node {target} must list at least one [operation, source]")
    for i, pair in enumerate(node):
      if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
        raise GenotypeError(
          f"{begins(node, i)}{name}: node {target} has {short(pair)}, which is no [operation, source]"
        )
      operation, state = pair
      if operation not in OPERATION_NAMES or operation == NONE:
        known = ", ".join(name for name in OPERATION_NAMES if name != NONE)
        what = f"{short(operation)}{', which is no connection' if operation == NONE else ''}"
        raise GenotypeError(f"{begins(pair, 0)}{name}: node {target} names the operation {what}; allowed are {known}")
      if type(state) is not int or not 0 <= state < target:
        raise GenotypeError(
          f"{begins(pair, 1)}{name}: node {target} reads state {short(state)}; allowed are 0 to {target - 1}"
        )
      chosen[state, target] = (*chosen.get((state, target), ()), operation)
  last = len(nodes) + 1
  if (
    not isinstance(concat, (list, tuple))
    or not concat
    or not all(type(c) is int and 2 <= c <= last for c in concat)
    or len(set(concat)) != len(concat)
  ):
    raise GenotypeError(
      f"{begins(concat)}{name}.concat: {short(concat)}; allowed are distinct states out of 2 to {last}"
    )
  if sum(map(len, chosen.values())) > MAX_CONNECTIONS:
    raise GenotypeError(f"{begins(nodes)}{name}: more than {MAX_CONNECTIONS} operations; allowed are so many")
  parallel = any(len(operations) > 1 for operations in chosen.values())
  candidates = tuple(chosen.get(edge, ()) for edge in edges(len(nodes)))
  return CellSpec(name, kind, candidates, tuple(concat), parallel)
