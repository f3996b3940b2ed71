"""A search is a plan: a list of iterations. The plans lfr_darts, darts, pdarts and joint.

Baselines come from the same code as the method, so comparisons are fair.
"""

import dataclasses

import ml_collections

from lfr_darts_jax import genotype
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.operations import OPERATIONS

STAGES = ("n0", "r0", "n1", "r1", "n2")

# Adam moves an alpha by at most its rate an update, so that rate times updates bounds how far it can go. A short search
# needs a higher rate to leave uniform alphas at all: by default it has the travel of the published one.
DARTS_TRAVEL = 3e-4 * 50 * 390  # Its rate, its epochs, and the batches of 64 in half of CIFAR-10's train split.
PDARTS_TRAVEL = 6e-4 * 15 * 260  # Of a stage, whose alphas move in 15 of 25 epochs, in batches of 96.
MAX_ALPHA_RATE = 0.1  # Our choice: above it single batches would decide.

# By plan, warm-up and travel. DARTS moves its alphas from the first update on, P-DARTS after 10 of 25 epochs (section
# 4.2); 0.3 is our choice.
SCHEDULES = {
  "lfr_darts": (0.3, DARTS_TRAVEL),
  "joint": (0.3, DARTS_TRAVEL),
  "darts": (0.0, DARTS_TRAVEL),
  "pdarts": (0.4, PDARTS_TRAVEL),
}


@dataclasses.dataclass(frozen=True)
class Iteration:
  """One iteration of a search.

  Attributes:
    layout: names of the supernet's layers, shallow to deep.
    searched: the cells whose alphas move.
    rounds: (share of the iteration's updates, operations kept per edge), in order.
    keep: operations kept per edge at its end; 1 derives the cell: one operation on two edges per node.
    inherit: whether its supernet starts from the weights of the one before.
    skip_dropout: initial dropout rate on skip_connects, None for no dropout.
    warmup: share of its updates that train weights alone, at its beginning.
    travel: how far its alphas can go where `alpha_rate` is None: the rate of Adam times the bilevel updates.
    alpha_rate: learning rate of the alphas; None: what `travel` makes of the number of updates.
  """

  layout: tuple[str, ...]
  searched: tuple[str, ...]
  rounds: tuple[tuple[float, int], ...] = ()
  keep: int = 1
  inherit: bool = False
  skip_dropout: float | None = None
  warmup: float = 0.0
  travel: float = DARTS_TRAVEL
  alpha_rate: float | None = None

  def warmup_updates(self, updates: int) -> int:
    """How many of so many updates train weights alone."""
    return round(self.warmup * updates)

  def alpha_learning_rate(self, updates: int) -> float:
    """Learning rate of the alphas, for an iteration of so many updates."""
    if self.alpha_rate is not None:
      return self.alpha_rate
    return min(MAX_ALPHA_RATE, self.travel / max(updates - self.warmup_updates(updates), 1))

  def round_steps(self, updates: int) -> list[tuple[int, int]]:
    """(update after which to prune, operations to keep), for an iteration of so many updates."""
    return [(max(1, round(share * updates)), keep) for share, keep in self.rounds]


@dataclasses.dataclass(frozen=True)
class Plan:
  """A whole search.

  Attributes:
    cells: the cells before the search, shallow to deep.
    iterations: in order.
    max_skip_connects: cap of skip_connects in a derived normal cell, None for none.
  """

  cells: tuple[Cell, ...]
  iterations: tuple[Iteration, ...]
  max_skip_connects: int | None = None

  def check(self, iteration: int, pruned: int, cells: tuple[Cell, ...], built: tuple[Cell, ...]) -> None:
    """Checks that a search by this plan may stand at a place.

    Args:
      iteration: index in the plan.
      pruned: rounds done in it.
      cells: every cell's candidates that are left.
      built: those that the supernet has.

    Raises:
      ValueError: where it may not.
    """
    if type(iteration) is not int or not 0 <= iteration < len(self.iterations):
      raise ValueError("the plan has no such iteration")
    if type(pruned) is not int or not 0 <= pruned <= len(self.iterations[iteration].rounds):
      raise ValueError("the iteration has no such round of pruning")
    for left, whole in ((cells, built), (built, self.cells)):
      if len(left) != len(whole) or not all(map(_remains, left, whole)):
        raise ValueError("the cells are not those of the plan")


