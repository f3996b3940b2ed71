"""Where the parts of a drawn cell go: a layered layout (Sugiyama, Tagawa and Toda, 1981) in which nothing overlaps.

From left to right the columns are: the cell's inputs; the operations into the nodes that need nothing but inputs; these
nodes; the operations into the nodes behind them; and so on to the output. A line that passes a column has a row of its
own there, so that it meets neither boxes nor labels.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools

import igraph

from lfr_darts_jax.search_space.cell_spec import CellSpec

INPUTS, OUTPUT = ("c(k-2)", "c(k-1)"), "c(k)"  # As DARTS's figures name them: outputs of layers, k being this one.
CHARACTER, PADDING = 0.082, 0.22  # Inches per character of a label, and around it.
Point = tuple[float, float]
HEIGHT, ROW, GAP = 0.28, 0.42, 0.42  # Inches: of a box, from row to row, between columns.


@dataclasses.dataclass(frozen=True)
class Box:
  """A labelled box: an input, a node, an operation or the output.

  Attributes:
    label: its text.
    kind: "state" or "operation".
    x, y: its centre, in inches from the lower left corner of the drawing.
    width, height: in inches.
  """

  label: str
  kind: str
  x: float
  y: float
  width: float
  height: float = HEIGHT


@dataclasses.dataclass(frozen=True)
class Graph:
  """A cell laid out.

  Attributes:
    boxes: inputs, nodes, operations and the output.
    lines: each the points (x, y) that a line passes, between the sides of two boxes; horizontal in every point.
    width, height: of the drawing, in inches.
  """

  boxes: tuple[Box, ...]
  lines: tuple[tuple[tuple[float, float], ...], ...]
  width: float
  height: float


def lay_out(cell: CellSpec) -> Graph:
  """Lays out a derived cell."""
  labels, kinds, columns, arrows = _vertices(cell)
  chains, columns = _with_passages(columns, arrows)
  rows = _rows(columns, chains)
  widths = [
    max((label_width(t) for t, c in zip(labels, columns, strict=False) if c == i), default=0.0) for i in set(columns)
  ]
  centres, x = [], GAP / 2
  for width in widths:
    centres.append(x + width / 2)
    x += width + GAP
  top = max(rows)
  height = (top + 1) * ROW
  at = lambda vertex: (centres[columns[vertex]], (top - rows[vertex] + 0.5) * ROW)
  boxes = tuple(
    Box(label, kind, *at(vertex), widths[columns[vertex]] if kind == "operation" else label_width(label))
    for vertex, (label, kind) in enumerate(zip(labels, kinds, strict=True))
  )
  lines = tuple(_line(chain, at, boxes, widths, columns) for chain in chains)
  return Graph(boxes, lines, x - GAP / 2, height)


def label_width(label: str) -> float:
  """Inches that a box needs for its label."""
  return CHARACTER * len(label) + PADDING


def _vertices(cell: CellSpec) -> tuple[list[str], list[str], list[int], list[tuple[int, int]]]:
  """Labels, kinds and columns of all boxes, and the arrows between them as pairs of their indices."""
  depth = {0: 0, 1: 0}
  for target in range(2, cell.nodes + 2):
    depth[target] = 1 + max((depth[s] for s, t, _ in cell.connections if t == target), default=0)
  labels = [*INPUTS, *(str(t) for t in range(2, cell.nodes + 2))]
  kinds = ["state"] * len(labels)
  columns = [2 * depth[state] for state in range(len(labels))]
  arrows = []
  for source, target, operations in cell.connections:
    arrows += [(source, len(labels)), (len(labels), target)]
    labels.append(" | ".join(operations))
    kinds.append("operation")
    columns.append(columns[target] - 1)
  arrows += [(state, len(labels)) for state in cell.concat]
  labels.append(OUTPUT)
  kinds.append("state")
  columns.append(max(columns) + 1)
  return labels, kinds, columns, arrows


def _with_passages(
  columns: Sequence[int], arrows: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, ...]], list[int]]:
  """Adds a vertex for every column that an arrow passes; returns each arrow's chain of vertices, and all columns."""
  columns, chains = list(columns), []
  for source, target in arrows:
    passages = range(len(columns), len(columns) + columns[target] - columns[source] - 1)
    columns += range(columns[source] + 1, columns[target])
    chains.append((source, *passages, target))
  return chains, columns


def _rows(columns: Sequence[int], chains: Sequence[tuple[int, ...]]) -> list[float]:
  links = [pair for chain in chains for pair in itertools.pairwise(chain)]
  layout = igraph.Graph(len(columns), links, directed=True).layout_sugiyama(layers=columns, hgap=1)
  lowest = min(row for row, _ in layout)
  rows = [row - lowest for row, _ in layout]
  # In some cells with many lines igraph puts two vertices of a column less than a row apart, or in the same place.
  free: dict[int, float] = {}
  for vertex in sorted(range(len(rows)), key=rows.__getitem__):
    rows[vertex] = max(rows[vertex], free.get(columns[vertex], 0.0))
    free[columns[vertex]] = rows[vertex] + 1
  return rows


def _line(
  chain: Sequence[int],
  at: Callable[[int], Point],
  boxes: Sequence[Box],
  widths: Sequence[float],
  columns: Sequence[int],
) -> tuple[Point, ...]:
  points = []
  for vertex in chain:
    x, y = at(vertex)
    half = (boxes[vertex].width if vertex < len(boxes) else widths[columns[vertex]]) / 2
    # A passage is crossed along its row; a box is left and entered at its sides.
    points += [(x + half, y)] if vertex == chain[0] else [(x - half, y), (x + half, y)]
  return tuple(points[:-1])
