"""Curves of a run: how the alphas of a cell developed, losses and accuracies."""

from collections.abc import Iterator, Mapping, Sequence
import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import numpy as np

from lfr_darts_jax.report.run_data import AlphaHistory, Scalars

# Okabe and Ito's colours, safe for the colour-blind; with line styles they tell ten operations apart.
COLOURS = ("#999999", "#D55E00", "#E69F00", "#000000", "#56B4E9", "#0072B2", "#009E73", "#CC79A7")
STYLES = ("-", "--")
PANELS_PER_ROW = 5


def alphas(history: AlphaHistory, operations: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Figure:
  """The softmax of a cell's alphas over the steps, one panel per edge, prunings marked.

  Args:
    history: how they developed.
    operations: names of the columns.
    pairs: (source, target) of the cell's edges.
  """
  rows = -(-len(pairs) // PANELS_PER_ROW)
  figure = Figure(figsize=(11, 1.5 * rows + 0.9), layout="constrained")
  grid = figure.subplots(rows, PANELS_PER_ROW, sharex=True, sharey=True, squeeze=False)
  for axes, (row, (source, target)) in zip(grid.flat, enumerate(pairs), strict=False):
    for column, style in zip(range(len(operations)), _styles(), strict=False):
      mixture = history.mixtures[:, row, column]
      axes.plot(history.steps, np.where(mixture > 0, mixture, np.nan), **style, linewidth=1.3, marker=_marker(history))
    _mark(axes, history.prunings)
    axes.set_title(f"{_state(source)} \u2192 {target}", fontsize=9)
    _tidy(axes)
  for axes in list(grid.flat)[len(pairs) :]:
    axes.axis("off")
  handles = [Axes.plot(grid[0, 0], [], [], **s)[0] for _, s in zip(operations, _styles(), strict=False)]
  figure.legend(
    handles, operations, loc="outside lower center", ncols=min(len(operations), 4), fontsize=8, frameon=False
  )
  return figure


def certainty(history: AlphaHistory, operations: Sequence[str]) -> Figure:
  """How uncertain the alphas of a cell are, and how many edges each operation leads, over the steps."""
  figure = Figure(figsize=(11, 2.4), layout="constrained")
  left, right = figure.subplots(1, 2)
  # What is left of an edge bounds its entropy, so that every pruning lowers it: the share tells how certain alphas are.
  uniform = np.log(np.maximum((history.mixtures > 0).sum(axis=2), 1)).mean(axis=1)
  left.plot(history.steps, history.entropy / np.maximum(uniform, 1e-9), color="#0072B2", marker=_marker(history))
  left.ticklabel_format(useOffset=False)
  left.set_title("mean entropy of the edges, as a share of that of uniform alphas", fontsize=9)
  for column, (name, style) in enumerate(zip(operations, _styles(), strict=False)):
    width = 2.4 if name == "skip_connect" else 1.0
    right.plot(history.steps, history.strongest(column), **style, linewidth=width, label=name)
  right.set_title("edges that an operation leads (skip_connect drawn bold)", fontsize=9)
  right.yaxis.set_major_locator(MaxNLocator(integer=True))
  for axes in (left, right):
    _mark(axes, history.prunings)
    _tidy(axes)
  return figure


def spending(parts: Mapping[str, Mapping[str, int]], labels: Sequence[str], limits: Mapping[str, float]) -> Figure:
  """Where a network's cost lies, from image to classifier.

  Args:
    parts: by unit and part, see `cost.by_part`.
    labels: of the parts.
    limits: by unit, where there is a budget.
  """
  figure = Figure(figsize=(5.4 * len(parts), 2.8), layout="constrained")
  panels = figure.subplots(1, len(parts), squeeze=False)
  for axes, (unit, values) in zip(panels.flat, parts.items(), strict=True):
    total = sum(values.values())
    axes.bar(range(len(values)), list(values.values()), color="#0072B2", width=0.75)
    axes.set_xticks(range(len(values)), labels, rotation=90, fontsize=7)
    share = f", {100 * total / limits[unit]:.1f} % of the budget of {limits[unit]:,.12g}" if unit in limits else ""
    axes.set_title(f"{unit.replace('_', '-')}: {total:,}{share}", fontsize=9)
    _tidy(axes)
  return figure


def progress(series: Sequence[Scalars], names: Sequence[str], title: str) -> Figure:
  """Scalars over the steps of consecutive phases, whose borders are marked.

  Args:
    series: one per phase.
    names: which of their values to draw.
    title: what they are.
  """
  figure = Figure(figsize=(5.4, 2.8), layout="constrained")
  axes = figure.subplots()
  for name, colour in zip(names, ("#0072B2", "#D55E00"), strict=False):
    offset, steps, values = 0, [], []
    for part in series:
      steps += [*(part.steps + offset), np.nan]
      values += [*part.values[name], np.nan]
      offset += part.steps[-1] if len(part.steps) else 0
    if not np.all(np.isnan(values)):
      axes.plot(steps, values, color=colour, linewidth=1.2, label=name.split("_")[0])
  offset = 0
  for part in series[:-1]:
    offset += part.steps[-1] if len(part.steps) else 0
    axes.axvline(offset, color="#22303c", linewidth=0.8, linestyle=":")
  axes.set_title(title, fontsize=9)
  axes.set_xlabel("steps", fontsize=9)
  axes.legend(fontsize=8, frameon=False)
  _tidy(axes)
  return figure


def strengths(of_layers: Mapping[str, Sequence[float]], operations: Sequence[str]) -> Figure:
  """By layer, how much validation loss every choice adds to the layer's best.

  Args:
    of_layers: strengths, see `search.measured`; 0 for what is no candidate.
    operations: names of the columns.
  """
  logs = np.log(np.array([np.where(np.array(row) > 0, row, np.nan) for row in of_layers.values()]))
  added = np.nanmax(logs, axis=1, keepdims=True) - logs
  figure = Figure(figsize=(11, 3), layout="constrained")
  axes, width = figure.subplots(), 0.8 / len(operations)
  for column, name in enumerate(operations):
    places = np.arange(len(added)) + (column - (len(operations) - 1) / 2) * width
    axes.bar(places, added[:, column], width, label=name, color=COLOURS[column % len(COLOURS)])
  axes.set_xticks(range(len(added)), list(of_layers))
  axes.set_ylabel("loss added, nats", fontsize=9)
  figure.legend(loc="outside lower center", ncols=len(operations), fontsize=8, frameon=False)
  _tidy(axes)
  return figure


def _styles() -> Iterator[dict[str, Any]]:
  return ({"color": colour, "linestyle": style} for style, colour in itertools.product(STYLES, COLOURS))


def _marker(history: AlphaHistory) -> str | None:
  # A line through a single point can't be seen.
  return "." if len(history.steps) < 3 else None


def _state(index: int) -> str:
  return ("c(k-2)", "c(k-1)")[index] if index < 2 else str(index)


def _mark(axes: Axes, prunings: Sequence[tuple[int, int]]) -> None:
  for step, _ in prunings:
    axes.axvline(step, color="#22303c", linewidth=0.9, linestyle="--")


def _tidy(axes: Axes) -> None:
  axes.tick_params(labelsize=8)
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.25)
