"""What a study compares: methods and seeds in groups, under one config and equal budgets."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import statistics
from typing import Any

import ml_collections

from experiments import lines
from experiments.lines import Line
from experiments.methods import METHODS
from lfr_darts_jax import pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search import plans
from lfr_darts_jax.search_space.genotype import Genotype

REFERENCE = "lfr_darts"  # Whom all others are compared with.
TOLERANCE = 0.05  # Networks whose parameters differ by less count as equally large.


@dataclasses.dataclass(frozen=True)
class Group:
  """Methods whose results lie in one file.

  Attributes:
    seeds: by method, how many; seed s is that of the search and of the training.
    overrides: of config fields, for all of them.
    match: a group whose genotypes are trained again, those that are not as large as `REFERENCE`'s are there with the
      number of channels that brings them closest to it.
  """

  seeds: Mapping[str, int]
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  match: str | None = None


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Whether a supernet ranks the cells of a stage as training does: see `ranking`.

  Attributes:
    cell: name of the stage's cell.
    candidates: derived cells to be compared.
    overrides: of config fields.
  """

  cell: str
  candidates: int
  overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Study:
  """A comparison under one config.

  Attributes:
    name: of its folder in `experiments/results`.
    config: shared by all methods.
    search_epochs: of every search, over all of its iterations.
    groups: by name, in the order in which they are run.
    ranking: of one stage, None for none.
    noise: searches in which the gradients of the alphas are measured, see `noise`; None for none.
    mechanisms: whether tables show what each method's mechanism does, see `tables.mechanisms`.
  """

  name: str
  config: ml_collections.ConfigDict
  search_epochs: int
  groups: Mapping[str, Group]
  ranking: Ranking | None = None
  noise: Group | None = None
  mechanisms: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
  """One method with one seed.

  Attributes:
    group: its name.
    method: its name.
    seed: of its search and its training.
    config: of both.
    genotype: where none is to be searched.
    line: where the group that it is matched to has the very same network trained.
    search_of: place of a job whose search is the same but for the budget.
  """

  group: str
  method: str
  seed: int
  config: ml_collections.ConfigDict
  genotype: Genotype | None
  line: Line | None = None
  search_of: str | None = None

  @property
  def place(self) -> str:
    """Its folder below that of the study."""
    return f"{self.group}/{self.method}/{self.seed}"

  @property
  def key(self) -> tuple[str, int]:
    """Which line of its group is its own."""
    return self.method, self.seed


def done(results: Sequence[Line]) -> set[tuple[str, int]]:
  """The keys of the jobs that a group has lines of."""
  return {(line["method"], line["seed"]) for line in results}


def method_config(study: Study, method: str, seed: int, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """The config of a method with a seed; its search has the study's epochs in all, shared out over its stages.

  Raises:
    UsageError: where these can't be shared out evenly.
  """
  config = study.config.copy_and_resolve_references()
  with config.ignore_type():
    config.update_from_flattened_dict({**overrides, **METHODS[method].overrides, "seed": seed})
  stages = len(plans.make(config).stages)
  config.search.epochs, rest = divmod(study.search_epochs, stages)
  if rest:
    raise UsageError(f"search_epochs: {study.search_epochs}; {method} allows multiples of {stages}")
  return config


def jobs(study: Study, name: str, found: Mapping[str, Sequence[Line]]) -> Iterator[Job]:
  """The jobs of a group that are not done, seed by seed, so that all methods have as many when it is stopped.

  Args:
    study: the study.
    name: of the group.
    found: the lines of all groups so far.
  """
  seeds = study.groups[name].seeds
  ended = done(found.get(name, ()))
  for seed in range(max(seeds.values())):
    for method, count in seeds.items():
      # Before it is made, since to match a network takes a while.
      if seed < count and (method, seed) not in ended:
        made = job(study, name, method, seed, found)
        if made is not None:
          yield made


def job(study: Study, name: str, method: str, seed: int, found: Mapping[str, Sequence[Line]]) -> Job | None:
  """One job of a group, None where its network is as large as it should be, or waits for another; else as of `jobs`."""
  group = study.groups[name]
  config = method_config(study, method, seed, group.overrides)
  if not group.match:
    given, within, search_of = METHODS[method].given, METHODS[method].within, METHODS[method].search_of
    if within:
      free = [li for li in found.get("main", ()) if (li["method"], li["seed"]) == (within[0], seed)]
      if not free:
        return None
      config.search.budget = (("multiply_adds", within[1] * free[0]["multiply_adds"]),)
    genotype = given(config, seed) if given else None
    return Job(name, method, seed, config, genotype, search_of=search_of and f"{search_of}/{seed}")
  parameters = target(found[group.match])
  line = next((own for own in found[group.match] if (own["method"], own["seed"]) == (method, seed)), None)
  if line is None or matches(line, parameters):
    return None
  genotype, before = lines.genotype(line), config.network.channels
  config.network.channels = _closest(config, genotype, parameters)
  same = config.network.channels == before and group.overrides == study.groups[group.match].overrides
  return Job(name, method, seed, config, genotype, line if same else None)


def target(results: Sequence[Line]) -> int:
  """The parameters that a group's networks are matched to: the median of `REFERENCE`'s."""
  own = [line["parameters"] for line in results if line["method"] == REFERENCE]
  if not own:
    raise UsageError(f"groups: there is no {REFERENCE} yet to be matched")
  return statistics.median_low(own)


def matches(line: Line, parameters: int) -> bool:
  """Whether a network is as large as it should be."""
  return abs(line["parameters"] / parameters - 1) <= TOLERANCE


def _closest(config, genotype, parameters):
  """The number of channels that brings a genotype's network closest to so many parameters."""
  config = config.copy_and_resolve_references()

  def miss(channels):
    config.network.channels = channels
    return abs(pipeline.describe(config, genotype)["parameters"] - parameters)

  channels = config.network.channels
  least = miss(channels)
  for step in (1, -1):
    while channels + step > 1 and (other := miss(channels + step)) < least:
      channels, least = channels + step, other
  return channels
