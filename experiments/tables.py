"""The tables of a study, out of its lines of results: the comparisons, and those that explain them."""

from collections.abc import Mapping, Sequence
import statistics

from experiments import comparisons, figures, lines
from experiments.lines import Line
from experiments.methods import CHANCE, METHODS
from experiments.study import Study
from experiments.table import Table, interval_text
from lfr_darts_jax.fields import DARTS_OPERATIONS

ORDER = {"main": 0, "pilot": 2}  # Of groups in between: that of the study.


def all_tables(study: Study, found: Mapping[str, Sequence[Line]]) -> list[Table]:
  """Every table that there are lines for, the main comparison first."""
  tables = []
  for name in sorted(study.groups, key=lambda name: ORDER.get(name, 1)):
    group = study.groups[name]
    if not found[name]:
      continue
    if group.match:
      table = comparisons.matched(found[name], found[group.match])
    else:
      table = comparisons.comparison(name, found[name])
    if group.overrides.get("data.validation_fraction"):
      table = table._replace(title=f"{name}, tested on a held-out part of the train split")
    tables.append(table)
  if study.mechanisms and found["main"]:
    tables.append(
      mechanisms(
        [line for name, group in study.groups.items() if not group.match for line in found[name]], found["diagnostics"]
      )
    )
  if found["main"] and any(line["method"] in CHANCE for line in found["main"]):
    again = [line for name, group in study.groups.items() if group.match == "main" for line in found[name]]
    tables.append(comparisons.chance(found["main"], again))
  if found.get("within"):
    tables.append(comparisons.within(found["within"]))
  if found["ranking"]:
    tables.append(ranking(found["ranking"]))
  if found["noise"]:
    tables.append(noise(found["noise"]))
  if found["main"]:
    own = [line for line in found["diagnostics"] if line["group"] == "main"]
    tables += [dominated(found["main"]), agreement(found["main"], own)]
    if len(drawn := [line for line in found["main"] if line["method"] in CHANCE]) > 2:
      tables.append(traits(drawn))
  if found.get("pilot"):
    tables.append(comparisons.spread(found["pilot"]))
  if found["diagnostics"]:
    tables.append(courses(found["diagnostics"]))
  return tables


def dominated(results: Sequence[Line]) -> Table:
  """Stages that skip_connects have taken over."""
  rows = []
  for method, description in METHODS.items():
    own = [line for line in results if line["method"] == method]
    if own:
      counts = [len(figures.dominated(line)) for line in own]
      skips = [sum(cell.count("skip_connect") for cell in lines.genotype(line).cells) for line in own]
      rows.append((method, description.meaning, f"{statistics.mean(skips):.1f}", " ".join(map(str, counts))))
  note = "Per genotype: its skip_connects, in the mean; cells of which they are more than half, seed by seed."
  return Table("skip_connects", note, ("method", "what it is", "skip_connects", "cells of skip_connects"), rows)


def agreement(results: Sequence[Line], diagnostics: Sequence[Line]) -> Table:
  """How often seeds choose the same."""
  rows = []
  for method in METHODS:
    own = figures.agreement(results, method)
    if own:
      alike = figures.mixtures(diagnostics, method)
      correlation = "" if alike is None else f"{alike:.2f}"
      rows.append((method, f"{100 * own.edges:.0f} %", f"{100 * own.operations:.0f} %", correlation))
  note = (
    "In the mean over pairs of seeds: connections that both cells have; of these, the ones with the same operation; "
    "the correlation of the mixtures at the end of the search, over the operations of all edges. Random genotypes show "
    "what chance makes of the first two; of the third it makes zero."
  )
  return Table("agreement of seeds", note, ("method", "connections", "operations", "mixtures"), rows)


def mechanisms(results: Sequence[Line], diagnostics: Sequence[Line]) -> Table:
  """What each method's mechanism does to a search, beside the error that comes of it."""
  rows = []
  for method, description in METHODS.items():
    own = [line for line in results if line["method"] == method]
    if own:
      cells = [cell for line in own for cell in lines.genotype(line).cells]
      ends = [line["entropy"][-1] for line in diagnostics if line["method"] == method]
      peaks = [line["search_peak_bytes"] for line in own if line["search_peak_bytes"]]
      alike = figures.agreement(results, method)
      rows.append(
        (
          method,
          description.meaning,
          f"{statistics.mean(line['update_seconds'] / line['updates'] for line in own):.3f}",
          f"{statistics.mean(peaks) / 2**20:.0f}" if peaks else "",
          f"{statistics.mean(ends):.3f}" if ends else "",
          f"{sum(c.count('skip_connect') for c in cells) / sum(len(c.connections) for c in cells):.2f}",
          f"{100 * alike.edges:.0f} %, {100 * alike.operations:.0f} %" if alike else "",
          f"{statistics.mean(line['multiply_adds'] for line in own) / 1e6:.2f}",
          f"{statistics.mean(line['test_error'] for line in own):.2f}",
        )
      )
  note = (
    "Means over seeds: seconds per update; largest resident set of the process while it searched; at the end of the "
    "search, entropy of the alphas as a share of that of uniform ones; skip_connects among all connections; "
    "connections that two seeds share, and of these the ones with the same operation; multiply-adds; test error."
  )
  header = (
    "method",
    "from",
    "s/update",
    "peak, MiB",
    "entropy",
    "skip_connects",
    "agreement of seeds",
    "multiply-adds, M",
    "test error, %",
  )
  return Table("mechanisms", note, header, rows)


