"""What a run is going to cost, roughly, so that its time left can be told before it is known.

All in seconds on a two-core AMD EPYC with jax 0.10.2: `progress.Progress` scales them to the machine at hand.
"""

import ml_collections
import numpy as np

from lfr_darts_jax import plans
from lfr_darts_jax import prune
from lfr_darts_jax.genotype import REDUCTION
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.network import loops

# The parts of a run whose speeds differ from machine to machine: compiling, and running what was compiled.
SEARCH_BUILD, SEARCH, TRAIN_BUILD, TRAIN = "search build", "search", "train build", "train"

# Measured on 2026-11-25 on digits and CIFAR-10, at the sizes of the default and of configs/laptop.py.
PER_FEATURE, PER_CALL = 9e-9, 4e-5  # An operation's forward and backward pass: per feature of its output, and at all.
STRIDED = 1.3  # A reduction cell reads features of twice the height and width.
COMPILE, COMPILE_SEARCHED, COMPILE_DERIVED = 2.5, 0.25, 0.22  # A program: at all, per mixed and per derived operation.
BUILD_SEARCHED, BUILD_DERIVED = 0.03, 0.18  # Initial values, per operation.
EVALUATE, FORWARD = 0.2, 0.4  # A test against an update: its compilation, its passes.
PAGE = 2.5  # Writing a page.
TEST_SHARE = 0.2  # Images of a test split that has not been loaded yet, of those of the train split.


