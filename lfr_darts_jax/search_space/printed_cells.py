"""Cells as this program prints them: the lines that `str` makes, and what `repr` does; read again, as data."""

import re
from typing import Any

from lfr_darts_jax.errors import short
from lfr_darts_jax.search_space.cell_spec import MAX_NODES, CellSpec, GenotypeError, edges
from lfr_darts_jax.search_space.genotype import derived_cell
from lfr_darts_jax.search_space.literals import Call, Items, place, position, read

MAX_CELLS = 256  # Of a text, at its end: a log may hold those of many searches.
CELL = re.compile(
  r"(?P<seed>seed \d+ \| )?(?<!\w)(?P<name>\w{1,32}) (?P<kind>normal|reduction): (?=\d+ = )|(?<!\w)CellSpec\s*\("
)
NODE = re.compile(r"(?:, )?(\d{1,3}) = ([\w|]+\(\d{1,3}\)(?: \+ [\w|]+\(\d{1,3}\))*)")
PAIR = re.compile(r"([\w|]+)\((\d+)\)")
# Of a cell in a terminal's line figures follow; another cell may, where line breaks were lost.
END = re.compile(r"(?:; concat (\d{1,3}(?:, \d{1,3})*))?\s*(?:\||$|(?=\w{1,32} (?:normal|reduction): ))", re.MULTILINE)
FIELDS = ("name", "kind", "candidates", "concat", "parallel")


def of_text(text: str) -> tuple[list[CellSpec], bool]:
  """The cells of a text, of each name the last; and whether there were others.

  Raises:
    GenotypeError: with place, what was met there and what is allowed.
  """
  last: dict[str, tuple[re.Match[str], CellSpec | None]] = {}
  again = False
  for match in list(CELL.finditer(text))[-MAX_CELLS:]:
    at = "" if match["name"] else f"{place(text, match.start())}: "
    cell = of_call(read(text, match.start(), "CellSpec".__eq__), at) if at else None
    name = cell.name if cell else match["name"]
    again |= last.pop(name, None) is not None
    last[name] = match, cell
  if len({match["seed"] for match, _ in last.values()}) > 1:
    raise GenotypeError("genotype: cells of searches with different seeds; allowed are those of one")
  return [cell or _of_line(text, match) for match, cell in last.values()], again


def of_call(call: Any, at: str) -> CellSpec:
  """The cell of `CellSpec(...)`; `at` is what messages begin with; errors as of `of_text`."""
  given = call.bound(FIELDS) if isinstance(call, Call) and call.name == "CellSpec" else {}
  if not set(FIELDS[:4]) <= set(given) <= set(FIELDS):
    raise GenotypeError(f"{at}{short(call)}; allowed is CellSpec(...) with {', '.join(FIELDS)}")
  candidates, parallel = given["candidates"], given.get("parallel", False)
  sizes = {len(edges(nodes)): nodes for nodes in range(1, MAX_NODES + 1)}
  whole = isinstance(candidates, Items) and all(isinstance(left, Items) for left in candidates)
  if not whole or len(candidates) not in sizes or type(parallel) is not bool:
    raise GenotypeError(
      f"{at}candidates {short(candidates)}; allowed are operations of every edge of 1 to {MAX_NODES} nodes"
    )
  nodes: list[list[Any]] = [[] for _ in range(sizes[len(candidates)])]
  for (source, target), left in zip(edges(len(nodes)), candidates, strict=True):
    _check_derived(f"{left.begins}: ", given["name"], [] if parallel else left)
    nodes[target - 2] += [Items([op, source], [at] * 2, at) for op, at in zip(left, left.places, strict=True)]
  return derived_cell(given["name"], given["kind"], nodes, given["concat"])


def _of_line(text: str, head: re.Match[str]) -> CellSpec:
  name, end, nodes = head["name"], head.end(), list[Any]()
  line, column = position(text, head.start())
  while (node := NODE.match(text, end)) and int(node[1]) == len(nodes) + 2:
    nodes.append([])
    for pair in PAIR.finditer(text, node.start(2), node.end(2)):
      at, left = f"line {line}, column {column + pair.start() - head.start()}", pair[1].split("|")
      _check_derived(f"{at}: ", name, left)
      nodes[-1].append(Items([left[0], int(pair[2])], [at] * 2, at))
    end = node.end()
  found = END.match(text, end)
  if not found:
    met = short(text[end : end + 40].partition("\n")[0])
    raise GenotypeError(f"{place(text, end)}: {met} in cell {name}; allowed is 2 = OPERATION(STATE) + ..., 3 = ...")
  concat = [int(state) for state in found[1].split(", ")] if found[1] else list(range(2, len(nodes) + 2))
  return derived_cell(name, head["kind"], nodes, concat)


def _check_derived(at: str, name: Any, left: list[Any]) -> None:
  if len(left) > 1:
    raise GenotypeError(
      f"{at}{short(name)} has {short(left)} on one edge; allowed are derived cells, with one operation"
    )
