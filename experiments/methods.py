"""The methods that a study compares: how each comes to a genotype. All are trained by the same code."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from configs.systems import SYSTEMS
from lfr_darts_jax.search import budget, plans, pruning
from lfr_darts_jax.search_space.formats import DARTS_V2
from lfr_darts_jax.search_space.genotype import Genotype

Given = Callable[[ml_collections.ConfigDict, int], Genotype]


@dataclasses.dataclass(frozen=True)
class Method:
  """How to come to a genotype.

  Attributes:
    meaning: in words, for the tables.
    overrides: of config fields, for its search.
    given: the genotype for a config and a seed, in place of a search.
    within: a method and a share: what the network may cost, of the multiply-adds that the method chose freely with the
      same seed.
    search_of: GROUP/METHOD, whose search with the same seed is the same but for the budget.
  """

  meaning: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  given: Given | None = None
  within: tuple[str, float] | None = None
  search_of: str | None = None


def random_genotype(config: ml_collections.ConfigDict, seed: int) -> Genotype:
  """Chance: every cell of the config's plan derived from strengths that are drawn, within `search.budget`.

  Without a budget all genotypes of the search space, whose nodes have two different sources each, are equally probable.
  """
  rng, plan, operations = np.random.default_rng([seed, 11]), plans.make(config), tuple(config.search.operations)
  drawn = {cell.name: rng.random((len(cell.candidates), len(operations))) for cell in plan.cells}
  if config.search.budget:
    return plan.genotype(budget.Budget(config, plan).derive(drawn))
  return plan.genotype([pruning.derive(cell, drawn[cell.name], operations) for cell in plan.cells])


def budgeted() -> dict[str, Method]:
  """lfr_darts and darts within shares of what they choose freely, and chance within the same."""
  made = {}
  # From shallow to deep a budget leaves cells open that are derived without one; in one supernet it changes nothing.
  searches = ("lfr_darts", 0.6, None), ("lfr_darts", 0.8, "within/lfr_darts_60")
  for name, share, search_of in (*searches, ("darts", 0.6, "main/darts"), ("darts", 0.8, "main/darts")):
    what, overrides, within = f"within {100 * share:.0f} % of what it chooses", {"plan.name": name}, (name, share)
    made[f"{name}_{100 * share:.0f}"] = Method(f"{name} {what}", overrides, None, within, search_of)
    made[f"random_{name}_{100 * share:.0f}"] = Method(
      f"chance in the space of {name}, {what}", overrides, random_genotype, within
    )
  return made


def systems() -> dict[str, Method]:
  """The rows of configs/systems.py: NAME with the plan of LFR-DARTS, NAME_on_darts with that of DARTS.

  How deep networks are is for the study to say. A system that is a plan of its own stands there once.
  """
  made = {}
  for name, system in SYSTEMS.items():
    overrides = {field: value for field, value in system.overrides.items() if field != "network.layers"}
    made[name] = Method(system.source, overrides)
    if "plan.name" not in overrides:
      made[f"{name}_on_darts"] = Method(f"{system.source}, on darts", {"plan.name": "darts", **overrides})
  return made


METHODS = {
  "lfr_darts": Method("a cell per stage, searched from shallow to deep"),
  "lfr_darts_order2": Method("the same with exact bilevel gradients of order 2", {"search.order": 2}),
  "joint": Method("a cell per stage, all searched at once", {"plan.name": "joint"}),
  "darts": Method("one normal and one reduction cell, repeated", {"plan.name": "darts"}),
  "pdarts": Method(
    "the same two cells, in supernets of growing depth",
    {"plan.name": "pdarts", "search.min_learning_rate": 0.0, "search.alpha_gradient_clip": 5.0},
  ),
  "random_layered": Method("a cell per stage, drawn at random", given=random_genotype),
  "random_repeated": Method(
    "one normal and one reduction cell, drawn at random", {"plan.name": "darts"}, given=random_genotype
  ),
  "darts_v2": Method("DARTS's published cells of order 2", {"plan.name": "darts"}, given=lambda *_: DARTS_V2),
  "all_at_once": Method("lfr_darts without rounds of pruning", {"prune.rounds": ()}),
  "inherited": Method(
    "lfr_darts whose supernets start from the weights of the one before", {"plan.inherit_weights": True}
  ),
  "no_warmup": Method("lfr_darts whose alphas move from the first update", {"search.warmup_fraction": 0.0}),
  "two_searched_copies": Method("lfr_darts with two layers of the searched cell", {"plan.searched_copies": 2}),
  **systems(),
  **budgeted(),
}
SEARCHED = tuple(name for name, method in METHODS.items() if method.given is None)
CHANCE = tuple(name for name, method in METHODS.items() if method.given is random_genotype)
