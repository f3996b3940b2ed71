import itertools
import xml.etree.ElementTree

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch
import numpy as np
import pytest

from lfr_darts_jax.models.operations import OPERATIONS
from lfr_darts_jax.report import cell_graph, drawing
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges

CHOICES = [name for name in OPERATIONS if name != "none"]


def random_cell(seed):
  """A derived cell of 1 to 7 nodes, each with one or two edges; every other one has up to three operations on each."""
  rng = np.random.default_rng(seed)
  nodes = int(rng.integers(1, 8))
  candidates = {edge: () for edge in edges(nodes)}
  for target in range(2, nodes + 2):
    for source in rng.choice(target, size=rng.integers(1, 3), replace=False):
      candidates[int(source), target] = tuple(map(str, rng.choice(CHOICES, rng.integers(1, 4) if seed % 2 else 1)))
  concat = tuple(sorted(int(c) for c in rng.choice(np.arange(2, nodes + 2), rng.integers(1, nodes + 1), replace=False)))
  return CellSpec("n0", str(rng.choice(["normal", "reduction"])), tuple(candidates.values()), concat, seed % 2 == 1)


def overlap(a, b):
  return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def extents(figure):
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  (axes,) = figure.axes
  renderer = canvas.get_renderer()
  texts = [(t.get_text(), t.get_window_extent(renderer)) for t in axes.texts]
  boxes = [p.get_window_extent(renderer) for p in axes.patches if not isinstance(p, FancyArrowPatch)]
  return texts, boxes, figure.bbox


@pytest.mark.parametrize("seed", range(50))
def test_no_two_labels_of_a_random_cell_overlap(seed):
  spec = random_cell(seed)
  texts, boxes, page = extents(drawing.cell(spec))
  assert sorted(t for t, _ in texts) == sorted(
    [*cell_graph.INPUTS, cell_graph.OUTPUT]
    + [str(t) for t in range(2, spec.nodes + 2)]
    + [ops[0] for _, _, ops in spec.connections]
  )
  for (_, a), (_, b) in itertools.combinations(texts, 2):
    assert not overlap(a, b)
  for a, b in itertools.combinations(boxes, 2):
    assert not overlap(a, b)
  for name, text in texts:
    assert sum(b.x0 < text.x0 and text.x1 < b.x1 and b.y0 < text.y0 and text.y1 < b.y1 for b in boxes) == 1, name
    assert page.x0 <= text.x0 and text.x1 <= page.x1 and page.y0 <= text.y0 and text.y1 <= page.y1


@pytest.mark.parametrize("seed", range(50))
def test_no_line_of_a_random_cell_crosses_a_box(seed):
  laid_out = cell_graph.lay_out(random_cell(seed))
  for line in laid_out.lines:
    curve = drawing.smooth(line).interpolated(1).to_polygons(closed_only=False)[0]
    dense = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(curve)])
    for box in laid_out.boxes:
      inside = (np.abs(dense[:, 0] - box.x) < box.width / 2 - 1e-6) & (np.abs(dense[:, 1] - box.y) < box.height / 2)
      assert not inside.any()


def test_every_connection_is_drawn():
  spec = formats.DARTS_V2.cells[0]
  laid_out = cell_graph.lay_out(spec)
  # Two lines per operation, and one from every node to the output.
  assert len(laid_out.lines) == 2 * 8 + 4
  at = lambda point: next(
    b.label for b in laid_out.boxes if abs(point[1] - b.y) < 1e-6 and abs(abs(point[0] - b.x) - b.width / 2) < 1e-6
  )
  assert sorted((at(line[0]), at(line[-1])) for line in laid_out.lines) == sorted(
    [("c(k-2)", "sep_conv_3x3")] * 2
    + [("c(k-1)", "sep_conv_3x3")] * 3
    + [("sep_conv_3x3", "2")] * 2
    + [("sep_conv_3x3", "3")] * 2
    + [("sep_conv_3x3", "4"), ("skip_connect", "4"), ("skip_connect", "5"), ("dil_conv_3x3", "5")]
    + [("c(k-2)", "skip_connect")] * 2
    + [("2", "dil_conv_3x3")]
    + [(str(n), "c(k)") for n in (2, 3, 4, 5)]
  )


def test_files_are_svg_and_png_and_the_same_every_time(tmp_path):
  paths = drawing.save_all(tmp_path / "a", formats.DARTS_V2.cells)
  assert [p.name for p in paths] == ["normal.svg", "normal.png", "reduction.svg", "reduction.png"]
  assert xml.etree.ElementTree.parse(paths[0]).getroot().tag.endswith("svg")
  assert paths[1].read_bytes().startswith(b"\x89PNG")
  again = drawing.save_all(tmp_path / "b", formats.DARTS_V2.cells)
  assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]


def test_labels_of_a_network_stay_apart():
  layout = formats.DARTS_V2.layout(20)
  features = [(32, 48, 144)] * 6 + [(16, 24, 288)] * 7 + [(8, 12, 576)] * 7
  texts, boxes, page = extents(drawing.network(layout, formats.DARTS_V2.cells, features))
  assert [t for t, _ in texts][:3] == ["image", "stem", "normal"] and len(boxes) == 23
  assert texts[-1][0] == "8\u00d712\n576 features"
  for (_, a), (_, b) in itertools.combinations(texts, 2):
    assert not overlap(a, b)
  assert all(page.x0 <= t.x0 and t.x1 <= page.x1 for _, t in texts)
  for name, text in texts[:23]:
    assert any(b.x0 < text.x0 and text.x1 < b.x1 for b in boxes), name
