"""Cells as sets of candidates, layered genotypes, and their text forms.

A cell is a set of candidates: per edge, the operations still alive. Full sets are the DARTS search space, one operation
per kept edge is a derived cell. A layered genotype is a sequence of derived cells, shallow to deep.
"""

import ast
from collections.abc import Sequence
import dataclasses
import json
import re
from typing import Any
import warnings

import numpy as np

from lfr_darts_jax import reading
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.operations import OPERATIONS

NORMAL, REDUCTION = "normal", "reduction"
FORMAT, VERSION = "lfr-darts-genotype", 1
# As many nodes as `search.nodes` allows: a picture of a full cell with more has too many pixels to be drawn.
MAX_CHARACTERS, MAX_NODES, MAX_CELLS = 1_000_000, 16, 64


class GenotypeError(UsageError):
  """A genotype that can't be read or laid out."""


def edges(nodes: int) -> list[tuple[int, int]]:
  """(source, target) states of a cell's edges, by target then source; states 0 and 1 are the cell's inputs."""
  return [(source, target) for target in range(2, nodes + 2) for source in range(target)]


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell's candidates.

  Attributes:
    name: its name in layouts, such as "n0".
    kind: "normal" or "reduction".
    candidates: for every edge, in the order of `edges`, the operations alive.
    concat: the states whose features are the cell's output.

  Raises:
    GenotypeError: where the name is not one of 1 to 32 letters, digits and underscores.
  """

  name: str
  kind: str
  candidates: tuple[tuple[str, ...], ...]
  concat: tuple[int, ...]

  def __post_init__(self):
    _checked_name(self.name)

  @classmethod
  def full(cls, name: str, kind: str, nodes: int, operations: Sequence[str]) -> "Cell":
    """The whole search space on every edge."""
    return cls(name, kind, (tuple(operations),) * len(edges(nodes)), tuple(range(2, nodes + 2)))

  @property
  def nodes(self) -> int:
    """Number of intermediate nodes."""
    return next(n for n in range(1, MAX_NODES + 1) if len(edges(n)) >= len(self.candidates))

  @property
  def connections(self) -> list[tuple[int, int, tuple[str, ...]]]:
    """(source, target, operations alive) of the edges that have any."""
    return [(*edge, alive) for edge, alive in zip(edges(self.nodes), self.candidates, strict=False) if alive]

  @property
  def derived(self) -> bool:
    """Whether every edge has at most one operation, so that there is nothing left to choose."""
    return all(len(alive) <= 1 for alive in self.candidates)

  def live(self, operations: Sequence[str]) -> np.ndarray:
    """`[edges, len(operations)]` bool: which operations each edge still has."""
    return np.array([[name in alive for name in operations] for alive in self.candidates])

  def count(self, operation: str) -> int:
    """How many edges have the operation among their candidates."""
    return sum(operation in alive for alive in self.candidates)

  def __str__(self) -> str:
    node = lambda t: " + ".join(f"{'|'.join(ops)}({s})" for s, target, ops in self.connections if target == t)
    return f"{self.name} {self.kind}: " + ", ".join(f"{t} = {node(t)}" for t in range(2, self.nodes + 2))


@dataclasses.dataclass(frozen=True)
class Genotype:
  """A layered genotype: derived cells, shallow to deep."""

  cells: tuple[Cell, ...]

  def layout(self, layers: int) -> tuple[str, ...]:
    """Names of the cells of a network with `layers` layers, shallow to deep.

    Reductions divide the depth evenly (DARTS: at a third and two thirds). One normal and one reduction cell, as DARTS
    has them, are repeated over three stages.

    Raises:
      GenotypeError: where the cells don't alternate between stages of one normal cell and reductions, or there are
        fewer layers than cells.
    """
    kinds = [cell.kind for cell in self.cells]
    names = [cell.name for cell in self.cells]
    if sorted(kinds) == [NORMAL, REDUCTION]:
      normal, reduction = names[kinds.index(NORMAL)], names[kinds.index(REDUCTION)]
      names = [normal, reduction, normal, reduction, normal]
    elif kinds != [NORMAL, *[REDUCTION, NORMAL] * (len(kinds) // 2)]:
      raise GenotypeError(
        f"cells: the kinds {', '.join(kinds)} can't be laid out; allowed are normal cells with one "
        "reduction between each two, or one cell of each kind"
      )
    return staged_layout(names, layers)

  def to_json(self) -> str:
    """The text of `genotype.json`."""

    def node(cell, target):
      return ", ".join(json.dumps([ops[0], s]) for s, t, ops in cell.connections if t == target)

    lines = ",\n".join(
      f'  {{"name": {json.dumps(c.name)}, "kind": "{c.kind}", "nodes": [\n    '
      + ",\n    ".join(f"[{node(c, t)}]" for t in range(2, c.nodes + 2))
      + f'], "concat": {json.dumps(list(c.concat))}}}'
      for c in self.cells
    )
    return f'{{"format": "{FORMAT}", "version": {VERSION}, "cells": [\n{lines}\n]}}\n'

  def to_darts(self) -> str:
    """DARTS's `Genotype(normal=..., ...)` text.

    Raises:
      GenotypeError: where there is not just one cell of each kind.
    """
    if sorted(cell.kind for cell in self.cells) != [NORMAL, REDUCTION]:
      raise GenotypeError("cells: DARTS's format holds one normal and one reduction cell")
    by_kind = {cell.kind: cell for cell in self.cells}
    pairs = {kind: [(ops[0], s) for s, _, ops in by_kind[kind].connections] for kind in by_kind}
    return (
      f"Genotype(normal={pairs[NORMAL]}, normal_concat={list(by_kind[NORMAL].concat)}, "
      f"reduce={pairs[REDUCTION]}, reduce_concat={list(by_kind[REDUCTION].concat)})"
    )


def staged_layout(names: Sequence[str], layers: int) -> tuple[str, ...]:
  """Lays out normal and reduction cells in turn so that the reductions divide the depth evenly.

  Args:
    names: normal, reduction, normal, ..., normal; shallow to deep.
    layers: depth of the network in cells.

  Raises:
    GenotypeError: where a stage would be left without its normal cell.
  """
  stages = len(names) // 2 + 1
  reductions = [i * layers // stages for i in range(1, stages)]
  layout: list[str] = []
  for layer in range(layers):
    stage = sum(r < layer for r in reductions)
    layout.append(names[2 * stage + (layer in reductions)])
  if not set(names) <= set(layout):
    raise GenotypeError(f"layers: {layers} are too few to hold the cells {', '.join(names)}")
  return tuple(layout)


def parse(text: str) -> Genotype:
  """Reads `genotype.json` or DARTS's `Genotype(...)` text, as data: nothing is executed.

  Raises:
    GenotypeError: with one line that says what is wrong.
  """
  if len(text) > MAX_CHARACTERS:
    raise GenotypeError(f"genotype: {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
  if not text.lstrip().startswith("{"):
    return _from_darts(text)
  try:
    value = reading.parse_json(text, "genotype")
  except UsageError as error:
    raise GenotypeError(str(error)) from None
  return _from_json(value)


def _from_json(value: Any) -> Genotype:
  if value.get("format") != FORMAT or value.get("version") != VERSION:
    raise GenotypeError(
      f'genotype: "format" and "version" must be "{FORMAT}" and {VERSION}, not '
      f"{short(value.get('format'))} and {short(value.get('version'))}"
    )
  entries = value.get("cells")
  if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CELLS:
    raise GenotypeError(f'genotype: "cells" must be a list of 1 to {MAX_CELLS} cells')
  cells: list[Cell] = []
  for i, entry in enumerate(entries):
    if not isinstance(entry, dict):
      raise GenotypeError(f"cells[{i}]: {short(entry)} is not an object")
    unknown = set(entry) - {"name", "kind", "nodes", "concat"}
    if unknown:
      raise GenotypeError(f"cells[{i}]: unknown key {short(min(unknown))}; allowed are name, kind, nodes, concat")
    name = _checked_name(entry.get("name"))
    if name in [cell.name for cell in cells]:
      raise GenotypeError(f"cells[{i}].name: {short(name)} names an earlier cell too")
    nodes = entry.get("nodes")
    if not isinstance(nodes, list):
      raise GenotypeError(f"cells[{i}].nodes: {short(nodes)} is not a list of nodes")
    cells.append(_cell(name, entry.get("kind"), nodes, entry.get("concat")))
  return Genotype(tuple(cells))


def _checked_name(name: Any) -> str:
  # It names files and stands in pages.
  if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,32}", name):
    raise GenotypeError(f"cells.name: {short(name)}; allowed are 1 to 32 letters, digits and underscores")
  return name


def _from_darts(text: str) -> Genotype:
  # A call's name and keywords are read from the syntax tree; ast.literal_eval takes only literals.
  source = text.strip()
  match = re.match(r"^(?:\w+\s*=\s*)?(Genotype\s*\(.*\))$", source, re.DOTALL)
  if not match:
    raise GenotypeError("genotype: neither JSON nor a DARTS Genotype(...)")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # An odd escape in a string is worth no second line.
      call = ast.parse(match[1], mode="eval").body
  except (RecursionError, MemoryError):
    raise GenotypeError("genotype: nested too deeply; allowed are lists of pairs") from None
  except (SyntaxError, ValueError) as error:
    raise GenotypeError(f"genotype: neither JSON nor a DARTS Genotype(...): {error}") from None
  if not isinstance(call, ast.Call) or call.args:
    raise GenotypeError("genotype: Genotype(...) must have keyword arguments only")
  fields = {}
  for keyword in call.keywords:
    try:
      fields[keyword.arg] = _literal(keyword.value)
    except (ValueError, TypeError, RecursionError, MemoryError):
      raise GenotypeError(f"{keyword.arg}: not a literal list or range") from None
  wanted = {"normal", "normal_concat", "reduce", "reduce_concat"}
  if set(fields) != wanted or len(call.keywords) != len(wanted):
    raise GenotypeError(f"genotype: Genotype(...) must have the arguments {', '.join(sorted(wanted))}")
  cells = []
  for field, kind in (("normal", NORMAL), ("reduce", REDUCTION)):
    pairs = fields[field]
    if not isinstance(pairs, (list, tuple)) or len(pairs) % 2:
      raise GenotypeError(f"{field}: must list two (operation, source) pairs per node")
    nodes = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    cells.append(_cell("normal" if kind == NORMAL else "reduction", kind, nodes, fields[f"{field}_concat"]))
  return Genotype(tuple(cells))


def _literal(node: ast.expr) -> Any:
  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords:
    bounds = [ast.literal_eval(a) for a in node.args]
    if len(bounds) not in (1, 2) or not all(type(b) is int and abs(b) <= MAX_NODES + 2 for b in bounds):
      raise ValueError("range")
    return list(range(*bounds))
  return ast.literal_eval(node)


def _cell(name: str, kind: Any, nodes: Sequence[Any], concat: Any) -> Cell:
  if kind not in (NORMAL, REDUCTION):
    raise GenotypeError(f"{name}.kind: {short(kind)}; allowed are {NORMAL}, {REDUCTION}")
  if not 1 <= len(nodes) <= MAX_NODES:
    raise GenotypeError(f"{name}.nodes: {len(nodes)} nodes; allowed are 1 to {MAX_NODES}")
  alive: dict[tuple[int, int], tuple[str, ...]] = {}
  for target, node in enumerate(nodes, 2):
    if not isinstance(node, (list, tuple)) or not node:
      raise GenotypeError(f"{name}: node {target} must list at least one [operation, source]")
    for pair in node:
      if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise GenotypeError(f"{name}: node {target} has {short(pair)}, which is no [operation, source]")
      operation, state = pair
      if not isinstance(operation, str) or operation not in OPERATIONS or operation == "none":
        known = ", ".join(o for o in OPERATIONS if o != "none")
        raise GenotypeError(f"{name}: node {target} names the operation {short(operation)}; allowed are {known}")
      if type(state) is not int or not 0 <= state < target:
        raise GenotypeError(f"{name}: node {target} reads state {short(state)}; allowed are 0 to {target - 1}")
      if (state, target) in alive:
        raise GenotypeError(f"{name}: node {target} reads state {state} twice; one operation per edge is allowed")
      alive[state, target] = (operation,)
  last = len(nodes) + 1
  if (
    not isinstance(concat, (list, tuple))
    or not concat
    or not all(type(c) is int and 2 <= c <= last for c in concat)
    or len(set(concat)) != len(concat)
  ):
    raise GenotypeError(f"{name}.concat: {short(concat)}; allowed are distinct states out of 2 to {last}")
  return Cell(name, kind, tuple(alive.get(edge, ()) for edge in edges(len(nodes))), tuple(concat))


# The cells that DARTS publishes for CIFAR-10, second order (Liu et al., figures 4 and 5).
DARTS_V2 = parse("""Genotype(
  normal=[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
          ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
  normal_concat=[2, 3, 4, 5],
  reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
          ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
  reduce_concat=[2, 3, 4, 5])""")
BUILT_IN = {"DARTS_V2": DARTS_V2}
