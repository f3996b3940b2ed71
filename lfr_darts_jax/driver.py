"""The search: for each iteration build, update, prune, deepen; returns the layered genotype."""

from collections.abc import Callable
import contextlib
import dataclasses
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax import bilevel
from lfr_darts_jax import checkpoint
from lfr_darts_jax import collapse
from lfr_darts_jax import deepen
from lfr_darts_jax import feeds
from lfr_darts_jax import forecast
from lfr_darts_jax import parallel
from lfr_darts_jax import plans
from lfr_darts_jax import prune
from lfr_darts_jax import recovery
from lfr_darts_jax import transplant
from lfr_darts_jax import workdir as places
from lfr_darts_jax.checkpoint import Checkpoints
from lfr_darts_jax.data import sources
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.genotype import edges
from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.journal import Journal
from lfr_darts_jax.metrics import Metrics
from lfr_darts_jax.network import Network
from lfr_darts_jax.network import loops
from lfr_darts_jax.network import supernet
from lfr_darts_jax.parallel import Devices
from lfr_darts_jax.place import Place
from lfr_darts_jax.profiling import Profiler
from lfr_darts_jax.progress import Progress
from lfr_darts_jax.relaxation import mixture_weights
from lfr_darts_jax.state import SearchState
from lfr_darts_jax.storage import Path

ALPHA_SCALE = 1e-3  # DARTS: alphas start as so small normal values.


@dataclasses.dataclass(frozen=True)
class Times:
  """Seconds over all processes: of a search, and of its updates alone, without what was compiled for them."""

  search: float
  updates: float


Watch = Callable[[plans.Iteration, Network, SearchState], None]


