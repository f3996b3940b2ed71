"""The tables and plots of the study on NAS-Bench-Macro, out of its lines, its files of scores and the benchmark."""

from collections.abc import Mapping, Sequence
import pathlib

from matplotlib.figure import Figure
import numpy as np
from scipy import stats

from experiments import figures, lines, macro_space, macro_study
from experiments.lines import Line
from experiments.macro_space import BUDGETS, SUBSETS, Table
from experiments.table import interval_text
from lfr_darts_jax.report import drawing
from lfr_darts_jax.runtime.paths import write_atomically

REPEATED = ("00000000", "11111111", "22222222")
OTHERS = ("joint", "per_section")
PANELS_PER_ROW = 3


def write(results: pathlib.Path, table: Table) -> list[pathlib.Path]:
  """Writes `README.md` and the plots beside the lines; returns their paths."""
  found = {group: lines.read(results / f"{group}.jsonl") for group in macro_study.GROUPS}
  parts = ["# NAS-Bench-Macro\n\nMade by `experiments/macro.py` from the lines of JSON beside it.\n"]
  parts.append(_table("What the benchmark says", _HEADER, _anchors(table), _NOTE.format(runs=table.runs)))
  parts.append(_table("Ranking without a search", ("by", *SUBSETS), _counts(table), _COUNTS))
  paths = []
  for group, own in found.items():
    if not own:
      continue
    taus, under = _taus(own, results, table), _under_budgets(own, table)
    ranking = "method", "seeds", "seconds", *SUBSETS, "of 200 in the supernet"
    parts.append(_table(f"{group}: ranking", ranking, taus, _RANKING))
    parts.append(_table(f"{group}: under budgets", ("method", "seeds", *BUDGETS), under, _BUDGETS))
    if group == "main":
      parts.append(_table("lfr_darts less the others", ("other", *BUDGETS), _differences(own, table), _DIFFERENCES))
      path = results / "spending.png"
      write_atomically(path, drawing.render(spending(own), "png"))
      parts.append("![Where each method spends, by depth.](spending.png)\n")
      paths.append(path)
  readme = results / "README.md"
  write_atomically(readme, "\n".join(parts))
  return [readme, *paths]


_HEADER = ("at most", "the best there is", "one choice everywhere", "one per section", "random", "best of 10 random")
_NOTE = (
  "Test accuracy in percent, means over {runs} training(s) of every network; random ones from just below the budget."
)
_COUNTS = (
  "Kendall's tau-b of the accuracies with what every code tells of its network; and with the additive model of its "
  "choices that fits the accuracies best, by least squares: about what strengths of single layers can reach. "
  "With fewer trainings per network accuracies are noisier, and every tau is smaller."
)
_RANKING = (
  "Kendall's tau-b between a method's scores and the accuracies, means and deviations over seeds; and that of the "
  "supernet's own accuracy of 200 codes."
)
_BUDGETS = "Accuracy of the code that is chosen under each budget, percent, means and deviations over seeds."
_DIFFERENCES = "Seed by seed, in points, with 95 % bootstrap intervals."


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
  body = "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])
  return f"## {title}\n\n{note}\n\n{body}\n"


def _anchors(table: Table) -> list[tuple[str, ...]]:
  sections = np.array([[len(set(code[a:b])) == 1 for a, b in macro_space.SECTIONS] for code in macro_space.codes()])
  everywhere = np.isin(macro_space.codes(), REPEATED)
  rows = []
  for name in BUDGETS:
    mean, deviation, ten = table.chance(name)
    best = (table.best(name), table.best(name, everywhere), table.best(name, sections.all(axis=1)))
    rows.append((name, *(f"{value:.2f}" for value in best), f"{mean:.2f} ± {deviation:.2f}", f"{ten:.2f}"))
  return rows


def _counts(table: Table) -> list[tuple[str, ...]]:
  values = {
    "number of blocks": macro_space.blocks(),
    "number of mb6_k5": (macro_space.digits() == 2).sum(axis=1),
    "multiply-adds": table.costs["multiply_adds"],
    "weights": table.costs["parameters"],
  }
  # Where all are equal there is no order.
  tau = lambda own, subset: "" if np.ptp(own[SUBSETS[subset]()]) == 0 else f"{macro_space.tau(own, table, subset):.3f}"
  rows = [(name, *(tau(own, subset) for subset in SUBSETS)) for name, own in values.items()]
  fits = [f"{macro_space.tau(macro_space.fitted(table, subset), table, subset):.3f}" for subset in SUBSETS]
  return [*rows, ("fitted to the accuracies", *fits)]


