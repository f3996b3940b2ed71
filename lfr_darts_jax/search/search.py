"""The search: for each stage build a supernet, optimise its cells, prune and derive them, deepen (Hao & Zhu, 2022)."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import functools
from typing import Any

import jax
import ml_collections

from lfr_darts_jax.data import datasets, input_pipeline
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.runtime.nan_guard import NotFinite, reshuffle
from lfr_darts_jax.runtime.session import ChunkResult, Session
from lfr_darts_jax.search import hooks, plans
from lfr_darts_jax.search.bilevel import SearchSteps
from lfr_darts_jax.search.pruning import Pruner
from lfr_darts_jax.search.stages import At, Stages
from lfr_darts_jax.search.state import SearchPosition, SearchState
from lfr_darts_jax.search_space.genotype import Genotype

Save = Callable[[bool], None]
Watch = Callable[[plans.Stage, AnyNetwork, SearchState], None]


class Search:
  """One search in one work directory.

  Attributes:
    strengths: after `run`, see `SearchPosition`.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    dataset: datasets.Dataset,
    session: Session,
    devices: Devices | None = None,
    watch: Watch | None = None,
  ):
    """Prepares a search.

    Args:
      config: the config, validated.
      dataset: the data; of its train split alone.
      session: its checkpoints, metrics and progress.
      devices: that share every batch; None for all there are.
      watch: called at the end of every stage, before its cells are derived, with the supernet and its state.

    Raises:
      UsageError: where the data or the image size do not bear the config, or there are checkpoints but none is whole.
    """
    self._chunk_size, self._session, self._watch = config.search.steps_per_chunk, session, watch
    self._measured = config.search.measured_batches > 0
    self._devices = devices or distributed.all_devices()
    self._stages = Stages(config, dataset, self._devices)
    self._pruner = Pruner(config, self._stages.plan, self._stages.budget)
    self._logger = hooks.SearchLogger(config, self._stages.plan, self._stages.total, self._pruner, session)
    self._hooks = (hooks.check, self._logger.log, self._logger.show, self._stop_or_save)
    self._restored = session.restore(self._shapes)
    self._steps: SearchSteps | None = None  # The last that were compiled.
    self.strengths: Mapping[str, tuple[tuple[float, ...], ...]] = {}

  def run(self) -> Genotype:
    """Searches cell by cell, shallow to deep, from the newest checkpoint where there is one.

    Raises:
      Interrupted: after a signal; the state is saved.
      Collapsed: see `search.stop_on_collapse`; the state is saved. Not for the last stage, after which there is a
        genotype.
    """
    position, state = self._begin(self._restored)
    self._restored = None
    if position.stage or int(state.step):
      self._session.progress.say(f"continuing the search at iteration {position.stage + 1}, update {int(state.step)}")
    while position.stage < len(self._stages.plan.stages):
      try:
        position, state = self._optimise(position, state)
        # A signal before the next stage has begun leaves this one to be ended again.
        save = self._saving(position, state)
        position, state = self._derive(position, state, save)
        position, state = self._deepen(position, state, save)
      except NotFinite as error:
        phase = f"search, iteration {position.stage + 1}"
        position, state = self._begin(self._session.go_back(error, phase, self._shapes))
        state = reshuffle(state, self._session.clock.retries)
    self.strengths = position.strengths
    genotype = self._stages.plan.genotype(self._pruner.choose(position))
    self._logger.chosen(genotype)
    return genotype

  def _optimise(self, position: SearchPosition, state: SearchState) -> At:
    """The steps of a stage, in chunks, and its rounds of pruning, from wherever it stands."""
    stage, total, steps = self._stages.plan.stages[position.stage], self._stages.total, None
    rounds = stage.round_steps(total)
    with contextlib.closing(self._stages.batches(position, self._session.clock.retries)) as batches:
      while True:
        start = int(state.step)
        while position.rounds < len(rounds) and start >= rounds[position.rounds][0]:
          position, state = self._prune(position, state, rounds[position.rounds][1])
        if start == total:
          return position, state
        stop = stage.chunk_end(start, position.rounds, total, self._chunk_size)
        chunk = batches.chunk(start, stop)
        steps = steps or self._compile(position, state, chunk)
        take = functools.partial(steps.run, state, chunk, stop)
        result = self._session.run_chunk(f"search_{position.stage + 1}", start, stop, take)
        state = result.state
        for hook in self._hooks:
          hook(position, result)

  def _prune(self, position: SearchPosition, state: SearchState, count: int) -> At:
    """A round: fewer candidates; survivors' weights, moments and alphas go on unbroken."""
    reduced = self._pruner.prune(position, state, count)
    self._logger.pruned(position.stage, int(state.step), count, list(reduced.values()))
    position, state = self._stages.narrow(position, state, reduced)
    return dataclasses.replace(position, rounds=position.rounds + 1), state

  def _derive(self, position: SearchPosition, state: SearchState, save: Save) -> At:
    """Reduces the cells of a stage to what it keeps; the variables of what goes are dropped."""
    stage = self._stages.plan.stages[position.stage]
    if self._watch:
      whole, rebuilt = self._stages.rebuild(position, state)
      self._watch(stage, self._stages.network(whole), rebuilt)
    last, accuracy = position.stage == len(self._stages.plan.stages) - 1, None
    if last or stage.moves(self._stages.total):  # Else it would test what is not chosen yet.
      test = functools.partial(self._stages.validate, position, state, self._pruner.tested(state))
      accuracy = self._session.wait("testing the supernet on the validation images", test, save)
    reduced = self._pruner.reduce(position, state)
    self._logger.outcome(position, state, list(reduced.values()), accuracy)
    position = self._pruner.remember(position, state)
    if self._measured and last:
      measure = functools.partial(self._stages.measure, position, state)
      position = self._session.wait("measuring the losses of random paths", measure, save)
      self._logger.measured(position)
    if stage.keep is None:
      return position, state
    return self._stages.rebuild(*self._stages.narrow(position, state, reduced))

  def _deepen(self, position: SearchPosition, state: SearchState, save: Save) -> At:
    """The next stage, and the state in which it starts."""
    position = dataclasses.replace(position, stage=position.stage + 1, rounds=0)
    if position.stage == len(self._stages.plan.stages):
      return position, state
    self._logger.begin_stage()
    state = self._stages.inherit(position, self._build(position, save), state)
    self._stop_or_save(position, ChunkResult(0, 0, state, None, 0.0))
    return position, state

  def _begin(self, restored: Any) -> At:
    """Position and state of a checkpoint, or of the beginning."""
    if restored is None:
      position = SearchPosition(0, self._stages.plan.cells, self._stages.plan.cells)
      self._logger.resume(position, 0, {})
      return position, self._build(position, None)
    state, meta = self._devices.replicate(restored[0]), restored[1]
    position = SearchPosition.from_json(meta["position"], self._stages.plan)
    self._logger.resume(position, int(state.step), meta["least_entropy"])
    return position, state

  def _build(self, position: SearchPosition, save: Save | None) -> SearchState:
    layers = len(self._stages.plan.stages[position.stage].layout)
    initial = functools.partial(self._stages.initial_state, position)
    return self._devices.replicate(self._session.wait(f"building a supernet of {layers} layers", initial, save))

  def _compile(self, position: SearchPosition, state: SearchState, chunk: input_pipeline.Chunk) -> SearchSteps:
    steps, layers = self._stages.steps(position), len(self._stages.plan.stages[position.stage].layout)
    if self._steps and self._steps.runs_as(steps):
      return self._steps
    work, save = functools.partial(steps.compile, state, chunk), self._saving(position, state)
    self._session.wait(f"compiling a supernet of {layers} layers", work, save)
    self._steps = steps
    return steps

  def _shapes(self, meta: dict[str, Any]) -> Any:
    """The shapes of a checkpoint's arrays; raises where its metadata are not of this search."""
    hooks.check_least_entropy(meta["least_entropy"])
    position = SearchPosition.from_json(meta["position"], self._stages.plan)
    return jax.eval_shape(lambda: self._stages.initial_state(position))

  def _stop_or_save(self, position: SearchPosition, result: ChunkResult) -> None:
    """Saves where it is due; stops after a signal, or where the search has collapsed and is not to go on."""
    checkpoint = self._checkpoint(position, result.state)
    self._session.safe_point(*checkpoint, final=self._logger.collapsed)
    self._logger.stop_if_collapsed()

  def _saving(self, position: SearchPosition, state: SearchState) -> Save:
    """What saves this state if a signal comes during long work."""
    return functools.partial(self._session.save, *self._checkpoint(position, state))

  def _checkpoint(self, position: SearchPosition, state: SearchState) -> tuple[int, SearchState, dict[str, Any]]:
    """Number, state and metadata; the end of a stage has a number of its own, apart from the beginning of the next."""
    number = position.stage * (self._stages.total + 1) + int(state.step)
    meta = {"position": dataclasses.asdict(position), "least_entropy": dict(self._logger.least_entropy)}
    return number, state, meta