class Search:
  """One search in one work directory."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    dataset: sources.Dataset | sources.StreamedDataset,
    workdir: Path,
    metrics: Metrics,
    progress: Progress,
    interrupt: Interrupt,
    devices: Devices | None = None,
  ):
    """Prepares a search.

    Args:
      config: the config, validated.
      dataset: the data; of its train split alone.
      workdir: where checkpoints go, into `search/`.
      metrics: where scalars go.
      progress: the line on the terminal.
      interrupt: asked after every dispatch.
      devices: that share every batch; None for all there are.

    Raises:
      UsageError: where the data or the image size do not bear the config, or there are checkpoints but none is whole.
    """
    self._config, self._metrics, self._progress, self._interrupt = config, metrics, progress, interrupt
    self._devices = devices or parallel.everything()
    self._operations = tuple(config.search.operations)
    self._plan = plans.make(config)
    images = dataset.train_images
    self._halves = sources.halves(images, config.data.search_fraction, config.search.batch_size, config.seed)
    self._total = forecast.updates_per_iteration(config, images)
    self._split = feeds.open_split(dataset.train, config, self._devices)
    self._statistics = self._split.statistics()
    for iteration in self._plan.iterations:
      supernet(config, iteration.layout, self._plan.cells)
    self._profiler = Profiler(workdir, config.profile)
    self._journal = Journal(metrics, progress, self._total)
    self._checkpoints = Checkpoints(workdir / places.SEARCH, config)
    self._restored = self._checkpoints.restore(self._shapes, progress.say)
    self._started = time.monotonic()

  def run(self, watch: Watch | None = None) -> tuple[Genotype, Times]:
    """Searches to the end, from the newest checkpoint where there is one.

    Args:
      watch: called at the end of every iteration, before its cells are derived, with the supernet and its state.

    Returns:
      The layered genotype, and how long it took.

    Raises:
      Interrupted: after a signal; the state is saved.
      Collapsed: see `search.stop_on_collapse`; the state is saved. Not for the last iteration, after which there is a
        genotype.
    """
    restored, self._restored = self._restored, None
    place, state = self._resume(restored)
    collapse.stop(self._config.search, self._journal.findings)
    step = int(state.step)
    if place.iteration or step:
      for part, work in forecast.before(self._config, self._plan, place.iteration, step, self._total).items():
        self._progress.skip(part, work)
      self._progress.say(f"continuing the search at iteration {place.iteration + 1}, update {step}")
    self._started -= place.seconds
    while place.iteration < len(self._plan.iterations):
      try:
        place, state = self._iterate(place, state, watch)
      except recovery.NotFinite as error:
        place, state = self._go_back(place, error)
    return Genotype(place.cells), Times(time.monotonic() - self._started, place.updating)

  def _resume(self, restored):
    """Place and state of a checkpoint, or of the beginning."""
    if restored is None:
      self._journal.resume(self._metrics.rewind("search", 0, 0, 0))
      place = Place(0, self._plan.cells, self._plan.cells, 0, 0.0, 0.0, 0)
      return place, self._start(place, lambda stopping: None)
    state, meta = self._devices.replicate(restored[0]), restored[1]
    place, step = Place.from_json(meta, self._plan), int(state.step)
    event_step = place.iteration * self._total + step
    self._journal.resume(self._metrics.rewind("search", place.iteration, step, event_step))
    return place, state

  def _go_back(self, place, error):
    phase = f"search, iteration {place.iteration + 1}"
    retries = recovery.retry(error, phase, place.retries, self._config.recovery.retries, self._progress.say)
    place, state = self._resume(self._checkpoints.restore(self._shapes, self._progress.say))
    place.retries = retries
    return place, recovery.another_order(state, retries)

  def _iterate(self, place, state, watch):
    """One iteration, from wherever it stands: updates and rounds of pruning, then derivation and deepening."""
    with contextlib.closing(self._open_feed(place)) as feed:
      state = self._update(place, state, feed)
    if watch:
      left = dataclasses.replace(place)
      rebuilt = self._rebuild(left, state)
      watch(self._plan.iterations[place.iteration], self._network(left), rebuilt)
    # Where a signal finds the search before its next iteration begins, it will end this one again.
    updated = dataclasses.replace(place), state
    save = lambda stopping: self._save(*updated, stopping)
    state = self._finish(place, state, save)
    if place.iteration + 1 < len(self._plan.iterations):
      state = self._deepen(place, state, save)
      self._safe_point(place, state)
    else:
      place.iteration += 1
    return place, state

  def _update(self, place, state, feed):
    """The updates of an iteration, and its rounds of pruning."""
    rounds = self._plan.iterations[place.iteration].round_steps(self._total)
    updates, step = self._updates(place), int(state.step)
    chunk = self._config.search.updates_per_dispatch
    while step < self._total:
      boundary = rounds[place.pruned][0] if place.pruned < len(rounds) else self._total
      # Dispatches end at fixed steps, so that a resumed run repeats the same ones.
      stop = min(boundary, self._total, (step // chunk + 1) * chunk)
      state, step = self._dispatch(place, updates, state, feed.take(step, stop), stop)
      while place.pruned < len(rounds) and step >= rounds[place.pruned][0]:
        state = self._prune(place, state, rounds[place.pruned][1])
        if not loops(self._config.network.edges):
          state, updates = self._rebuild(place, state), self._updates(place)
      place.seconds = time.monotonic() - self._started
      self._safe_point(place, state)
    return state

  def _open_feed(self, place):
    search = self._config.search
    # A stream has another order wherever the key in the state has, and skips alphas' batches of the warm-up.
    order = self._config.seed, 5, place.iteration, place.retries
    begins = 0, self._plan.iterations[place.iteration].warmup_updates(self._total)
    return self._split.feed(self._halves, search.batch_size, order, begins, search.updates_per_dispatch)

  def _dispatch(self, place, updates, state, feed, stop):
    iteration = self._plan.iterations[place.iteration]
    start = int(state.step)
    if not updates.compiled:
      work = forecast.compile_seconds(iteration.layout, place.built)
      with self._progress.waiting(
        forecast.SEARCH_BUILD, work, f"compiling a supernet of {len(iteration.layout)} layers"
      ):
        self._interrupt.meanwhile(
          lambda: updates.compile(state, feed),
          lambda stopping: self._save(place, state, stopping),
        )
    began = time.monotonic()
    with self._profiler.dispatch(f"search_{place.iteration + 1}"):
      state, sums = updates.run(state, feed, stop)
      sums = jax.tree.map(np.asarray, sums)
    seconds = time.monotonic() - began
    place.updating += seconds
    recovery.check(stop, {"alphas": state.alphas})
    if not np.isfinite(sums.loss).all():
      # The weights would take long to look through after every dispatch, and name the culprit better than the loss.
      recovery.check(stop, {"params": state.params})
      recovery.check(stop, {"loss": sums.loss})
    weights = self._weights(state) if self._journal.shows_alphas(start, stop) else {}
    findings = self._judge(place, state) if weights and sums.batches[bilevel.ALPHAS] else None
    figures = self._journal.dispatch(place.iteration, stop, sums, weights, findings)
    images = sums.batches.sum() * self._config.search.batch_size
    epochs = self._config.search.epochs
    self._progress.advance(
      forecast.SEARCH,
      forecast.search_seconds(self._config, iteration, place.cells, start, stop, self._total),
      seconds,
      f"search {place.iteration + 1}/{len(self._plan.iterations)} {'+'.join(iteration.searched)} | "
      f"epoch {-(-stop * epochs // self._total)}/{epochs}",
      f"{figures} | {images / seconds:.0f} images/s",
    )
    return state, stop

  def _weights(self, state):
    return {
      name: np.asarray(mixture_weights(np.asarray(alphas), np.asarray(state.live[name])))
      for name, alphas in state.alphas.items()
    }

  def _strengths(self, place, state):
    rng = np.random.default_rng([self._config.seed, 3, place.iteration, place.pruned])
    return {
      name: prune.strengths(self._config.prune.rule, weights, rng)
      for name, weights in sorted(self._weights(state).items())
    }

  def _derive(self, cell, strength):
    cap = self._plan.max_skip_connects if cell.kind == "normal" else None
    return prune.derive(cell, strength[cell.name], self._operations, cap)

  def _judge(self, place, state, ended=False):
    """Signs of collapse in the cells being searched."""
    weights, strength, findings = self._weights(state), self._strengths(place, state), []
    for cell in place.cells:
      if cell.name in weights:
        share = collapse.entropy_share(cell, weights[cell.name], self._operations)
        least = place.least_entropy[cell.name] = min(share, place.least_entropy.get(cell.name, 1.0))
        findings += collapse.judge(place.iteration, self._derive(cell, strength), least, self._config.search, ended)
    return findings

  def _prune(self, place, state, keep):
    """A round: fewer candidates; survivors' weights, moments and alphas go on unbroken."""
    strength = self._strengths(place, state)
    state = self._narrow(
      place,
      state,
      {
        c.name: prune.prune_operations(c, strength[c.name], self._operations, keep)
        for c in place.cells
        if c.name in strength
      },
    )
    place.pruned += 1
    searched = [cell for cell in place.cells if cell.name in strength]
    self._journal.pruned(place.iteration, int(state.step), keep, searched)
    return state

  def _narrow(self, place, state, reduced):
    """Replaces cells by ones with fewer candidates; the supernet stays as it is built, and passes over the others."""
    place.cells = tuple(reduced.get(cell.name, cell) for cell in place.cells)
    live = {name: jnp.array(reduced[name].live(self._operations)) for name in state.live}
    return state.replace(live=self._devices.replicate(live))

  def _rebuild(self, place, state):
    """Builds the supernet of the candidates that are left, and drops from the state what belonged to the others."""
    place.built = place.cells
    layout = self._plan.iterations[place.iteration].layout
    params = transplant.restrict(state.params, layout, place.cells)
    initial = self._updates(place).weight_optimizer.init(params)
    return state.replace(
      params=params,
      batch_stats=transplant.restrict(state.batch_stats, layout, place.cells),
      weight_state=self._devices.replicate(transplant.graft(initial, state.weight_state)),
    )

  def _finish(self, place, state, save):
    """Logs the iteration's outcome and reduces its cells to what it keeps; returns the state that goes with them."""
    iteration = self._plan.iterations[place.iteration]
    weights = self._weights(state)
    accuracy = self._interrupt.meanwhile(lambda: self._validate(place, state, weights), save)
    strength, findings = self._strengths(place, state), self._judge(place, state, ended=True)

    def reduce(cell):
      if iteration.keep > 1:
        return prune.prune_operations(cell, strength[cell.name], self._operations, iteration.keep)
      return self._derive(cell, strength)

    reduced = {cell.name: reduce(cell) for cell in place.cells if cell.name in strength}
    state = self._rebuild(place, self._narrow(place, state, reduced))
    searched = [cell for cell in place.cells if cell.name in weights]
    self._journal.outcome(place.iteration, searched, weights, accuracy, findings)
    return state

  def _validate(self, place, state, weights):
    """Accuracy from 0 to 1 on the half that moves the alphas, with running statistics."""
    count = self._halves.shape[1]
    work = forecast.evaluate_seconds(self._config, self._plan.iterations[place.iteration].layout, place.cells, count)
    with self._progress.waiting(forecast.SEARCH_BUILD, work, f"testing the supernet on {count} validation images"):
      variables = {"params": state.params, "batch_stats": state.batch_stats}
      size = self._config.search.batch_size
      tested = self._split.evaluate(self._network(place), variables, self._halves[1], size, self._statistics, weights)
    return 1 - tested.error / 100

  def _deepen(self, place, state, save):
    """Moves on to the next iteration and returns the state in which it starts."""
    old, new = self._plan.iterations[place.iteration : place.iteration + 2]
    place.iteration += 1
    place.pruned, place.least_entropy = 0, {}
    fresh = self._start(place, save)
    if not new.inherit:
      return fresh
    inherit = lambda f, b: deepen.inherit(f, b, old.layout, new.layout)
    inherited = fresh.replace(
      params=inherit(fresh.params, state.params),
      batch_stats=inherit(fresh.batch_stats, state.batch_stats),
      weight_state=deepen.inherit_momentum(fresh.weight_state, state.weight_state, old.layout, new.layout),
    )
    return self._devices.replicate(inherited)

  def _network(self, place) -> Network:
    iteration = self._plan.iterations[place.iteration]
    return supernet(self._config, iteration.layout, place.built, conditional=bool(iteration.rounds))

  def _updates(self, place):
    iteration = self._plan.iterations[place.iteration]
    return bilevel.Updates(self._config, self._network(place), iteration, self._total, *self._statistics, self._devices)

  def _start(self, place, save) -> SearchState:
    layout = self._plan.iterations[place.iteration].layout
    work = forecast.build_seconds(layout, place.cells)
    with self._progress.waiting(forecast.SEARCH_BUILD, work, f"building a supernet of {len(layout)} layers"):
      return self._devices.replicate(self._interrupt.meanwhile(lambda: self._initial(place), save))

  def _initial(self, place) -> SearchState:
    iteration = self._plan.iterations[place.iteration]
    network = self._network(place)
    key = jax.random.fold_in(jax.random.PRNGKey(self._config.seed), place.iteration)
    weight_key, alpha_key, update_key = jax.random.split(key, 3)
    rows, columns = len(edges(self._config.search.nodes)), len(self._operations)
    keys = jax.random.split(alpha_key, len(iteration.searched))
    alphas = {
      name: ALPHA_SCALE * jax.random.normal(k, (rows, columns))
      for name, k in zip(iteration.searched, keys, strict=True)
    }
    image = jax.ShapeDtypeStruct((1, *self._split.image_shape), jnp.float32)
    return self._updates(place).initial(network.lazy_init(weight_key, image, alphas), alphas, update_key)

  def _shapes(self, meta):
    return jax.eval_shape(lambda: self._initial(Place.from_json(meta, self._plan)))

  def _safe_point(self, place, state):
    collapsed = self._config.search.stop_on_collapse and bool(self._journal.findings)
    self._interrupt.safe_point(
      lambda stopping: self._save(place, state, stopping or collapsed),
      checkpoint.preempted(self._number(place, state)),
    )
    collapse.stop(self._config.search, self._journal.findings)

  def _save(self, place, state, now):
    """Saves where it is due, or `now`; never what could not be gone on with."""
    if now or self._checkpoints.due:
      recovery.check(int(state.step), state)
      self._metrics.flush()
      self._checkpoints.save(self._number(place, state), state, place.to_json())

  def _number(self, place, state):
    """Of a checkpoint: the end of an iteration has one of its own, apart from the beginning of the next."""
    return place.iteration * (self._total + 1) + int(state.step)