def updates_per_iteration(config: ml_collections.ConfigDict, train_images: int) -> int:
  """Updates of an iteration: `search.epochs` passes over a data half, each without its last incomplete batch."""
  half = int(train_images * config.data.search_fraction) // 2
  return config.search.epochs * max(half // config.search.batch_size, 1)


def pass_seconds(
  layout: tuple[str, ...], cells: tuple[Cell, ...], channels: int, image_size: int, batch_size: int
) -> float:
  """A forward and a backward pass of one batch.

  Most operations are depthwise convolutions and norms, whose time goes with the features of a layer; these halve at
  every reduction. On top comes what every operation costs, however small.

  Args:
    layout: the network's layers.
    cells: their candidates.
    channels: features of a node before the first reduction.
    image_size: height and width, pixels.
    batch_size: images.
  """
  by_name = {cell.name: cell for cell in cells}
  total, features = 0.0, float(batch_size * channels * image_size**2)
  for name in layout:
    cell = by_name[name]
    features /= 2 if cell.kind == REDUCTION else 1
    strided = STRIDED if cell.kind == REDUCTION else 1
    total += (PER_FEATURE * strided * features + PER_CALL) * (2 + _operations(cell))
  return total


def compile_seconds(layout: tuple[str, ...], cells: tuple[Cell, ...]) -> float:
  """Tracing and compiling a program that passes forward and backward through a network.

  A loop over the edges of a mixed cell holds every operation once, that of a reduction cell once per stride; derived
  cells are written out.
  """
  by_name = {cell.name: cell for cell in cells}
  total = COMPILE
  for name in layout:
    cell = by_name[name]
    if cell.derived:
      total += COMPILE_DERIVED * len(cell.connections)
    else:
      union = {operation for _, _, ops in cell.connections for operation in ops}
      total += COMPILE_SEARCHED * len(union) * (2 if cell.kind == REDUCTION else 1)
  return total


def build_seconds(layout: tuple[str, ...], cells: tuple[Cell, ...]) -> float:
  """Initialising a network: every new shape is compiled once, so that a supernet pays for its mixed cells alone."""
  used = [cell for cell in cells if cell.name in layout]
  searched = [cell for cell in used if not cell.derived]
  return sum(BUILD_SEARCHED * _operations(c) for c in searched) or sum(BUILD_DERIVED * _operations(c) for c in used)


def evaluate_seconds(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[Cell, ...], images: int
) -> float:
  """Compiling and running a test of the supernet on so many images."""
  return _test(layout, cells, config.search.channels, config.data.image_size, images)


def search_seconds(
  config: ml_collections.ConfigDict,
  iteration: plans.Iteration,
  cells: tuple[Cell, ...],
  start: int,
  stop: int,
  updates: int,
) -> float:
  """Updates `start` to `stop` of an iteration of `updates`; each has two passes, in the warm-up one."""
  warmup = iteration.warmup_updates(updates)
  passes = 2 * (stop - start) - (min(stop, warmup) - min(start, warmup))
  size = config.search.channels, config.data.image_size, config.search.batch_size
  return passes * pass_seconds(iteration.layout, cells, *size)


def train_seconds(config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[Cell, ...]) -> float:
  """One update of the final training."""
  return pass_seconds(layout, cells, config.network.channels, config.data.image_size, config.train.batch_size)


def test_seconds(config: ml_collections.ConfigDict, train_images: int, genotype: Genotype) -> float:
  """Compiling and running the test of the trained network."""
  layout = genotype.layout(config.network.layers)
  images = round(TEST_SHARE * train_images)
  return _test(layout, genotype.cells, config.network.channels, config.data.image_size, images)


def before(
  config: ml_collections.ConfigDict, plan: plans.Plan, index: int, step: int, updates: int
) -> dict[str, float]:
  """What a search costs, by part, before it comes to a step of an iteration.

  Args:
    config: the config.
    plan: its plan.
    index: of the iteration.
    step: updates of it that are done.
    updates: in every iteration.
  """
  total = {SEARCH_BUILD: 0.0, SEARCH: 0.0}
  for i, iteration in enumerate(plan.iterations[: index + 1]):
    last = step if i == index else updates
    # As long as they are unknown, derived cells count as large as they will be, searched ones as the rounds leave them.
    cells = tuple(c if c.name in iteration.searched else _guess(config, c) for c in plan.cells)
    total[SEARCH_BUILD] += build_seconds(iteration.layout, cells)
    start = 0
    for stop, keep in [*iteration.round_steps(updates), (updates, None)]:
      if start < last:
        if start == 0 or not loops(config.network.edges):
          total[SEARCH_BUILD] += compile_seconds(iteration.layout, cells)
        total[SEARCH] += search_seconds(config, iteration, cells, start, min(stop, last), updates)
      if keep is not None:
        cells = tuple(_keep(config, c, keep) if c.name in iteration.searched else c for c in cells)
      start = stop
    if last == updates:
      half = updates // config.search.epochs * config.search.batch_size
      total[SEARCH_BUILD] += evaluate_seconds(config, iteration.layout, cells, half)
  return total


def search(config: ml_collections.ConfigDict, train_images: int) -> dict[str, float]:
  """A whole search, by part."""
  plan, updates = plans.make(config), updates_per_iteration(config, train_images)
  total = before(config, plan, len(plan.iterations) - 1, updates, updates)
  total[SEARCH_BUILD] += PAGE
  return total


def training(
  config: ml_collections.ConfigDict, train_images: int, genotype: Genotype | None = None
) -> dict[str, float]:
  """The final training, by part; None stands for the genotype that a search has yet to find."""
  genotype = genotype or guess_genotype(config)
  layout = genotype.layout(config.network.layers)
  updates = config.train.epochs * (train_images // config.train.batch_size)
  compiling = compile_seconds(layout, genotype.cells)
  return {
    TRAIN_BUILD: build_seconds(layout, genotype.cells)
    + compiling
    + test_seconds(config, train_images, genotype)
    + PAGE,
    TRAIN: updates * train_seconds(config, layout, genotype.cells),
  }


def guess_genotype(config: ml_collections.ConfigDict) -> Genotype:
  """A genotype as large as the one that the search will find."""
  return Genotype(tuple(_guess(config, cell) for cell in plans.make(config).cells))


def _test(layout, cells, channels, image_size, images):
  passes = pass_seconds(layout, cells, channels, image_size, images)
  return EVALUATE * compile_seconds(layout, cells) + FORWARD * passes


def _operations(cell):
  return sum(len(operations) for _, _, operations in cell.connections)


def _keep(config, cell, keep):
  return prune.prune_operations(cell, _even(config, cell), tuple(config.search.operations), keep)


def _even(config, cell):
  return np.ones((len(cell.candidates), len(config.search.operations)))


def _guess(config, cell):
  return prune.derive(cell, _even(config, cell), tuple(config.search.operations))
