"""Where a search stands in its plan: what a checkpoint keeps beside the arrays, since their shapes follow from it."""

import dataclasses
from typing import Any

from lfr_darts_jax import checkpoint
from lfr_darts_jax import plans
from lfr_darts_jax.genotype import Cell


@dataclasses.dataclass
class Place:
  """Where a search stands.

  Attributes:
    iteration: index in the plan.
    cells: every cell's candidates that are left.
    built: every cell's candidates in the supernet; more where a round of pruning needs no other supernet.
    pruned: rounds done in this iteration.
    seconds: of search so far, over all processes.
    updating: of these, the seconds of updates alone.
    retries: how often the search went back because numbers were not finite.
    least_entropy: per searched cell, the least of this iteration, see `collapse`.
  """

  iteration: int
  cells: tuple[Cell, ...]
  built: tuple[Cell, ...]
  pruned: int
  seconds: float
  updating: float
  retries: int
  least_entropy: dict[str, float] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """What a checkpoint keeps of it."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, value: dict[str, Any], plan: plans.Plan) -> "Place":
    """The place that `to_json` wrote, checked against the plan.

    Raises:
      LookupError, TypeError, ValueError: where it is none of this plan.
    """
    cells, built = _cells(value["cells"]), _cells(value["built"])
    plan.check(value["iteration"], value["pruned"], cells, built)
    if not isinstance(value["least_entropy"], dict):
      raise TypeError("least_entropy is no object")
    least = {str(name): float(share) for name, share in value["least_entropy"].items()}
    if not all(0 <= share <= 1 for share in least.values()):
      raise ValueError("least_entropy is no share")
    seconds = checkpoint.seconds(value), checkpoint.seconds(value, "updating")
    return cls(value["iteration"], cells, built, value["pruned"], *seconds, checkpoint.retries(value), least)


def _cells(value):
  return tuple(Cell(c["name"], c["kind"], tuple(map(tuple, c["candidates"])), tuple(c["concat"])) for c in value)