def _methods(own: Sequence[Line]) -> dict[str, list[Line]]:
  by_method: dict[str, list[Line]] = {}
  for line in own:
    by_method.setdefault(line["method"], []).append(line)
  return by_method


def _spread(values: Sequence[float], form: str = ".3f") -> str:
  deviation = figures.deviation(values)
  return f"{np.mean(values):{form}}" + ("" if deviation is None else f" ± {deviation:{form}}")


def _taus(own: Sequence[Line], results: pathlib.Path, table: Table) -> list[tuple[str, ...]]:
  sample = [table.of(code) for code in macro_study.CODES]
  rows = []
  for method, several in _methods(own).items():
    for name, scores in (("measured", _measured), ("alphas", _by_alphas)):
      values = [scores(line, results) for line in several]
      taus = [_spread([macro_space.tau(v, table, subset) for v in values]) for subset in SUBSETS]
      supernet = [stats.kendalltau(line["supernet_accuracy"], sample).statistic for line in several]
      seconds = _spread([line["search_seconds"] for line in several], ".0f")
      rows.append((f"{method}, {name}", str(len(several)), seconds, *taus, _spread(supernet)))
  return rows


def _measured(line: Line, results: pathlib.Path) -> np.ndarray:
  return np.load(results / line["scores"]).astype(float)


def _by_alphas(line: Line, results: pathlib.Path) -> np.ndarray:
  return macro_space.scores(line["alphas"])


def _under_budgets(own: Sequence[Line], table: Table) -> list[tuple[str, ...]]:
  rows = []
  for method, several in _methods(own).items():
    for name, key in (("measured", "found"), ("alphas", "found_by_alphas")):
      accuracy = lambda budget, key=key, several=several: [table.of(line[key][budget]) for line in several]
      rows.append((f"{method}, {name}", str(len(several)), *(_spread(accuracy(budget), ".2f") for budget in BUDGETS)))
  return rows


def _differences(own: Sequence[Line], table: Table) -> list[tuple[str, ...]]:
  of = lambda line: {budget: table.of(line["found"][budget]) for budget in BUDGETS}
  found = lambda plan: {line["seed"]: of(line) for line in own if line["method"] == f"{plan}, sampled"}
  layered = found("lfr_darts")
  repeated = {b: table.best(b, np.isin(macro_space.codes(), REPEATED)) for b in BUDGETS}
  others: Mapping[str, Mapping[int, Mapping[str, float]]] = {
    **{plan: found(plan) for plan in OTHERS},
    "repeated": dict.fromkeys(layered, repeated),
  }
  rows = []
  for name, theirs in others.items():
    seeds = sorted(layered.keys() & theirs.keys())
    pairs = {b: [layered[s][b] - theirs[s][b] for s in seeds] for b in BUDGETS}
    rows.append((name, *(interval_text(figures.mean(values), "+") for values in pairs.values())))
  return rows


def spending(own: Sequence[Line]) -> Figure:
  """Of every method the share of seeds that choose each block, by layer, under 60 M multiply-adds."""
  methods = _methods(own)
  columns = min(len(methods), PANELS_PER_ROW)
  rows = -(-len(methods) // columns)
  figure = Figure(figsize=(3.2 * columns, 2.2 * rows + 0.4), layout="constrained")
  panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
  for axes in panels.flat[len(methods) :]:
    axes.axis("off")
  for axes, (method, several) in zip(panels.flat, methods.items(), strict=False):
    chosen = np.array([[int(digit) for digit in line["found"]["60M"]] for line in several])
    bottom = np.zeros(8)
    for digit, colour, label in ((2, "#0072B2", "mb6_k5"), (1, "#56B4E9", "mb3_k3"), (0, "#dddddd", "identity")):
      share = (chosen == digit).mean(axis=0)
      axes.bar(np.arange(1, 9), share, bottom=bottom, color=colour, width=0.8, label=label)
      bottom = bottom + share
    axes.set_title(method, fontsize=9)
    axes.set_xlabel("layer", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
  return figure
