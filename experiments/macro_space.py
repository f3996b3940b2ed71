"""NAS-Bench-Macro as a table: accuracies and costs by code, which codes are one network, and what chance finds."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import pathlib

import numpy as np
from scipy import stats

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype

SECTIONS = ((0, 2), (2, 5), (5, 8))  # First layer of each, and the one behind its last.
# The budgets that the study serves: a unit and a limit.
BUDGETS = {
  "50M": ("multiply_adds", 50e6),
  "60M": ("multiply_adds", 60e6),
  "70M": ("multiply_adds", 70e6),
  "80M": ("multiply_adds", 80e6),
  "1.00M weights": ("parameters", 1.0e6),
  "1.25M weights": ("parameters", 1.25e6),
}
MAX_BYTES = 100_000_000


def codes() -> list[str]:
  """All codes, in order."""
  return ["".join(several) for several in itertools.product("012", repeat=8)]


def code(genotype: Genotype) -> str:
  """The code of a chain."""
  return "".join(str(formats.MACRO_BLOCKS.index(cell.candidates[0][0])) for cell in genotype.cells)


def canonical(text: str) -> str:
  """The code that stands for all that are the same network: identities of stride 1 may stand anywhere in a section."""
  parts = []
  for first, behind in SECTIONS:
    blocks = [digit for digit in text[first + 1 : behind] if digit != "0"]
    parts.append(text[first] + "".join(blocks).ljust(behind - first - 1, "0"))
  return "".join(parts)


@dataclasses.dataclass(frozen=True)
class Table:
  """The benchmark.

  Attributes:
    accuracy: `[6561]` in percent, means over the trainings there are.
    costs: by unit `[6561]`.
    runs: trainings of every network.
  """

  accuracy: np.ndarray
  costs: Mapping[str, np.ndarray]
  runs: int

  @classmethod
  def read(cls, path: pathlib.Path) -> "Table":
    """Reads the benchmark's JSON.

    Raises:
      UsageError: where it can't be read, or is not of all networks.
    """
    found = json_io.parse(json_io.read_text(path, MAX_BYTES), dict[str, dict], str(path))
    if set(found) != set(codes()):
      raise UsageError(f"table: {path} holds {len(found)} networks; allowed are NAS-Bench-Macro's 6,561")
    rows = [found[text] for text in codes()]
    accuracies = [row["test_acc"] if "test_acc" in row else [row["mean_acc"]] for row in rows]
    costs = {"multiply_adds": [row["flops"] for row in rows], "parameters": [row["params"] for row in rows]}
    means = np.array([np.mean(several) for several in accuracies])
    return cls(means, {unit: np.array(values, float) for unit, values in costs.items()}, len(accuracies[0]))

  def of(self, text: str) -> float:
    """Accuracy of a code, percent."""
    return float(self.accuracy[codes().index(text)])

  def within(self, budget: str) -> np.ndarray:
    """`[6561]` bool, what a budget allows."""
    unit, limit = BUDGETS[budget]
    return self.costs[unit] <= limit

  def best(self, budget: str, among: np.ndarray | None = None) -> float:
    """The best accuracy under a budget, of all networks or of some."""
    allowed = self.within(budget) if among is None else self.within(budget) & among
    return float(self.accuracy[allowed].max()) if allowed.any() else float("nan")

  def chance(self, budget: str, window: float = 5 / 60) -> tuple[float, float, float]:
    """Just below a budget, by at most a share of it: mean and deviation of a random network, and the best of ten."""
    unit, limit = BUDGETS[budget]
    near = np.sort(self.accuracy[self.within(budget) & (self.costs[unit] > limit * (1 - window))])
    # Of n sorted values, the largest of ten draws without replacement is the k-th with the chance of nine below it.
    count = len(near)
    below = np.arange(count)
    weights = np.exp(_log_choose(below, 9) - _log_choose(np.array([count]), 10))
    return float(near.mean()), float(near.std()), float((weights * near).sum())


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
  from scipy.special import gammaln

  with np.errstate(invalid="ignore"):
    return np.where(n >= k, gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0), -np.inf)


@functools.lru_cache
def same_network() -> np.ndarray:
  """`[6561]`, equal numbers of codes that are one network."""
  return np.unique([canonical(text) for text in codes()], return_inverse=True)[1]


@functools.lru_cache
def digits() -> np.ndarray:
  """`[6561, 8]`, the choices of every code."""
  return np.array([[int(digit) for digit in text] for text in codes()])


def blocks() -> np.ndarray:
  """`[6561]`, how many layers are no identity."""
  return (digits() > 0).sum(axis=1)


# Of all codes; of those with all blocks or all but one; of those with all.
SUBSETS = {"all": lambda: blocks() >= 0, "7 or 8 blocks": lambda: blocks() >= 7, "no identity": lambda: blocks() == 8}


def scores(strengths: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
  """`[6561]` sums of log strengths, from `[8, 3]`."""
  logs = np.log(np.maximum(np.asarray(strengths), 1e-12))
  return logs[np.arange(8), digits()].sum(axis=1)


def tau(values: np.ndarray, table: Table, subset: str) -> float:
  """Kendall's tau-b with the accuracies, of values that are averaged over codes that are the same network."""
  same = same_network()
  values = (np.bincount(same, values) / np.bincount(same))[same]
  chosen = SUBSETS[subset]()
  return float(stats.kendalltau(values[chosen], table.accuracy[chosen]).statistic)


def fitted(table: Table, subset: str) -> np.ndarray:
  """`[6561]`, the additive model of a code's choices that is closest to the accuracies of a subset."""
  chosen = np.eye(3)[digits()].reshape(len(digits()), -1)
  rows = SUBSETS[subset]()
  # Rounded, so that what is equal stays equal.
  return np.round(chosen @ np.linalg.lstsq(chosen[rows], table.accuracy[rows], rcond=None)[0], 9)
