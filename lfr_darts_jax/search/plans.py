"""A search is a plan: a list of stages. The plans lfr_darts, darts, pdarts, joint and per_layer; of chains, others.

Baselines come from the same code as the method, so comparisons are fair.
"""

from collections.abc import Sequence
import dataclasses

import ml_collections

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import LAYER, NORMAL, REDUCTION, CellSpec
from lfr_darts_jax.search_space.genotype import Genotype, section_layout
from lfr_darts_jax.search_space.operation_names import OPERATION_NAMES

CELL_NAMES = ("n0", "r0", "n1", "r1", "n2")

# Adam moves an alpha by at most its rate in a step, so that rate times steps bounds how far it can go. A short search
# needs a higher rate to leave uniform alphas at all: by default it has the travel of the published one.
DARTS_TRAVEL = 3e-4 * 50 * 390  # Its rate, its epochs, and the batches of 64 in half of CIFAR-10's train split.
PDARTS_TRAVEL = 6e-4 * 15 * 260  # Of a stage, whose alphas move in 15 of 25 epochs, in batches of 96.
MAX_ALPHA_RATE = 0.1  # Our choice: above it single batches would decide.

# By plan, warm-up and travel. DARTS moves its alphas from the first step on, P-DARTS after 10 of 25 epochs (section
# 4.2); 0.3 is our choice.
SCHEDULES = {
  "lfr_darts": (0.3, DARTS_TRAVEL),
  "joint": (0.3, DARTS_TRAVEL),
  "darts": (0.0, DARTS_TRAVEL),
  "pdarts": (0.4, PDARTS_TRAVEL),
  "per_layer": (0.0, DARTS_TRAVEL),
  "per_section": (0.3, DARTS_TRAVEL),
}