def traits(results: Sequence[Line]) -> Table:
  """What goes with a low error among genotypes that nobody has chosen."""
  genotypes = [lines.genotype(line).cells for line in results]
  share = lambda cells, name: sum(cell.count(name) for cell in cells) / sum(len(cell.connections) for cell in cells)
  columns = {
    "parameters": [line["parameters"] for line in results],
    "multiply-adds": [line["multiply_adds"] for line in results],
    **{name: [share(cells, name) for cells in genotypes] for name in DARTS_OPERATIONS if name != "none"},
  }
  accuracy = [-line["test_error"] for line in results]
  rows = [(name, interval_text(figures.kendall(values, accuracy))) for name, values in columns.items()]
  note = (
    f"Kendall's tau, with its 95 % bootstrap interval, between a trait of the {len(results)} random genotypes and "
    "their accuracy. Of an operation: its share of a genotype's connections."
  )
  return Table("what goes with accuracy", note, ("trait", "tau"), rows)


def ranking(results: Sequence[Line]) -> Table:
  """Supernet against training."""
  tau = figures.kendall([line["supernet_accuracy"] for line in results], [100 - line["test_error"] for line in results])
  size = figures.kendall([line["parameters"] for line in results], [100 - line["test_error"] for line in results])
  note = (
    f"{len(results)} derived cells {results[0]['method']}: accuracy in the supernet against that of the network "
    f"trained with it, both on the same held-out images. Kendall's tau {interval_text(tau)}, 95 % bootstrap interval; "
    f"that of the parameters against the accuracy after training: {interval_text(size)}."
  )
  rows = [
    (
      str(line["seed"]),
      f"{100 * line['supernet_accuracy']:.2f}",
      f"{100 - line['test_error']:.2f}",
      f"{line['parameters']:,}",
    )
    for line in sorted(results, key=lambda line: line["test_error"])
  ]
  return Table("ranking", note, ("candidate", "in the supernet, %", "trained, %", "parameters"), rows)


def noise(results: Sequence[Line]) -> Table:
  """How many updates it takes to see an alpha's gradient, and how many there were."""
  note = (
    f"At the end of every iteration, over {results[0]['batches']} batches of held-out images: the updates whose mean "
    "gradient of the alphas is as large as its standard error (the noise scale; far more are needed to tell two "
    "operations apart), and those that moved the alphas."
  )
  rows = [
    (
      line["method"],
      str(line["seed"]),
      str(line["layers"]),
      line["cell"],
      "hidden" if line["noise_scale"] is None else f"{line['noise_scale']:.1f}",
      str(line["alpha_updates"]),
    )
    for line in results
  ]
  header = ("method", "seed", "layers", "cell", "noise scale, updates", "updates of alphas")
  return Table("noise of the gradients", note, header, rows)


def courses(diagnostics: Sequence[Line]) -> Table:
  """How alphas developed, in the mean over seeds."""
  rows = []
  keys = dict.fromkeys((line["group"], line["method"], line["iteration"], line["cell"]) for line in diagnostics)
  place = lambda key: (ORDER.get(key[0], 1), key[0], list(METHODS).index(key[1]), key[2])
  for key in sorted(keys, key=place):
    own = [li for li in diagnostics if (li["group"], li["method"], li["iteration"], li["cell"]) == key]
    columns = lambda name: [
      [v for v in values if v is not None] for values in zip(*(li[name] for li in own), strict=True)
    ]
    means = lambda name, form: " ".join(form % statistics.mean(v) if v else "-" for v in columns(name))
    rows.append(
      (
        *(str(part) for part in (key[0], key[1], key[2] + 1, key[3])),
        means("entropy", "%.3f"),
        means("alpha_gradient", "%.4f"),
        means("skip_leads", "%.1f") + f" of {own[0]['edges']}",
        f"{statistics.mean(li['skip_connects'] for li in own):.1f}",
        f"{100 * statistics.mean(li['validation_accuracy'] for li in own):.1f}",
      )
    )
  shares = ", ".join(f"{100 * share:.0f}" for share in diagnostics[0]["shares"])
  note = (
    f"Means over seeds, after {shares} % of an iteration's updates: entropy of the alphas as a share of that of "
    "uniform ones; norm of their gradient, the mean since the point before; edges that skip_connect leads. At the end: "
    "skip_connects derived, and the supernet's accuracy on the half of the data that moves the alphas."
  )
  header = (
    "group",
    "method",
    "iteration",
    "cell",
    "entropy",
    "gradient",
    "led by skip_connect",
    "derived",
    "accuracy, %",
  )
  return Table("course of the searches", note, header, rows)
