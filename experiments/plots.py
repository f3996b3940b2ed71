"""The plots of a study."""

from collections.abc import Sequence
import itertools

from matplotlib.figure import Figure
import numpy as np

from experiments import figures
from experiments.lines import Line
from experiments.methods import METHODS
from lfr_darts_jax.fields import DARTS_OPERATIONS

# Okabe and Ito's colours, safe for the colour-blind; markers tell more methods apart than there are colours.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#999999", "#E69F00", "#000000")
MARKERS = ("o", "v", "s", "D", "^", "x", "+", "*")


def errors(results: Sequence[Line], key: str, label: str) -> Figure:
  """Test error of every seed against a value of its line; methods without such a value stand at zero."""
  figure = Figure(figsize=(8, 4.2), layout="constrained")
  axes = figure.subplots()
  # Of all methods, so that one looks alike in every study.
  for method, colour, marker in zip(METHODS, itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False):
    if x := figures.of(results, method, key):
      axes.plot(x, figures.of(results, method, "test_error"), marker, color=colour, label=method, markersize=7)
  axes.set(xlabel=label, ylabel="test error, %")
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
  return figure


def operations(results: Sequence[Line]) -> Figure:
  """The operations of every stage's cell, method by method, in the mean over the seeds."""
  shown = [method for method in METHODS if figures.of(results, method, "seed")]
  columns = min(len(shown), 4)
  rows = -(-len(shown) // columns)
  figure = Figure(figsize=(2.75 * columns, 2.6 * rows + 0.6), layout="constrained")
  grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
  found = [figures.operations(results, method) for method in shown]
  others = {name: None for counts in found for cell in counts.values() for name in cell}
  names = [name for name in {**dict.fromkeys(DARTS_OPERATIONS), **others} if name != "none"]
  for axes, method, counts in zip(grid.flat, shown, found, strict=False):
    bottom = np.zeros(len(counts))
    for name, colour in zip(names, itertools.cycle(COLOURS), strict=False):
      own = np.array([cell.get(name, 0.0) for cell in counts.values()])
      axes.bar(list(counts), own, bottom=bottom, color=colour, width=0.75)
      bottom += own
    axes.set_title(method, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
  for axes in list(grid.flat)[len(shown) :]:
    axes.axis("off")
  handles = [grid[0, 0].bar(0, 0, color=colour) for _, colour in zip(names, itertools.cycle(COLOURS), strict=False)]
  figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
  return figure