Rounds = tuple[tuple[float, int], ...]


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a search.

  Attributes:
    layout: names of the supernet's layers, shallow to deep.
    searched: the cells whose alphas move.
    rounds: of pruning: (share of the stage's steps, operations kept per edge), in order.
    keep: operations kept per edge at its end; 1 derives the cell: one operation on two edges per node; None leaves it
      as it is until the end of the search.
    settled: cells that earlier stages searched and left as they were: mixed by alphas that don't move any more.
    absent: cells of the layout that later stages search. Until then each is the identity alone, as if it were not
      there; so the stages of a section have one supernet, which is compiled once where no alphas move.
    inherit: whether its supernet starts from the weights of the one before.
    skip_dropout: initial dropout rate on skip_connects, None for no dropout.
    warmup: share of its steps that train weights alone, at its beginning.
    travel: how far its alphas can go where `alpha_rate` is None: the rate of Adam times the bilevel steps.
    alpha_rate: learning rate of the alphas; None: what `travel` makes of the number of steps.
  """

  layout: tuple[str, ...]
  searched: tuple[str, ...]
  rounds: Rounds = ()
  keep: int | None = 1
  settled: tuple[str, ...] = ()
  absent: tuple[str, ...] = ()
  inherit: bool = False
  skip_dropout: float | None = None
  warmup: float = 0.0
  travel: float = DARTS_TRAVEL
  alpha_rate: float | None = None

  @property
  def present(self) -> tuple[str, ...]:
    """Names of the supernet's layers that are there, shallow to deep."""
    return tuple(name for name in self.layout if name not in self.absent)

  def program(self, total: int) -> "Stage":
    """The stage as far as its steps are compiled by it: where no alphas move, whose they are does not matter."""
    return self if self.moves(total) else dataclasses.replace(self, searched=(), settled=(), absent=())

  def moves(self, total: int) -> bool:
    """Whether its alphas move at all, in so many steps; where its warm-up lasts as long they don't."""
    return self.warmup_steps(total) < total

  def warmup_steps(self, total: int) -> int:
    """How many of so many steps train weights alone."""
    return round(self.warmup * total)

  def alpha_learning_rate(self, total: int) -> float:
    """Learning rate of the alphas, for a stage of so many steps."""
    if self.alpha_rate is not None:
      return self.alpha_rate
    return min(MAX_ALPHA_RATE, self.travel / max(total - self.warmup_steps(total), 1))

  def round_steps(self, total: int) -> list[tuple[int, int]]:
    """(step after which to prune, operations to keep), for a stage of so many steps."""
    return [(max(1, round(share * total)), keep) for share, keep in self.rounds]

  def chunk_end(self, start: int, rounds: int, total: int, size: int) -> int:
    """Where the chunk that begins at step `start` ends: at fixed steps, so that a resumed run repeats the same ones.

    Args:
      start: steps done in the stage.
      rounds: of pruning that are done.
      total: steps of the stage.
      size: steps of a chunk, at most.
    """
    pruned_after = [step for step, _ in self.round_steps(total)[rounds:]]
    return min([(start // size + 1) * size, total, *pruned_after])


@dataclasses.dataclass(frozen=True)
class Plan:
  """A whole search.

  Attributes:
    cells: the cells before the search, shallow to deep.
    stages: in order.
    max_skip_connects: cap of skip_connects in a derived normal cell, None for none.
  """

  cells: tuple[CellSpec, ...]
  stages: tuple[Stage, ...]
  max_skip_connects: int | None = None

  def genotype(self, cells: Sequence[CellSpec]) -> Genotype:
    """The genotype of its cells, derived; of a chain, those of the layers of the last stage."""
    if self.cells[0].kind != LAYER:
      return Genotype(tuple(cells))
    by_name, layout = {cell.name: cell for cell in cells}, self.stages[-1].layout
    return Genotype(tuple(CellSpec.layer(f"l{i}", by_name[name].candidates[0]) for i, name in enumerate(layout)))

  def check(self, stage: int, rounds: int, cells: tuple[CellSpec, ...], built: tuple[CellSpec, ...]) -> None:
    """Checks that a search by this plan may stand at a position; arguments as of `state.SearchPosition`.

    Raises:
      ValueError: where it may not.
    """
    if not 0 <= stage < len(self.stages):
      raise ValueError("the plan has no such stage")
    if not 0 <= rounds <= len(self.stages[stage].rounds):
      raise ValueError("the stage has no such round of pruning")
    for left, whole in ((cells, built), (built, self.cells)):
      if len(left) != len(whole) or not all(map(_remains, left, whole)):
        raise ValueError("the cells are not those of the plan")


def _remains(cell: CellSpec, whole: CellSpec) -> bool:
  """Whether a cell is another one without some of its candidates."""
  fixed = lambda one: (one.name, one.kind, one.concat, one.parallel)
  return (
    fixed(cell) == fixed(whole)
    and len(cell.candidates) == len(whole.candidates)
    and all(
      left == tuple(name for name in operations if name in left)
      for left, operations in zip(cell.candidates, whole.candidates, strict=True)
    )
  )


# Our choice: 8 -> 5 -> 3 operations as P-DARTS has them between its stages, here within a stage.
ROUNDS = ((0.6, 5), (0.8, 3))


def make(config: ml_collections.ConfigDict) -> Plan:
  """The plan that the config names.

  Raises:
    UsageError: where `search.operations` names an unknown one.
  """
  plan = PLANS[config.space.name][config.plan.name](config)
  warmup, travel = SCHEDULES[config.plan.name]
  if config.search.warmup_fraction is not None:
    warmup = config.search.warmup_fraction
  rate = config.search.alpha_learning_rate
  scheduled = (dataclasses.replace(s, warmup=warmup, travel=travel, alpha_rate=rate) for s in plan.stages)
  return dataclasses.replace(plan, stages=tuple(scheduled))


def steps_per_stage(config: ml_collections.ConfigDict, train_images: int) -> int:
  """Steps of a stage: `search.epochs` passes over a split of the search, each without its last incomplete batch."""
  split = int(train_images * config.data.search_fraction) // 2
  return config.search.epochs * max(split // config.search.batch_size, 1)


def fade_steps(config: ml_collections.ConfigDict, total: int) -> int:
  """Steps in which what was pruned fades, of a stage of so many."""
  return max(round(config.prune.fade * total), 1)


def _cells(config: ml_collections.ConfigDict, names: Sequence[str]) -> tuple[CellSpec, ...]:
  unknown = [name for name in config.search.operations if name not in OPERATION_NAMES]
  if unknown:
    raise UsageError(f"config.search.operations: {unknown[0]!r}; allowed are {', '.join(OPERATION_NAMES)}")
  kinds = {"n": NORMAL, "r": REDUCTION}
  nodes, window = config.search.nodes, config.plan.window
  return tuple(CellSpec.full(n, kinds[n[0]], nodes, config.search.operations, window) for n in names)


def _rounds(config: ml_collections.ConfigDict, default: Rounds) -> Rounds:
  return tuple(tuple(r) for r in config.prune.rounds) if config.prune.rounds is not None else default


def _lfr_darts(config: ml_collections.ConfigDict) -> Plan:
  copies = lambda cell, count: (cell,) * (count if cell[0] == "n" else 1)
  stages: list[Stage] = []
  derived: tuple[str, ...] = ()
  for name in CELL_NAMES:
    layout = derived + copies(name, config.plan.searched_copies)
    stages.append(Stage(layout, (name,), _rounds(config, ROUNDS), inherit=config.plan.inherit_weights))
    derived += copies(name, config.plan.derived_copies)
  return Plan(_cells(config, CELL_NAMES), tuple(stages))


_DARTS_CELLS = ("normal", "reduction")
_DARTS_SECTIONS = ("normal", "reduction", "normal", "reduction", "normal")


def _darts(config: ml_collections.ConfigDict) -> Plan:
  layout = section_layout(_DARTS_SECTIONS, config.search.layers)
  return Plan(_cells(config, _DARTS_CELLS), (Stage(layout, _DARTS_CELLS, _rounds(config, ())),))


def _pdarts(config: ml_collections.ConfigDict) -> Plan:
  # Chen et al., "Progressive differentiable architecture search", ICCV 2019: deeper supernets, fewer candidates,
  # fresh weights and alphas in each; dropout on skip_connects and a cap on their number.
  plan, rounds = config.plan, _rounds(config, ())
  stages = tuple(
    Stage(section_layout(_DARTS_SECTIONS, layers), _DARTS_CELLS, rounds, keep, skip_dropout=rate or None)
    for layers, keep, rate in zip(plan.pdarts_layers, (5, 3, 1), plan.pdarts_skip_dropout, strict=True)
  )
  return Plan(_cells(config, _DARTS_CELLS), stages, plan.pdarts_max_skip_connects)


def _joint(config: ml_collections.ConfigDict) -> Plan:
  layout = section_layout(CELL_NAMES, config.search.layers)
  return Plan(_cells(config, CELL_NAMES), (Stage(layout, CELL_NAMES, _rounds(config, ROUNDS)),))


def _per_layer(config: ml_collections.ConfigDict) -> Plan:
  # D-DARTS (Wang et al. 2021): every layer of one supernet has a cell of its own.
  kinds = section_layout(("n", "r", "n", "r", "n"), config.search.layers)
  names = tuple(f"{kind}{i}" for i, kind in enumerate(kinds))
  return Plan(_cells(config, names), (Stage(names, names, _rounds(config, ())),))


def _chain(config: ml_collections.ConfigDict, names: Sequence[str], stages: Sequence[Stage]) -> Plan:
  return Plan(tuple(CellSpec.layer(name, spaces.operations(config)) for name in names), tuple(stages))


def _chain_layered(config: ml_collections.ConfigDict) -> Plan:
  # What later layers will want of a budget is not known yet, so that no layer is chosen before the end.
  layers, by_section = spaces.layers(config), config.plan.unit == "section"
  names = tuple(f"l{i}" for i in range(len(layers)))
  units = [layer.section if by_section else i for i, layer in enumerate(layers)]
  sections = [layer.section for layer in layers]
  behind = lambda values, value: values.index(value) + values.count(value)
  stages, rounds, inherit = [], _rounds(config, ()), config.plan.inherit_weights
  for unit in dict.fromkeys(units):
    first, last = units.index(unit), behind(units, unit)
    # Behind the first of a section, whose identity would change the resolution, an identity is as good as no layer.
    end = behind(sections, sections[first])
    settled, searched, absent = names[:first], names[first:last], names[last:end]
    stages.append(Stage(names[:end], searched, rounds, None, settled, absent, inherit))
  return _chain(config, names, stages)


def _chain_joint(config: ml_collections.ConfigDict) -> Plan:
  names = tuple(f"l{i}" for i in range(len(spaces.layers(config))))
  return _chain(config, names, [Stage(names, names, _rounds(config, ()), None)])


def _per_section(config: ml_collections.ConfigDict) -> Plan:
  layout = tuple(f"s{layer.section}" for layer in spaces.layers(config))
  names = tuple(dict.fromkeys(layout))
  return _chain(config, names, [Stage(layout, names, _rounds(config, ()), None)])


# By `space.name`, then by `plan.name`.
PLANS = {
  "cells": {"lfr_darts": _lfr_darts, "darts": _darts, "pdarts": _pdarts, "joint": _joint, "per_layer": _per_layer},
  "mobile": {"lfr_darts": _chain_layered, "joint": _chain_joint, "per_section": _per_section},
}