def _remains(cell, whole):
  """Whether a cell is another one without some of its candidates."""
  same = (cell.name, cell.kind, cell.concat) == (whole.name, whole.kind, whole.concat)
  return (
    same
    and len(cell.candidates) == len(whole.candidates)
    and all(
      alive == tuple(name for name in operations if name in alive)
      for alive, operations in zip(cell.candidates, whole.candidates, strict=True)
    )
  )


# Our choice: 8 -> 5 -> 3 operations as P-DARTS has them between its stages, here within an iteration.
ROUNDS = ((0.6, 5), (0.8, 3))


def make(config: ml_collections.ConfigDict) -> Plan:
  """The plan that the config names.

  Raises:
    UsageError: where `search.operations` names an unknown one.
  """
  plan = {"lfr_darts": _lfr_darts, "darts": _darts, "pdarts": _pdarts, "joint": _joint}[config.plan.name](config)
  warmup, travel = SCHEDULES[config.plan.name]
  if config.search.warmup_fraction is not None:
    warmup = config.search.warmup_fraction
  rate = config.search.alpha_learning_rate
  scheduled = (dataclasses.replace(i, warmup=warmup, travel=travel, alpha_rate=rate) for i in plan.iterations)
  return dataclasses.replace(plan, iterations=tuple(scheduled))


def _cells(config, names):
  unknown = [name for name in config.search.operations if name not in OPERATIONS]
  if unknown:
    raise UsageError(f"config.search.operations: {unknown[0]!r}; allowed are {', '.join(OPERATIONS)}")
  kinds = {"n": genotype.NORMAL, "r": genotype.REDUCTION}
  return tuple(Cell.full(n, kinds[n[0]], config.search.nodes, config.search.operations) for n in names)


def _rounds(config, default):
  return tuple(tuple(r) for r in config.prune.rounds) if config.prune.rounds is not None else default


def _lfr_darts(config):
  iterations = []
  for k, name in enumerate(STAGES):
    copies = lambda cell, count: (cell,) * (count if cell[0] == "n" else 1)
    derived = sum((copies(cell, config.plan.derived_copies) for cell in STAGES[:k]), ())
    iterations.append(
      Iteration(
        derived + copies(name, config.plan.searched_copies),
        (name,),
        _rounds(config, ROUNDS),
        inherit=config.plan.inherit_weights,
      )
    )
  return Plan(_cells(config, STAGES), tuple(iterations))


_DARTS_CELLS = ("normal", "reduction")
_DARTS_STAGES = ("normal", "reduction", "normal", "reduction", "normal")


def _darts(config):
  layout = genotype.staged_layout(_DARTS_STAGES, config.search.layers)
  return Plan(_cells(config, _DARTS_CELLS), (Iteration(layout, _DARTS_CELLS, _rounds(config, ())),))


def _pdarts(config):
  # Chen et al., "Progressive differentiable architecture search", ICCV 2019: deeper supernets, fewer candidates,
  # fresh weights and alphas in each; dropout on skip_connects and a cap on their number.
  iterations = tuple(
    Iteration(
      genotype.staged_layout(_DARTS_STAGES, layers), _DARTS_CELLS, _rounds(config, ()), keep, skip_dropout=rate or None
    )
    for layers, keep, rate in zip(config.plan.pdarts_layers, (5, 3, 1), config.plan.pdarts_skip_dropout, strict=True)
  )
  return Plan(_cells(config, _DARTS_CELLS), iterations, config.plan.pdarts_max_skip_connects)


def _joint(config):
  layout = genotype.staged_layout(STAGES, config.search.layers)
  return Plan(_cells(config, STAGES), (Iteration(layout, STAGES, _rounds(config, ROUNDS)),))
