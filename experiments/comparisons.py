"""The tables that set methods against each other: seed by seed, at equal parameters, against chance."""

import collections
from collections.abc import Sequence
import itertools
import statistics

from experiments import figures, study as studies
from experiments.lines import Line
from experiments.methods import CHANCE, METHODS, SEARCHED
from experiments.study import REFERENCE
from experiments.table import Table, interval_text

GAP = 0.5  # Percentage points, of test error, that a comparison should be able to tell.
TIMES = ("search_seconds", "update_seconds")


def comparison(name: str, results: Sequence[Line]) -> Table:
  """Methods of one group, each against `REFERENCE`."""
  rows = [_row(method, results) for method in METHODS if figures.of(results, method, "seed")]
  devices = collections.Counter(line["device"] for line in results)
  note = (
    "Test error in percent: mean and standard deviation over the seeds; less that of lfr_darts, with the 95 % "
    "bootstrap interval of the difference; every seed. Times are means per search, in seconds: in all, and of updates "
    f"alone. Trained on {', '.join(f'{name} ({count})' for name, count in sorted(devices.items()))}."
  )
  header = ("method", "seeds", "test error", "less lfr_darts", "parameters", "search", "updates", "every seed")
  return Table(name, note, header, rows)


def matched(results: Sequence[Line], main: Sequence[Line]) -> Table:
  """The comparison at equal parameters: networks that were as large anyway, and those trained again."""
  parameters = studies.target(main)
  note = (
    f"As in main, for networks of {parameters:,} parameters, the median of lfr_darts: those within "
    f"{100 * studies.TOLERANCE:.0f} % as they were, the others trained again with the number of channels that comes "
    "closest. Times are those of the searches in main."
  )
  return comparison("at equal parameters", at_equal_parameters(results, main))._replace(note=note)


def at_equal_parameters(results: Sequence[Line], main: Sequence[Line]) -> list[Line]:
  """Those of `main` that are as large as `REFERENCE` anyway, and those trained again, with their search's times."""
  parameters = studies.target(main)
  # A network trained again is of the search that its genotype comes from.
  times = {(line["method"], line["seed"]): {key: line[key] for key in TIMES} for line in main}
  again = [line | times[line["method"], line["seed"]] for line in results]
  return [*again, *(line for line in main if studies.matches(line, parameters))]


def chance(main: Sequence[Line], again: Sequence[Line]) -> Table:
  """All searches together against all random genotypes, as they are and, where some were trained `again`, alike."""
  sets = {"as they are": main}
  if again:
    sets["at equal parameters"] = at_equal_parameters(again, main)
  rows = []
  for name, results in sets.items():
    searched, drawn = (
      [line["test_error"] for line in results if line["method"] in those] for those in (SEARCHED, CHANCE)
    )
    rows.append((name, *_cells(searched), *_cells(drawn), interval_text(figures.difference(searched, drawn))))
  note = (
    "Test error in percent of all networks that a search of main found, and of all random ones, mean and standard "
    "deviation; the searched less the random, with the 95 % bootstrap interval."
  )
  header = ("networks", "searched", "test error", "random", "test error", "searched less random")
  return Table("search against chance", note, header, rows)


def within(results: Sequence[Line]) -> Table:
  """Searches under a budget against random genotypes under the same, seed by seed."""
  budget = lambda line: (METHODS[line["method"]].within, line["seed"])
  drawn = {budget(line): line for line in results if line["method"] in CHANCE}
  pairs = {
    method: [(line, drawn[budget(line)]) for line in results if line["method"] == method and budget(line) in drawn]
    for method in SEARCHED
  }
  rows = []
  for name, own in {**pairs, "all": [*itertools.chain(*pairs.values())]}.items():
    if own:
      less = [searched["test_error"] - random["test_error"] for searched, random in own]
      mean = lambda key, which, own=own: statistics.mean(pair[which][key] for pair in own)
      multiply_adds = (f"{mean('multiply_adds', which) / 1e6:.2f}" for which in range(2))
      errors = (f"{mean('test_error', which):.2f}" for which in range(2))
      rows.append((name, str(len(own)), *multiply_adds, *errors, interval_text(figures.mean(less), "+")))
  note = (
    "Millions of multiply-adds and test error in percent, means of the networks found and of random ones within the "
    "same budgets; the found less the random, seed by seed, with the 95 % bootstrap interval."
  )
  header = ("method", "pairs", "multiply-adds", "of random", "test error", "of random", "searched less random")
  return Table("search against chance under a budget", note, header, rows)


def _row(method, results):
  errors = figures.of(results, method, "test_error")
  gap = None if method == REFERENCE else figures.difference(errors, figures.of(results, REFERENCE, "test_error"))
  mean = lambda key: statistics.mean(figures.of(results, method, key))
  seconds = lambda key: f"{mean(key):.0f}" if mean(key) else "none"
  return (
    method,
    *_cells(errors),
    "" if gap is None else interval_text(gap, "+"),
    f"{mean('parameters'):,.0f}",
    *map(seconds, TIMES),
    " ".join(f"{error:.2f}" for error in errors),
  )


def _cells(errors):
  """How many, their mean and their standard deviation."""
  if not errors:
    return "0", ""
  own = figures.deviation(errors)
  return str(len(errors)), f"{statistics.mean(errors):.2f}" + ("" if own is None else f" ± {own:.2f}")


def spread(results: Sequence[Line]) -> Table:
  """What training seeds alone make of one genotype, and the seeds that a difference therefore needs."""
  rows = []
  for method in METHODS:
    errors = figures.of(results, method, "test_error")
    if len(errors) > 1:
      own = figures.deviation(errors)
      genotypes = {str(line["genotype"]) for line in results if line["method"] == method}
      kind = "one genotype" if len(genotypes) == 1 else "a genotype per seed"
      rows.append((method, kind, str(len(errors)), f"{own:.2f}", str(figures.seeds_needed(own, GAP))))
  note = f"Seeds per method at which a t-test at 5 % finds a difference of {GAP} points four times in five."
  return Table("pilot: spread", note, ("method", "networks", "seeds", "standard deviation", "seeds needed"), rows)
