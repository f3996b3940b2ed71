"""Builds what a stage of a search needs: its supernet, its steps, its batches, the state in which it starts."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax.data import datasets, input_pipeline
from lfr_darts_jax.models.spaces import AnyNetwork, supernet
from lfr_darts_jax.runtime import target
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.search import budget, growth, measured, plans, price, relaxation
from lfr_darts_jax.search.bilevel import SearchSteps
from lfr_darts_jax.search.state import Alphas, SearchPosition, SearchState, mask_of
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.training import losses
from lfr_darts_jax.training.evaluate import evaluate

ALPHA_SCALE = 1e-3  # DARTS: alphas start as so small normal values.

At = tuple[SearchPosition, SearchState]


def supernet_of(config: ml_collections.ConfigDict, stage: plans.Stage, cells: tuple[CellSpec, ...]) -> AnyNetwork:
  """The supernet of a stage; where candidates get no weight meanwhile, by pruning or by chance, they may be skipped."""
  skip_unweighted = bool(stage.rounds) or relaxation.is_sparse(config.search)
  return supernet(config, stage.layout, cells, skip_unweighted)


def initial_alphas(config: ml_collections.ConfigDict, cell: CellSpec, key: jax.Array) -> Alphas:
  """The alphas that a cell starts with."""
  draw = lambda key, *shape: ALPHA_SCALE * jax.random.normal(key, shape)
  count = len(cell.candidates)
  of_edges = draw(jax.random.fold_in(key, 1), count) if config.search.edge_weights else None
  return Alphas(draw(key, count, len(spaces.operations(config))), of_edges)


class Stages:
  """The stages of one search.

  Attributes:
    plan: of the search.
    total: steps of every stage.
    budget: of the network, None where it may cost what it likes.
  """

  def __init__(self, config: ml_collections.ConfigDict, dataset: datasets.Dataset, devices: Devices):
    """Opens the train split; nothing is computed.

    Raises:
      UsageError: where the data or the image size do not bear the config, the weights of classes are not as many as
        these, or no network keeps within `search.budget`.
    """
    self._config, self._devices = config, devices
    self.plan = plans.make(config)
    self.budget = budget.make(config, self.plan)
    images, search = dataset.train_images, config.search
    self._splits = datasets.search_splits(images, config.data.search_fraction, search.batch_size, config.seed)
    self.total = plans.steps_per_stage(config, images)
    self._data = input_pipeline.open_split(dataset.train, config, devices)
    self._statistics = self._data.statistics()
    weights, classes = config.train.class_weights, len(dataset.class_names)
    self._class_weights = losses.class_weights(weights, dataset.train_labels, classes)
    for stage in self.plan.stages:
      supernet(config, stage.layout, self.plan.cells)

  def network(self, position: SearchPosition) -> AnyNetwork:
    """The supernet."""
    return supernet_of(self._config, self.plan.stages[position.stage], position.built)

  def steps(self, position: SearchPosition) -> SearchSteps:
    """Its steps."""
    stage = self.plan.stages[position.stage]
    rate, prices = self._config.search.price_rate, None
    if self.budget and rate:
      prices = price.make(self.budget, self.plan.cells, stage, position, rate)
    return SearchSteps(
      self._config,
      self.network(position),
      stage,
      self.total,
      self._statistics,
      self._devices,
      prices=prices,
      class_weights=self._class_weights,
    )

  def batches(self, position: SearchPosition, retries: int) -> input_pipeline.BatchIterator:
    """Its batches, in another order for every number of retries."""
    search = self._config.search
    # A stream has another order wherever the key in the state has, and skips the alphas' batches of the warm-up.
    seed = self._config.seed, 5, position.stage, retries
    first = 0, self.plan.stages[position.stage].warmup_steps(self.total)
    return self._data.batches(self._splits, search.batch_size, seed, first, search.steps_per_chunk)

  def initial_state(self, position: SearchPosition) -> SearchState:
    """The state in which a stage starts, with fresh weights and alphas."""
    stage = self.plan.stages[position.stage]
    with target.host():
      key = jax.random.fold_in(jax.random.PRNGKey(self._config.seed), position.stage)
      weight_key, alpha_key, step_key = jax.random.split(key, 3)
      keys = zip(stage.searched, jax.random.split(alpha_key, len(stage.searched)), strict=True)
      cells = {cell.name: cell for cell in self.plan.cells}
      alphas = {name: initial_alphas(self._config, cells[name], k) for name, k in keys}
      # Their places; `inherit` fills those that are settled.
      others = (*stage.settled, *stage.absent)
      alphas |= {name: initial_alphas(self._config, cells[name], alpha_key) for name in others}
      image = jax.ShapeDtypeStruct((1, *self._data.image_shape), jnp.float32)
      variables = self.network(position).lazy_init(weight_key, image, {n: a.operations for n, a in alphas.items()})
      return self.steps(position).initial_state(variables, alphas, step_key, stage.absent)

  def narrow(self, position: SearchPosition, state: SearchState, reduced: dict[str, CellSpec]) -> At:
    """Narrows the mask of candidates; what belongs to the others stays in the state, but fades or is skipped."""
    search = self._config.search
    operations = spaces.operations(self._config)
    mask = state.mask | {name: mask_of(cell, operations, search.edge_weights) for name, cell in reduced.items()}
    until = state.until
    if until is not None:
      end = state.step + plans.fade_steps(self._config, self.total)
      gone = {n: state.mask[n].operations & ~mask[n].operations for n in mask}
      until = {n: jnp.where(gone[n], end, until[n]) for n in until}
    mask, until = self._devices.replicate((mask, until))
    return position.narrowed(reduced), state.replace(mask=mask, until=until)

  def rebuild(self, position: SearchPosition, state: SearchState) -> At:
    """The supernet of the candidates that are left, and its state, without the variables of the others."""
    layout = self.plan.stages[position.stage].layout
    state = growth.narrow(state, layout, position.built, position.cells)
    return dataclasses.replace(position, built=position.cells), self._devices.replicate(state)

  def inherit(self, position: SearchPosition, fresh: SearchState, before: SearchState) -> SearchState:
    """The state in which a stage starts, its weights those of the stage before as far as that had them.

    So are alphas that are settled, in any case.
    """
    stage = self.plan.stages[position.stage]
    settled = {name: before.alphas[name] for name in stage.settled}
    prices = None if before.prices is None else jnp.array(before.prices)
    fresh = fresh.replace(alphas=fresh.alphas | jax.tree.map(jnp.array, settled), prices=prices)
    if not stage.inherit:
      return fresh
    old, new = (stage.layout for stage in self.plan.stages[position.stage - 1 : position.stage + 1])
    inherited = fresh.replace(
      params=growth.inherit(fresh.params, before.params, old, new),
      batch_stats=growth.inherit(fresh.batch_stats, before.batch_stats, old, new),
      opt_state=growth.inherit_momentum(fresh.opt_state, before.opt_state, old, new),
    )
    return self._devices.replicate(inherited)

  def measure(self, position: SearchPosition, state: SearchState) -> SearchPosition:
    """The position at the end of a search with strengths that were measured, see `measured`."""
    search, variables = self._config.search, {"params": state.params, "batch_stats": state.batch_stats}
    of_choices = measured.strengths(
      self.network(position),
      variables,
      self._data,
      self._splits[1],
      search.batch_size,
      search.measured_batches,
      self._statistics,
      self._config.seed,
      self._devices,
      self._class_weights,
    )
    found = {name: tuple(map(tuple, rows.tolist())) for name, rows in of_choices.items()}
    return dataclasses.replace(position, strengths=found)

  def validate(self, position: SearchPosition, state: SearchState, mixtures: dict[str, Any]) -> float:
    """Accuracy from 0 to 1 on the images that move the alphas, with running statistics."""
    indices, size = self._splits[1], self._config.search.batch_size
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    test = functools.partial(evaluate, self.network(position), variables, self._data, size, self._statistics)
    return 1 - test(indices, mixtures, self._devices).error / 100
