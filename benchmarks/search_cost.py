"""What whole searches cost under equal budgets: seconds of compiling and of updating, by plan.

    python benchmarks/search_cost.py --plans=lfr_darts,darts --updates=500 --batch=16 --channels=16 --json

Every plan gets the same total number of updates, split evenly over its iterations, a process of its own, and a
compilation cache that starts empty. No plan warms up, so that all updates have both half-steps. The progress of the
searches goes to stderr. One line of JSON per plan holds, besides the flags and `device`:

  plan              its name
  iterations        into which the updates were split
  compilations      of the update: one per iteration and round of pruning
  compile_seconds   all of them together, tracing included
  update_seconds    all updates together
  other_seconds     initial values, and the test of every iteration's supernet
  search_seconds    the whole search; the rest of it is data, pruning and checkpoints
  genotype          the cells that were found, in words
"""

import argparse
from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import sys
import tempfile
import time
from typing import Any

import common
import jax
import ml_collections

from lfr_darts_jax.config import FIELDS, validate
from lfr_darts_jax.data import datasets
from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.spaces import supernet
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.preemption import Preemption
from lfr_darts_jax.runtime.progress import Progress
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search import plans
from lfr_darts_jax.search.search import Search

EPOCH = 50  # Updates in an epoch, at most; an iteration's test takes as many batches.
DIGITS_SIZE = 8


class NoMetrics(Metrics):
  """Writes nothing: what a search logs is not what it costs."""

  def __init__(self) -> None:
    pass

  def rewind(self, *unused: Any, **unused_too: Any) -> list[dict[str, Any]]:
    return []

  def write(self, *unused: Any, **unused_too: Any) -> None:
    pass

  def flush(self) -> None:
    pass


class Stopwatch(Progress):
  """A progress line that keeps the seconds of updates and of waits apart.

  Attributes:
    waits: seconds of every wait, under the first word of what announced it: building, compiling, testing.
  """

  def __init__(self) -> None:
    super().__init__()
    self.waits: dict[str, list[float]] = {}

  @contextlib.contextmanager
  def waiting(self, text: str) -> Iterator[None]:
    began = time.monotonic()
    with super().waiting(text):
      yield
    self.waits.setdefault(text.split()[0], []).append(time.monotonic() - began)


def search_task(options: argparse.Namespace, plan: str) -> tuple[ml_collections.ConfigDict, datasets.Dataset]:
  """The config of a plan's search, and data of so many images that its iterations get their share of the updates.

  Raises:
    UsageError: where the flags don't fit together.
  """
  config = common.search_config(options, plan)
  stages = len(plans.make(config).stages)
  share, rest = divmod(options.updates, stages)
  if rest:
    raise UsageError(f"--updates={options.updates}: {plan} allows multiples of {stages}, its stages")
  if options.data == "digits":
    config.data.update(name="digits", channels=1)
    dataset = datasets.open_dataset(config)
  else:
    train = common.random_images(2 * options.batch * min(share, EPOCH), options.image_size, config.seed)
    names = tuple(map(str, range(config.data.num_classes)))
    dataset = datasets.Dataset(train, lambda: train, Identity("random", None, None, names, train[0].shape[1:], {}, ""))
  most = min(len(dataset.train[0]) // (2 * options.batch), EPOCH)
  if not most:
    raise UsageError(f"--batch={options.batch}: {options.data} has too few images for two batches")
  per_epoch = max(n for n in range(1, most + 1) if share % n == 0)
  config.search.epochs = share // per_epoch
  images, labels = (values[: 2 * options.batch * per_epoch] for values in dataset.train)
  validate(config)
  for stage in plans.make(config).stages:
    supernet(config, stage.layout, plans.make(config).cells)
  return config, dataclasses.replace(dataset, train=(images, labels))


def measure(options: argparse.Namespace, plan: str) -> dict[str, Any]:
  """Runs the whole search of a plan."""
  config, dataset = search_task(options, plan)
  watch = Stopwatch()
  # What a search prints must not mix with the results.
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr), Preemption() as stop:
    session = Session(config, pathlib.Path(folder), workdirs.SEARCH, NoMetrics(), watch, stop)
    genotype = Search(config, dataset, session).run()
    session.stop_clock()
  compiling = watch.waits.pop("compiling")
  return {
    "iterations": len(plans.make(config).stages),
    "compilations": len(compiling),
    "compile_seconds": sum(compiling),
    "update_seconds": session.clock.step_seconds,
    "other_seconds": sum(map(sum, watch.waits.values())),
    "search_seconds": session.clock.seconds,
    "genotype": "; ".join(map(str, genotype.cells)),
    "device": jax.devices()[0].device_kind,
  }


def parse() -> argparse.Namespace:
  """The flags; ends the process with one line and status 2 where they are wrong."""
  parser = common.Parser("Times whole searches under equal budgets.")
  common.add_size_flags(parser)
  parser.add_argument("--plans", default="lfr_darts,darts", help="names of plans, separated by commas")
  parser.add_argument("--updates", type=common.positive, default=500, help="of every search, in all")
  parser.add_argument(
    "--data", choices=("random", "digits"), default="random", help="noise like CIFAR-10, or scikit-learn's digits"
  )
  options = parser.parse_args()
  if options.data == "digits":
    options.image_size = DIGITS_SIZE
  options.plans = options.plans.split(",")
  known = FIELDS["plan.name"]
  for plan in options.plans:
    if not known.check(plan):
      parser.error(f"--plans: {plan!r}; allowed are {known.allowed}")
    try:
      search_task(options, plan)
    except UsageError as error:
      parser.error(str(error))
  return options


def as_table(results: list[dict[str, Any]]) -> str:
  """The results as columns, the first plan's update time in terms of the others', and the genotypes."""
  first = results[0]["update_seconds"]
  rows = {
    "": [r["plan"] for r in results],
    "updates": [str(r["updates"]) for r in results],
    "update, seconds": [f"{r['update_seconds']:.1f}" for r in results],
    "compile, seconds": [f"{r['compile_seconds']:.1f}" for r in results],
    "compilations": [str(r["compilations"]) for r in results],
    "other, seconds": [f"{r['other_seconds']:.1f}" for r in results],
    "whole search, seconds": [f"{r['search_seconds']:.1f}" for r in results],
    f"updates of {results[0]['plan']} over": [f"{first / r['update_seconds']:.3f}" for r in results],
  }
  return "\n".join([common.table(rows), *(f"{r['plan']}: {r['genotype']}" for r in results)])


def main() -> None:
  """Measures what the flags ask for."""
  options = parse()
  flags = {k: v for k, v in vars(options).items() if k not in ("plans", "json")}

  def measured(plan):
    with common.empty_compilation_cache():
      return {"plan": plan, **flags, **common.in_own_process(measure, options, plan, threads=options.threads)}

  common.report(options.plans, measured, options.json, as_table)


if __name__ == "__main__":
  main()
