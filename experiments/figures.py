"""The figures of a study's tables: means, intervals, agreement of seeds, rank correlation."""

from collections.abc import Mapping, Sequence
import itertools
import statistics
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments import lines
from experiments.lines import Line
from lfr_darts_jax.search_space.cell_spec import CellSpec

RESAMPLES, CONFIDENCE = 2_000, 0.95
POWER = 0.8  # Of finding a difference that is there.


class Interval(NamedTuple):
  """An estimate and the bounds of its bootstrap interval."""

  value: float
  low: float
  high: float


def of(results: Sequence[Line], method: str, key: str) -> list[float]:
  """A value of every seed of a method."""
  return [line[key] for line in sorted(results, key=lambda line: line["seed"]) if line["method"] == method]


def deviation(values: Sequence[float]) -> float | None:
  """Their standard deviation, None of fewer than two."""
  return statistics.stdev(values) if len(values) > 1 else None


def difference(values: Sequence[float], reference: Sequence[float]) -> Interval | None:
  """Mean of `values` less that of `reference`, with its percentile bootstrap interval; None of fewer than two.

  Of three seeds such an interval is too narrow: there are only ten different resamples.
  """
  if min(len(values), len(reference)) < 2:
    return None
  statistic = lambda a, b, axis=-1: np.mean(a, axis=axis) - np.mean(b, axis=axis)
  return _bootstrap((values, reference), statistic, paired=False)


def mean(values: Sequence[float]) -> Interval | None:
  """The mean with its percentile bootstrap interval; None of fewer than two."""
  if len(values) < 2:
    return None
  if min(values) == max(values):
    return Interval(values[0], values[0], values[0])  # SciPy has no interval of what does not vary.
  return _bootstrap((values,), lambda a, axis=-1: np.mean(a, axis=axis), paired=False)


def kendall(first: Sequence[float], second: Sequence[float]) -> Interval | None:
  """Kendall's tau-b of pairs, with its percentile bootstrap interval; None of fewer than two."""
  if len(first) < 2:
    return None

  def statistic(a, b):
    tau = stats.kendalltau(a, b).statistic
    return 0.0 if np.isnan(tau) else tau  # A resample may hold one pair alone.

  return _bootstrap((first, second), statistic, paired=True)


def _bootstrap(data, statistic, paired):
  vectorized = not paired
  found = stats.bootstrap(
    data,
    statistic,
    n_resamples=RESAMPLES,
    confidence_level=CONFIDENCE,
    method="percentile",
    paired=paired,
    vectorized=vectorized,
    rng=np.random.default_rng(0),
  ).confidence_interval
  return Interval(float(statistic(*map(np.asarray, data))), float(found.low), float(found.high))


def seeds_needed(spread: float, gap: float) -> int:
  """Seeds per method for a t-test at 5 % to find a difference of `gap` with a power of 80 %; approximately."""
  quantiles = stats.norm.ppf(0.5 + CONFIDENCE / 2) + stats.norm.ppf(POWER)
  return int(np.ceil(2 * (quantiles * spread / gap) ** 2))


class Agreement(NamedTuple):
  """Of two seeds' cells, shares from 0 to 1 in the mean over pairs of seeds.

  Attributes:
    edges: connections that both have.
    operations: of these, those with the same operation in both.
  """

  edges: float
  operations: float


def agreement(results: Sequence[Line], method: str) -> Agreement | None:
  """How often the seeds of a method agree; None of fewer than two."""
  found = [lines.genotype(line) for line in results if line["method"] == method]
  edges, same = [], []
  for one, other in itertools.combinations(found, 2):
    for a, b in zip(one.cells, other.cells, strict=True):
      first, second = _connections(a), _connections(b)
      both = first.keys() & second.keys()
      edges.append(len(both) / len(first))
      same += [first[edge] == second[edge] for edge in both]
  return Agreement(float(np.mean(edges)), float(np.mean(same)) if same else 0.0) if edges else None


def mixtures(courses: Sequence[Line], method: str) -> float | None:
  """Correlation of two seeds' mixtures at the end of a search, in the mean over cells and pairs; None of one seed.

  Zero where seeds have nothing in common, one where all operations of all edges are weighted alike.

  Args:
    courses: `diagnostics` of one group.
    method: whose.
  """
  ends: dict[str, dict[int, np.ndarray]] = {}
  for line in courses:
    if line["method"] == method:
      # What a cell ends with is that of the last iteration that searches it.
      weights = np.array(line["mixtures"])
      ends.setdefault(line["cell"], {})[line["seed"]] = (weights - weights.mean(axis=1, keepdims=True)).ravel()
  pairs = [pair for seeds in ends.values() for pair in itertools.combinations(seeds.values(), 2)]
  return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])) if pairs else None


def _connections(cell: CellSpec) -> dict[tuple[int, int], tuple[str, ...]]:
  found: dict[tuple[int, int], tuple[str, ...]] = {}
  for source, target, names in cell.connections:
    found[source, target] = found.get((source, target), ()) + names
  return found


def operations(results: Sequence[Line], method: str) -> Mapping[str, Mapping[str, float]]:
  """By cell, how many connections have an operation, in the mean over the seeds of a method."""
  found = [lines.genotype(line) for line in results if line["method"] == method]
  counts: dict[str, dict[str, float]] = {}
  for genotype in found:
    for cell in genotype.cells:
      own = counts.setdefault(cell.name, {})
      for _, _, (name,) in cell.connections:
        own[name] = own.get(name, 0) + 1 / len(found)
  return counts


def dominated(line: Line) -> list[str]:
  """Cells of a line's genotype, more than half of whose connections are `skip_connect`."""
  cells = lines.genotype(line).cells
  return [cell.name for cell in cells if 2 * cell.count("skip_connect") > len(cell.connections)]
