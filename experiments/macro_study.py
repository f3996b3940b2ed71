"""The searches of the study on NAS-Bench-Macro, and what a line of its results holds.

One search serves all budgets: its strengths are chosen by under each. `priced` are the searches whose alphas pay for
one budget besides. Settings were chosen on the validation half and, for the pilot's seeds alone, on the table; seeds 0
to 4 were looked up once.

A line: `method`, `relaxation`, `seed`; `search_seconds`, compiling and measuring included; `found` and
`found_by_alphas`, by budget the code that the measured strengths and the alphas choose; `strengths` and `alphas`,
`[8][3]`; `supernet_accuracy` of `CODES` on images that the search has not seen; `scores`, the file that holds of every
code the sum of log strengths, in the order of the codes.
"""

from collections.abc import Mapping
import dataclasses
import io
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from configs import mobile
from experiments import macro_space, watched
from experiments.lines import Line
from lfr_darts_jax import config as schema
from lfr_darts_jax.data import augment, datasets, input_pipeline
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.paths import write_atomically
from lfr_darts_jax.search import budget, plans, pruning
from lfr_darts_jax.search.state import SearchState
from lfr_darts_jax.training.evaluate import evaluate

CHANNELS = 8  # Of the supernet's stem, a quarter of the benchmark's.
EPOCHS = 8  # Of each half, per search, shared out over a plan's stages.
BATCHES = 1_000  # Of validation images through random paths, by whose losses strengths are measured.
HELD_OUT = 2_000  # Images that no search sees.
CODES = tuple(np.array(macro_space.codes())[np.random.default_rng(0).permutation(3**8)[:200]].tolist())
PLANS: Mapping[str, Mapping[str, Any]] = {
  "lfr_darts": {"plan.name": "lfr_darts"},
  "joint": {"plan.name": "joint"},
  "per_section": {"plan.name": "per_section"},
}
RELAXATIONS: Mapping[str, Mapping[str, Any]] = {
  # Evenly sampled paths, by whose losses strengths are measured.
  "sampled": {"search.gate": "sampled", "search.warmup_fraction": 1.0},
  # DARTS's mixture, whose alphas move.
  "softmax": {"search.gate": "softmax", "search.warmup_fraction": 0.3},
}


@dataclasses.dataclass(frozen=True)
class Job:
  """One search.

  Attributes:
    plan: its plan, a key of `PLANS`.
    relaxation: a key of `RELAXATIONS`.
    seed: of the search.
    priced: a key of `macro_space.BUDGETS` whose price its alphas pay, None for none.
  """

  plan: str
  relaxation: str
  seed: int
  priced: str | None = None

  @property
  def method(self) -> str:
    """Its name in the lines."""
    return f"{self.plan}, {self.relaxation}" + (f", priced at {self.priced}" if self.priced else "")

  @property
  def place(self) -> str:
    """Its folder below that of the study."""
    return f"{self.method.replace(', ', '_').replace(' ', '_')}/{self.seed}"


def _grid(seeds: range, relaxation: str) -> list[Job]:
  return [Job(plan, relaxation, seed) for seed in seeds for plan in PLANS]


GROUPS = {
  "pilot": _grid(range(100, 103), "sampled"),
  "main": [*_grid(range(5), "sampled"), *_grid(range(3), "softmax")],
  "priced": [
    Job(plan, "sampled", seed, priced)
    for seed in range(5)
    for priced in ("60M", "1.25M weights")
    for plan in ("lfr_darts", "joint")
  ],
}


def config_of(job: Job, data_dir: str | None, channels: int = CHANNELS) -> ml_collections.ConfigDict:
  """The config of a search; the network that is paid for has the benchmark's width, whatever the supernet's."""
  config = mobile.get_config("macro")
  config.data.dir, config.seed, config.search.channels = data_dir, job.seed, channels
  config.data.search_fraction = 1 - HELD_OUT / 50_000
  config.search.measured_batches = BATCHES
  flat = schema.flatten(config) | PLANS[job.plan] | RELAXATIONS[job.relaxation]
  if job.priced:
    flat |= {"search.warmup_fraction": 0.3}
    flat |= {"search.budget": [macro_space.BUDGETS[job.priced]], "search.price_rate": 0.01}
  made = schema.unflatten(flat)
  made.search.epochs = EPOCHS // len(plans.make(made).stages)
  return made


def run(job: Job, data_dir: str | None, folder: pathlib.Path, channels: int = CHANNELS) -> tuple[Line, np.ndarray]:
  """Searches, and goes on where an earlier process stopped.

  Returns:
    The line of the result, and the scores of all codes.
  """
  jax.config.update("jax_enable_compilation_cache", False)
  config = config_of(job, data_dir, channels)
  dataset, ends = datasets.open_dataset(config), []
  searched = watched.go_on(config, dataset, folder, lambda *end: ends.append(end))
  _, network, state = ends[-1]
  plan = plans.make(config)
  alphas = pruning.Pruner(config, plan).mixtures(state)
  measured = {name: np.array(rows) for name, rows in searched.strengths.items()}
  layout = plan.stages[-1].layout
  rows = lambda found: [np.round(found[name][0], 5).tolist() for name in layout]
  line = {
    "method": job.method,
    "relaxation": job.relaxation,
    "seed": job.seed,
    "search_seconds": round(searched.seconds, 1),
    "found": {name: _found(config, plan, measured, name) for name in macro_space.BUDGETS},
    "found_by_alphas": {name: _found(config, plan, alphas, name) for name in macro_space.BUDGETS},
    "strengths": rows(measured),
    "alphas": rows(alphas),
    "supernet_accuracy": _accuracies(config, dataset, network, state),
    "scores": f"scores/{job.place.replace('/', '_')}.npy",
    "device": jax.default_backend(),
    "packages": {"jax": jax.__version__},
  }
  jax.clear_caches()
  return line, macro_space.scores(rows(measured))


def _found(config, plan, strengths, name) -> str:
  """The code that strengths choose under a budget, at the benchmark's own width."""
  config = config.copy_and_resolve_references()
  config.search.budget = (macro_space.BUDGETS[name],)
  return macro_space.code(plan.genotype(budget.Budget(config, plan).derive(strengths)))


def _accuracies(config, dataset, network: AnyNetwork, state: SearchState) -> list[float]:
  """Of `CODES` in the supernet, percent, by running statistics, on the images held out; in order."""
  searched = datasets.search_splits(
    dataset.train_images, config.data.search_fraction, config.search.batch_size, config.seed
  )
  held_out = np.setdiff1d(np.arange(dataset.train_images), searched)[:HELD_OUT]
  split = input_pipeline.open_split(dataset.train, config, distributed.first_device())
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  statistics, one, found = augment.statistics(dataset.train[0]), np.eye(3, dtype=np.float32), []
  for text in CODES:
    # By layer, as those that share a cell may differ in it.
    chosen = {f"layer_{i}": one[int(digit)][None] for i, digit in enumerate(text)}
    tested = evaluate(network, variables, split, 500, statistics, held_out, chosen)
    found.append(round(100 - tested.error, 2))
  return found


def save_scores(path: pathlib.Path, scores: np.ndarray) -> None:
  """Writes the scores of a search."""
  file = io.BytesIO()
  np.save(file, scores.astype(np.float32))
  path.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, file.getvalue())
