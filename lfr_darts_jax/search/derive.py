"""What `--mode=derive` does: the network that a finished search gives under another budget."""

from collections.abc import Sequence
import dataclasses

import ml_collections

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import paths, workdir as workdirs
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search import budget, multi_seed, plans
from lfr_darts_jax.search.pruning import Pruner
from lfr_darts_jax.search.state import SearchPosition
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype


def derive(workdir: str | Path, config: ml_collections.ConfigDict | None = None) -> Genotype:
  """The genotype that the strengths of a directory's search give within `search.budget`; nothing is changed in it.

  Args:
    workdir: the directory; where it has searches of several seeds, the chosen one counts.
    config: the directory's with another budget, costs or final network; None for the directory's.

  Raises:
    UsageError: where the directory holds no finished search of the config's plan, or no network keeps within the
      budget.
  """
  workdir = paths.path(workdir)
  config = config or workdirs.load_config(workdir)
  schema.validate(config, ("search",), schema.BUDGET_FIELDS)
  summary, plan = multi_seed.read_summary(workdir), plans.make(config)
  if summary is None:
    raise UsageError(f"workdir: {workdir} holds no finished search; allowed is a directory that does")
  operations = spaces.operations(config)
  wanted = {cell.name: [len(operations)] * len(cell.candidates) for cell in plan.cells}
  if wanted != {name: [*map(len, rows)] for name, rows in summary.strengths.items()}:
    raise UsageError(
      f"workdir: {workdir / workdirs.SEARCH_SUMMARY} lacks strengths of the plan's cells; allowed is a search of "
      "this version"
    )
  left = tuple(_left(cell, summary.strengths[cell.name], operations) for cell in plan.cells)
  position = SearchPosition(len(plan.stages), left, plan.cells, strengths=summary.strengths)
  return plan.genotype(Pruner(config, plan, budget.make(config, plan)).choose(position))


def _left(cell: CellSpec, strengths: Sequence[Sequence[float]], operations: Sequence[str]) -> CellSpec:
  """A cell without the candidates that the search had pruned."""
  rows = zip(cell.candidates, strengths, strict=True)
  left = (tuple(name for name in names if row[operations.index(name)]) for names, row in rows)
  return dataclasses.replace(cell, candidates=tuple(left))
