"""What a run is going to cost, roughly, so that its time left can be told from the rate seen so far."""

import ml_collections
import numpy as np

from lfr_darts_jax import plans
from lfr_darts_jax import prune
from lfr_darts_jax.genotype import REDUCTION
from lfr_darts_jax.genotype import Cell
from lfr_darts_jax.genotype import Genotype


def layout_work(layout: tuple[str, ...], cells: tuple[Cell, ...], channels: int, image_size: int) -> float:
  """What an update of a network costs per image, in arbitrary units.

  Most operations are depthwise convolutions and norms, whose time goes with the features of a layer; these halve at
  every reduction.

  Args:
    layout: its layers.
    cells: their candidates.
    channels: features of a node before the first reduction.
    image_size: height and width, pixels.
  """
  by_name = {cell.name: cell for cell in cells}
  total, features = 0.0, float(channels * image_size**2)
  for name in layout:
    cell = by_name[name]
    features /= 2 if cell.kind == REDUCTION else 1
    total += features * (2 + sum(len(ops) for _, _, ops in cell.connections))
  return total


def updates_per_iteration(config: ml_collections.ConfigDict, train_images: int) -> int:
  """Updates of an iteration: `search.epochs` passes over a data half, each without its last incomplete batch."""
  half = int(train_images * config.data.search_fraction) // 2
  return config.search.epochs * max(half // config.search.batch_size, 1)


def iteration_work(config: ml_collections.ConfigDict, plan: plans.Plan, index: int, updates: int) -> float:
  """Work of one iteration of the search, before its cells and those of earlier iterations are known."""
  iteration = plan.iterations[index]
  cells = tuple(c if c.name in iteration.searched else _guess(config, c) for c in plan.cells)
  # An update has two half-steps, one in the warm-up.
  images = (2 - config.search.warmup_fraction) * config.search.batch_size
  operations, done, total = tuple(config.search.operations), 0, 0.0
  for step, keep in [*iteration.round_steps(updates), (updates, 1)]:
    per_image = layout_work(iteration.layout, cells, config.search.channels, config.data.image_size)
    total += (step - done) * images * per_image
    cells = tuple(
      prune.prune_operations(c, _even(config, c), operations, keep) if c.name in iteration.searched else c
      for c in cells
    )
    done = step
  return total


def search_work(config: ml_collections.ConfigDict, train_images: int) -> float:
  """Work of the whole search."""
  plan, updates = plans.make(config), updates_per_iteration(config, train_images)
  return sum(iteration_work(config, plan, i, updates) for i in range(len(plan.iterations)))


def training_work(config: ml_collections.ConfigDict, train_images: int, genotype: Genotype | None = None) -> float:
  """Work of the final training; None stands for the genotype that a search has yet to find."""
  genotype = genotype or guess_genotype(config)
  layout = genotype.layout(config.network.layers)
  images = config.train.epochs * train_images
  return images * layout_work(layout, genotype.cells, config.network.channels, config.data.image_size)


def guess_genotype(config: ml_collections.ConfigDict) -> Genotype:
  """A genotype as large as the one that the search will find."""
  return Genotype(tuple(_guess(config, cell) for cell in plans.make(config).cells))


def _even(config, cell):
  return np.ones((len(cell.candidates), len(config.search.operations)))


def _guess(config, cell):
  return prune.derive(cell, _even(config, cell), tuple(config.search.operations))
