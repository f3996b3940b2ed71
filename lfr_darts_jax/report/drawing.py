"""Drawings of cells and networks, as SVG and PNG."""

from collections.abc import Sequence
import io
import itertools

from matplotlib.axes import Axes
import matplotlib.figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
import matplotlib.path

from lfr_darts_jax.report import cell_graph
from lfr_darts_jax.runtime import paths
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search_space.cell_spec import LAYER, REDUCTION, CellSpec
from lfr_darts_jax.search_space.operation_names import IDENTITY

FONT_SIZE, DPI = 9.0, 144
# A family of operations to its colour, by the start of its name; after Okabe and Ito, safe for the colour-blind.
FAMILIES = {
  "sep_conv": "#bcdcf4",
  "dil_conv": "#a6e0cd",
  "max_pool": "#f9d49a",
  "avg_pool": "#f7efa1",
  "skip_connect": "#e0e0e0",
  IDENTITY: "#e0e0e0",
  "mb": "#bcdcf4",
  "conv": "#eccbdf",
}
OTHER, STATE, INK = "#ffffff", "#33475b", "#22303c"
NORMAL, REDUCING = "#d6e6f5", "#f7cfa8"


def family_colour(operation: str) -> str:
  """The fill of an operation's box."""
  return next((colour for start, colour in FAMILIES.items() if operation.startswith(start)), OTHER)


def cell(spec: CellSpec) -> matplotlib.figure.Figure:
  """Draws a derived cell: its states, and the operation on every edge."""
  laid_out = cell_graph.lay_out(spec)
  figure, axes = _canvas(laid_out.width, laid_out.height)
  for line in laid_out.lines:
    axes.add_patch(FancyArrowPatch(path=smooth(line), arrowstyle="-|>", mutation_scale=8, color=INK, linewidth=0.9))
  for box in laid_out.boxes:
    is_state = box.kind == "state"
    _box(axes, box, STATE if is_state else family_colour(box.label), "white" if is_state else INK)
  return figure


def network(
  layout: Sequence[str], cells: Sequence[CellSpec], features: Sequence[tuple[int, int, int]] = ()
) -> matplotlib.figure.Figure:
  """Draws a network from image to classifier: a box per layer, the higher the larger its features.

  Args:
    layout: names of its layers, shallow to deep.
    cells: their cells; layers of a chain are called by their operations.
    features: of every layer's output, (height, width in pixels, number); none where they are not known.
  """
  specs = {spec.name: spec for spec in cells}
  labels = [" | ".join(specs[n].candidates[0]) if specs[n].kind == LAYER else n for n in layout]
  sizes = [height for height, _, _ in features] or [1] * len(layout)
  width = max(0.5, *map(cell_graph.label_width, labels))
  layers = [
    (label, width, 0.32 + 1.2 * size / max(sizes), _layer_colour(specs[name]))
    for label, name, size in zip(labels, layout, sizes, strict=True)
  ]
  end = lambda label: (label, 0.9, cell_graph.HEIGHT, STATE)
  parts = [end("image"), end("stem"), *layers, end("classifier")]
  gap, middle, x, boxes = 0.16, 1.5, 0.16, []
  for label, width, height, _ in parts:
    boxes.append(cell_graph.Box(label, "layer", x + width / 2, middle, width, height))
    x += width + gap
  figure, axes = _canvas(x, 2.35)
  for box, (_, _, _, colour) in zip(boxes, parts, strict=True):
    _box(axes, box, colour, "white" if colour == STATE else INK)
  for left, right in itertools.pairwise(boxes):
    ends = (left.x + left.width / 2, middle), (right.x - right.width / 2, middle)
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=7, color=INK, shrinkA=0, shrinkB=0))
  if features:
    _mark_sections(axes, boxes[2:-1], features)
  return figure


def _layer_colour(spec: CellSpec) -> str:
  if spec.kind == LAYER:
    return family_colour(spec.candidates[0][0])
  return REDUCING if spec.kind == REDUCTION else NORMAL


def _mark_sections(axes: Axes, boxes: Sequence[cell_graph.Box], features: Sequence[tuple[int, int, int]]) -> None:
  """Underlines the layers with features of one size, and names it."""
  for (height, width, channels), stage in itertools.groupby(
    zip(boxes, features, strict=True), key=lambda pair: pair[1]
  ):
    here = [box for box, _ in stage]
    left, right = here[0].x - here[0].width / 2, here[-1].x + here[-1].width / 2
    axes.plot([left, right], [0.62, 0.62], color=INK, linewidth=0.8)
    text = f"{height}\u00d7{width}\n{channels}" + (" features" if len(here) > 1 else "")
    axes.text((left + right) / 2, 0.54, text, ha="center", va="top", fontsize=FONT_SIZE - 1.5, color=INK)


def pictures(cells: Sequence[CellSpec]) -> dict[str, matplotlib.figure.Figure]:
  """The pictures of a genotype by name: one per cell, or that of a chain."""
  if cells and cells[0].kind == LAYER:
    return {"chain": network([spec.name for spec in cells], cells)}
  return {spec.name: cell(spec) for spec in cells}


def save_all(folder: Path, cells: Sequence[CellSpec]) -> list[Path]:
  """Writes every picture of a genotype as NAME.svg and NAME.png; returns the paths."""
  paths.make_folder(folder)
  written: list[Path] = []
  for name, figure in pictures(cells).items():
    for kind in ("svg", "png"):
      path = folder / f"{name}.{kind}"
      paths.write_atomically(path, render(figure, kind))
      written.append(path)
  return written


def render(figure: matplotlib.figure.Figure, kind: str) -> bytes:
  """A figure as "svg" or "png"; the same figure gives the same bytes."""
  file = io.BytesIO()
  with matplotlib.rc_context({"svg.hashsalt": "lfr-darts"}):
    figure.savefig(file, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
  return file.getvalue()


def _canvas(width: float, height: float) -> tuple[matplotlib.figure.Figure, Axes]:
  # Without pyplot there is no global state, and no display is needed.
  figure = matplotlib.figure.Figure(figsize=(width, height))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, width), ylim=(0, height))
  axes.axis("off")
  return figure, axes


def _box(axes: Axes, box: cell_graph.Box, colour: str, ink: str) -> None:
  corner = box.x - box.width / 2, box.y - box.height / 2
  rounding = min(0.08, box.height / 2)
  style = f"round,pad=0,rounding_size={rounding}"
  axes.add_patch(
    FancyBboxPatch(corner, box.width, box.height, boxstyle=style, facecolor=colour, edgecolor=INK, linewidth=0.7)
  )
  axes.text(box.x, box.y, box.label, ha="center", va="center_baseline", fontsize=FONT_SIZE, color=ink, zorder=3)


def smooth(points: Sequence[tuple[float, float]]) -> matplotlib.path.Path:
  """A path through points (x, y) that is horizontal in each."""
  path = matplotlib.path.Path
  vertices, codes = [points[0]], [path.MOVETO]
  for (x0, y0), (x1, y1) in itertools.pairwise(points):
    middle = (x0 + x1) / 2
    vertices += [(middle, y0), (middle, y1), (x1, y1)]
    codes += [path.CURVE4] * 3
  return path(vertices, codes)
