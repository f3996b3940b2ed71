"""What a search carries: the pytree of a step, and its position in the plan."""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import optax

from lfr_darts_jax.runtime import json_io
from lfr_darts_jax.search import plans
from lfr_darts_jax.search_space.cell_spec import CellSpec

Tree = Any


class Alphas(NamedTuple):
  """Architecture parameters of a cell; a mask of them has the same form, in bool.

  Attributes:
    operations: `[edges, operations]`.
    edges: `[edges]`, where edges have parameters of their own; None, without a leaf, where they have not.
  """

  operations: jax.Array
  edges: jax.Array | None = None


def mask_of(cell: CellSpec, operations: Sequence[str], edge_weights: bool) -> Alphas:
  """Which alphas of a cell still have a say."""
  operations_left = cell.mask(operations)
  return Alphas(jnp.array(operations_left), jnp.array(operations_left.any(axis=1)) if edge_weights else None)


class SearchState(struct.PyTreeNode):
  """All that a step needs; donated to it, and saved in checkpoints.

  Attributes:
    step: steps done in this stage, int32 scalar.
    params: weights of the supernet.
    batch_stats: running statistics of its batch norms.
    alphas: per searched cell; pruned entries stay in place.
    mask: like `alphas`, bool: which candidates are left.
    opt_state: state of the weights' optimizer.
    alpha_opt_state: state of the alphas' optimizer.
    key: raw random key of the stage, from which those of every step are folded.
    prices: `[budgets]`, per unit of cost; None where the alphas' loss has no price.
    until: per searched cell `[edges, operations]`, int32: the step at which what was pruned has faded; None where
      nothing fades.
  """

  step: jax.Array
  params: Tree
  batch_stats: Tree
  alphas: dict[str, Alphas]
  mask: dict[str, Alphas]
  opt_state: optax.OptState
  alpha_opt_state: optax.OptState
  key: jax.Array
  until: dict[str, jax.Array] | None = None
  prices: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class SearchPosition:
  """Where a search stands in its plan.

  Attributes:
    stage: index in the plan.
    cells: every cell's candidates that are left.
    built: every cell's candidates in the supernet; more where a round of pruning needs no other supernet.
    rounds: of pruning that are done in this stage.
    strengths: `[edges][operations]` of every cell that was searched, as its last stage left them or as measured since.
  """

  stage: int
  cells: tuple[CellSpec, ...]
  built: tuple[CellSpec, ...]
  rounds: int = 0
  strengths: dict[str, tuple[tuple[float, ...], ...]] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_json(cls, value: Any, plan: plans.Plan) -> "SearchPosition":
    """The position that was written as JSON.

    Raises:
      ValueError: where it is none of this plan.
    """
    position = json_io.convert(value, cls, "position")
    plan.check(position.stage, position.rounds, position.cells, position.built)
    return position

  def narrowed(self, reduced: dict[str, CellSpec], **changes: Any) -> "SearchPosition":
    """The position with fewer candidates in some cells."""
    cells = tuple(reduced.get(cell.name, cell) for cell in self.cells)
    return dataclasses.replace(self, cells=cells, **changes)
