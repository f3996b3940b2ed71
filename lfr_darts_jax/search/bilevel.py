"""The search step: alphas on validation data, weights on train data (DARTS, algorithm 1)."""

from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import augment, input_pipeline
from lfr_darts_jax.models.cell import Rates
from lfr_darts_jax.models.spaces import AnyNetwork, with_sharding
from lfr_darts_jax.runtime import distributed, target
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH, Devices
from lfr_darts_jax.search import alignment, hypergradient, penalties, plans, relaxation
from lfr_darts_jax.search.objective import NO_SHIFTS, Batch, Objective, Shifts, supernet_loss
from lfr_darts_jax.search.price import Prices
from lfr_darts_jax.search.relaxation import Moment
from lfr_darts_jax.search.state import Alphas, SearchState, mask_of
from lfr_darts_jax.search_space.cell_spec import NORMAL, CellSpec
from lfr_darts_jax.search_space.operation_names import IDENTITY
from lfr_darts_jax.training import losses, optimizers, vector

Tree = Any
PROBES = 7  # Steps of an adversary, as in the code of SDARTS.
VALIDATION, TRAIN = range(2)  # The splits of the search: ALPHAS takes its batch from the first.
PARAMS_AND_ALPHAS = ("params", "alphas")


class Sums(NamedTuple):
  """Sums over a chunk of steps.

  Attributes:
    loss, accuracy, batches: each `[2]`: of the phases ALPHAS (validation) and WEIGHTS (train).
    alpha_gradients: per searched cell, the norm of the alphas' gradient.
  """

  loss: jax.Array
  accuracy: jax.Array
  batches: jax.Array
  alpha_gradients: dict[str, jax.Array]


class Carry(NamedTuple):
  """What goes from phase to phase.

  Attributes:
    state: of the search.
    unrolled: the unrolled weights; None where nothing looks ahead.
    shift: like the alphas, what is added to them where the weights train; None for nothing.
    sums: of what was measured.
  """

  state: SearchState
  unrolled: Tree | None
  shift: dict[str, Alphas] | None
  sums: Sums


class Gradient(NamedTuple):
  """What a phase's gradient gives: loss, batch statistics, accuracy, and gradients; zeros by what is not asked for."""

  loss: jax.Array
  batch_stats: Tree
  accuracy: jax.Array
  params: Tree
  alphas: dict[str, Alphas]


class Phase(NamedTuple):
  """One gradient of a step, and what it moves.

  Attributes:
    split: whose batch it takes, VALIDATION or TRAIN.
    by: what its gradient is by.
    unrolled: whether it is taken at the unrolled weights.
    counted: whether its loss counts in the sums.
    shifted: whether it is taken at the alphas with their shift.
    then: from the carry, the gradient, and the step's `batches` to the next carry.
  """

  split: int
  by: tuple[str, ...]
  unrolled: bool
  counted: bool
  shifted: bool
  then: Callable[..., Carry]


def skip_dropout_rate(initial: float, epoch: jax.Array, warmup: float, epochs: int) -> jax.Array:
  """Rate of dropout on skip_connects in an epoch of a P-DARTS stage, as its code has it.

  It falls twice: while weights train alone, linearly towards zero at the stage's end; then anew from its initial value,
  exponentially by 0.2 an epoch over P-DARTS's 15 bilevel epochs, that is by e^-3 over as many as there are.

  Args:
    initial: of the stage.
    epoch: from 0.
    warmup: epochs that train weights alone.
    epochs: of the stage.
  """
  alone = (epochs - epoch - 1) / epochs
  bilevel = jnp.exp(-3 * (epoch - warmup) / max(epochs - warmup, 1))
  return initial * jnp.where(epoch < warmup, alone, bilevel)


def auxiliary_skip_factor(progress: jax.Array | float) -> jax.Array:
  """How much of an auxiliary skip is added: from 1 to 0 by a cosine over a stage's progress, from 0 to 1.

  DARTS- (Chu et al., ICLR 2021) has a linear decay and this one.
  """
  return 0.5 * (1 + jnp.cos(jnp.pi * progress))


class SearchSteps:
  """The steps of one stage; `search_step` takes one, `run` many in one dispatch.

  Attributes:
    optimizer: of the weights.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    network: AnyNetwork,
    stage: plans.Stage,
    total: int,
    statistics: input_pipeline.Statistics,
    devices: Devices | None = None,
    for_cpu: bool | None = None,
    prices: Prices | None = None,
    class_weights: losses.ClassWeights = None,
  ):
    """Prepares the steps.

    Args:
      config: the config.
      network: the supernet.
      stage: which of its cells have alphas, and the schedules of these and of dropout on skip_connects.
      total: steps of the stage.
      statistics: mean and standard deviation of the train split, per channel.
      devices: that share every batch; None for the first one.
      for_cpu: whether all phases share one compiled gradient, by weights and alphas, which halves the time to compile
        and wastes what a phase does not need, and variables are trees. Else every phase has a gradient of its own, and
        weights, momentum and statistics are a vector each. None: by the platform.
      prices: of cost in the alphas' loss, None for none.
      class_weights: of both losses, by class.
    """
    self._class_weights = class_weights
    self._devices = devices or distributed.first_device()
    self._sharding = self._devices.sharding(network.settings.sharding.group)
    self._config, self._stage, self._total, search = config, stage.program(total), total, config.search
    self._network, self._moves = with_sharding(network, self._sharding), stage.moves(total)
    self._statistics, self._prices = statistics, prices
    self._warmup = stage.warmup_steps(total)
    self._rate = optimizers.search_schedule(config, total)
    self.optimizer = optimizers.search_weights(config, total)
    order_2 = search.order == 2
    self._hypergradient = hypergradient.HYPERGRADIENTS[search.hypergradient] if order_2 else None
    ahead = self._hypergradient is not None and self._hypergradient.looks_ahead
    self._for_cpu = target.is_cpu() if for_cpu is None else for_cpu
    # Where alphas don't move the step is compiled without all that moves them.
    by = lambda *needed: PARAMS_AND_ALPHAS if self._for_cpu and self._moves else needed
    self._adversarial = bool(search.perturbation) and search.perturbed_by == "adversary"
    by_alphas = by(*PARAMS_AND_ALPHAS) if order_2 else by("alphas")
    unroll = Phase(TRAIN, by("params"), False, False, False, self._unroll)
    alphas = Phase(VALIDATION, by_alphas, ahead, True, False, self._update_alphas)
    probe = Phase(TRAIN, by("alphas"), False, False, True, self._probe)
    weights = Phase(TRAIN, by("params"), False, True, self._adversarial, self._update_weights)
    self._looks_ahead, probes = ahead, (probe,) * (PROBES if self._adversarial else 0)
    self._phases = (*((unroll,) if ahead else ()), alphas, *probes, weights) if self._moves else (weights,)
    normal = {cell.name for cell in network.cells if cell.kind == NORMAL} & set(stage.searched)
    layers = [tuple(f"layer_{i}" for i, n in enumerate(stage.layout) if n == name) for name in sorted(normal)]
    self._aligned = [several for several in layers if len(several) > 1]
    self._compiled: Any = None

  @functools.cached_property
  def _objective(self) -> Objective:
    # Only for a step: to count costs takes a second or two, and to make a state nothing of it is needed.
    search, network = self._config.search, with_sharding(self._network, WHOLE_BATCH)
    costs = penalties.costs(search.penalties, network, image_shape(self._config))
    return Objective(
      relax=relaxation.make(search),
      terms=search.penalties,
      costs=costs,
      searched=self._stage.searched,
      prices=self._prices,
      sample_weight_exponent=search.sample_weight_exponent,
      mean=self._devices.mean,
      class_weights=self._class_weights,
    )

  def initial_state(
    self, variables: Mapping[str, Tree], alphas: dict[str, Alphas], key: jax.Array, absent: Sequence[str] = ()
  ) -> SearchState:
    """The state in which a stage starts, with all candidates of the supernet's cells.

    Args:
      variables: parameters and batch statistics of the supernet.
      alphas: per searched cell.
      key: raw random key, see `SearchState`.
      absent: names of layers of which the identity is left alone, see `plans.Stage`.
    """
    operations, edge_weights = self._network.operations, self._config.search.edge_weights
    cells = [CellSpec.layer(c.name, (IDENTITY,)) if c.name in absent else c for c in self._network.cells]
    masks = {c.name: mask_of(c, operations, edge_weights) for c in cells if c.name in alphas}
    params, never = variables["params"], jnp.iinfo(jnp.int32).max
    until = {name: jnp.where(mask.operations, jnp.int32(never), 0) for name, mask in masks.items()}
    return SearchState(
      step=jnp.int32(0),
      params=params,
      batch_stats=variables["batch_stats"],
      alphas=alphas,
      mask=masks,
      opt_state=self.optimizer.init(params),
      alpha_opt_state=self._alpha_optimizer(masks).init(self._searched(alphas)),
      key=key,
      until=until if self._config.prune.fade else None,
      prices=None if self._prices is None else jnp.zeros(len(self._prices.known)),
    )

  def runs_as(self, other: "SearchSteps") -> bool:
    """Whether `run` of another stage of the search does the same, so that it need not be compiled again."""
    return not self._moves and (self._stage, self._network) == (other._stage, other._network)

  @property
  def compiled(self) -> bool:
    """Whether `run` starts at once."""
    return self._compiled is not None

  def compile(self, state: SearchState, chunk: input_pipeline.Chunk) -> None:
    """Compiles `run` for arguments of these shapes; nothing is computed."""
    self._compiled = input_pipeline.compile_steps(self._take_steps, self._devices, state, chunk)

  def run(self, state: SearchState, chunk: input_pipeline.Chunk, stop: int) -> tuple[SearchState, Sums]:
    """Takes steps until number `stop`; compiles them first where `compile` has not.

    Args:
      state: where to start; donated.
      chunk: of the two splits, the weights' first.
      stop: steps done in the stage when it returns.
    """
    if not self.compiled:
      self.compile(state, chunk)
    return self._compiled(state, chunk, self._devices.replicate(np.int32(stop)))

  def _take_steps(self, state: SearchState, chunk: input_pipeline.Chunk, stop: jax.Array) -> tuple[SearchState, Sums]:
    size, carry = self._config.search.batch_size, self.carry(state)
    carry = input_pipeline.run_steps(chunk, self.order_keys(state), size, stop, self.search_step, carry)
    return vector.unpack_state(carry.state), carry.sums

  def carry(self, state: SearchState) -> Carry:
    """What `search_step` starts from: the state as it takes it, and sums of nothing."""
    state = state if self._for_cpu else vector.pack_state(state)
    sums = Sums(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2), dict.fromkeys(self._stage.searched, jnp.float32(0)))
    shift = jax.tree.map(jnp.zeros_like, state.alphas) if self._adversarial else None
    return Carry(state, state.params if self._looks_ahead else None, shift, sums)

  def search_step(self, carry: Carry, batches: input_pipeline.StepBatches) -> Carry:
    """One step, by the phases of DARTS's algorithm 1.

    UNROLL (order 2), ALPHAS on a validation batch, probes (an adversary), WEIGHTS on a train batch; in the warm-up
    WEIGHTS alone.
    """
    weights, moving = len(self._phases) - 1, carry.state.step >= self._warmup
    take = functools.partial(self._take_phase, batches)
    if not weights:
      return take(weights, carry)
    if carry.shift is not None:
      carry = carry._replace(shift=self._first_shift(carry.state, moving))
    if self._for_cpu:
      return lax.fori_loop(jnp.where(moving, 0, weights), weights + 1, take, carry)

    def move(carry: Carry) -> Any:
      for _, equal in itertools.groupby(range(weights), lambda index: self._phases[index]):
        first, *others = equal
        again = lambda _, carry, first=first: take(first, carry)
        carry = lax.fori_loop(0, 1 + len(others), again, carry) if others else take(first, carry)
      return changed(carry)

    # Of a conditional only what it changes comes back; the rest would be copied.
    changed = lambda c: (c.state.alphas, c.state.alpha_opt_state, c.state.prices, c.shift, c.sums)
    alphas, alpha_opt_state, prices, shift, sums = lax.cond(moving, move, changed, carry)
    state = carry.state.replace(alphas=alphas, alpha_opt_state=alpha_opt_state, prices=prices)
    return take(weights, carry._replace(state=state, shift=shift, sums=sums))

  def _first_shift(self, state: SearchState, moving: jax.Array) -> dict[str, Alphas]:
    key = jax.random.fold_in(jax.random.fold_in(state.key, PROBES), state.step)
    return relaxation.uniform_like(state.alphas, key, self._reach(state) * moving)

  def _reach(self, state: SearchState) -> jax.Array:
    return relaxation.reach(self._config.search.perturbation, self._progress(state))

  def _take_phase(self, batches: input_pipeline.StepBatches, index: int | jax.Array, carry: Carry) -> Carry:
    """One gradient and what it moves; of a traced index, one body is compiled per distinct set that one is by."""
    sets, known = list(dict.fromkeys(phase.by for phase in self._phases)), isinstance(index, int)
    pick = lambda values: values[index] if known else jnp.array(values)[index]
    switch = lambda i, branches, *operands: branches[i](*operands) if known else lax.switch(i, branches, *operands)
    fields = ("split", "unrolled", "counted", "shifted")
    split, unrolled, counted, shifted = (pick([getattr(p, field) for p in self._phases]) for field in fields)
    batch, params, alphas = self._batch(carry.state, batches, split), carry.state.params, carry.state.alphas
    if carry.unrolled is not None:
      params = jax.tree.map(functools.partial(jnp.where, unrolled), carry.unrolled, params)
    if carry.shift is not None:
      alphas = jax.tree.map(lambda a, d: a + shifted * d, alphas, carry.shift)
    bodies = [functools.partial(self._gradient, by) for by in sets]
    body = pick([sets.index(phase.by) for phase in self._phases])
    gradient = switch(body, bodies, carry.state, {"params": params, "alphas": alphas}, batch, split)
    measured = counted * jnp.array([gradient.loss, gradient.accuracy, 1.0])
    loss, accuracy, count, norms = carry.sums
    add = lambda total, value: total.at[split].add(value)
    sums = Sums(add(loss, measured[0]), add(accuracy, measured[1]), add(count, measured[2]), norms)
    carry = carry._replace(sums=sums)
    branches = [functools.partial(phase.then, batches=batches) for phase in self._phases]
    return switch(index, branches, carry, gradient)

  def _gradient(
    self, by: tuple[str, ...], state: SearchState, arguments: dict[str, Tree], batch: Batch, split: jax.Array
  ) -> Gradient:
    """The gradient at these `params` and `alphas`."""
    loss = functools.partial(self._loss, state, batch, split)
    wanted = {name: arguments[name] for name in by}
    objective = lambda wanted: loss(**(arguments | wanted))
    (_, (batch_stats, cross_entropy, accuracy)), gradients = jax.value_and_grad(objective, has_aux=True)(wanted)
    cross_entropy, accuracy, gradients = self._devices.mean((cross_entropy, accuracy, gradients))
    if self._sharding.group is not None:
      batch_stats = self._devices.mean(batch_stats)
    gradients = {n: gradients[n] if n in by else jax.tree.map(jnp.zeros_like, a) for n, a in arguments.items()}
    return Gradient(cross_entropy, batch_stats, accuracy, **gradients)

  def _progress(self, state: SearchState) -> jax.Array:
    """Of the stage's bilevel steps, from 0 to 1; below in the warm-up."""
    return (state.step - self._warmup) / max(self._total - self._warmup, 1)

  def _mask(self, state: SearchState) -> dict[str, Alphas]:
    """Which candidates are left; those that fade, by how much."""
    if state.until is None:
      return state.mask
    fade = plans.fade_steps(self._config, self._total)
    left = lambda mask, until: jnp.where(mask, 1.0, jnp.clip((until - state.step) / fade, 0, 1))
    return {n: m._replace(operations=left(m.operations, state.until[n])) for n, m in state.mask.items()}

  def _loss(
    self, state: SearchState, batch: Batch, split: Any, params: Tree, alphas: Tree, shifts: Shifts = NO_SHIFTS
  ) -> Any:
    moment = Moment(self._progress(state), split == TRAIN, batch.key)
    params, statistics = vector.unpacked(params), vector.unpacked(state.batch_stats)
    loss, (updated, *measured) = supernet_loss(
      self._network,
      self._objective,
      self._mask(state),
      params,
      alphas,
      statistics,
      batch,
      self._rates(state),
      moment,
      shifts,
      state.prices,
    )
    return loss, (vector.like(updated, state.batch_stats), *measured)

  def _rates(self, state: SearchState) -> Rates:
    skip = auxiliary_skip = None
    if self._stage.skip_dropout is not None:
      epochs = self._config.search.epochs
      per_epoch = self._total // epochs
      warmup = self._warmup / per_epoch
      skip = skip_dropout_rate(self._stage.skip_dropout, state.step // per_epoch, warmup, epochs)
    if self._config.search.auxiliary_skip:
      auxiliary_skip = auxiliary_skip_factor(state.step / self._total)
    return Rates(skip=skip, auxiliary_skip=auxiliary_skip)

  def order_keys(self, state: SearchState) -> jax.Array:
    """The random keys of the order of the two splits: the weights' first."""
    return jnp.stack([jax.random.split(jax.random.fold_in(state.key, split))[0] for split in (TRAIN, VALIDATION)])

  def _batch(
    self, state: SearchState, batches: input_pipeline.StepBatches, split: jax.Array | int, ahead: Any = None
  ) -> Batch:
    """This device's shard of a phase's batch at `state.step`, or of that so many steps ahead."""
    size = self._config.search.batch_size
    step = state.step if ahead is None else batches.wrapped(state.step + ahead, size)
    augment_key = jax.random.split(jax.random.fold_in(state.key, split))[1]
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(augment_key, step))
    images, labels = batches.batch(augment_key, step, 1 - split, size, self._config, self._sharding)
    return Batch(augment.normalize(images, *self._statistics), labels, dropout_key)

  def _unroll(self, carry: Carry, gradient: Gradient, batches: input_pipeline.StepBatches) -> Carry:
    """UNROLL: the weights after one virtual step."""
    search, state = self._config.search, carry.state
    momentum, rate = optax.tree.get(state.opt_state, "trace"), self._inner_rate(state.step)
    unrolled = hypergradient.unrolled_params(
      gradient.params, state.params, momentum, rate, search.momentum, search.weight_decay
    )
    return carry._replace(unrolled=unrolled)

  def _update_alphas(self, carry: Carry, gradient: Gradient, batches: input_pipeline.StepBatches) -> Carry:
    """ALPHAS: one step of Adam; in order 2 on the gradient through the unrolled weights."""
    state, by_alphas = carry.state, gradient.alphas
    if self._hypergradient:
      loss = lambda ahead: functools.partial(self._loss, state, self._batch(state, batches, TRAIN, ahead), TRAIN)
      rate, terms = self._inner_rate(state.step), self._config.search.neumann_terms
      key = jax.random.fold_in(state.key, state.step)
      inner = hypergradient.Inner(loss, state.params, state.alphas, rate, terms, key, self._devices.mean)
      correction = self._hypergradient.correction(inner, gradient.params)
      by_alphas = jax.tree.map(lambda g, c: g - rate * c, by_alphas, correction)
    norms = {name: optax.tree.norm(g).astype(jnp.float32) for name, g in self._searched(by_alphas).items()}
    summed = jax.tree.map(jnp.add, carry.sums.alpha_gradients, norms)
    state = self.apply_alpha_gradient(self._move_prices(state), by_alphas)
    return carry._replace(state=state, sums=carry.sums._replace(alpha_gradients=summed))

  def _move_prices(self, state: SearchState) -> SearchState:
    if self._prices is None or state.prices is None:
      return state
    weights = {n: relaxation.softmax(a, state.mask[n], Moment()) for n, a in state.alphas.items()}
    return state.replace(prices=self._prices.moved(state.prices, weights))

  def _probe(self, carry: Carry, gradient: Gradient, batches: input_pipeline.StepBatches) -> Carry:
    """A step of the adversary: the shift climbs the train loss by signs, within its reach (SDARTS, equation 5)."""
    assert carry.shift is not None
    reach = self._reach(carry.state)
    climb = lambda d, g: jnp.clip(d + 2 * reach / PROBES * jnp.sign(g), -reach, reach)
    return carry._replace(shift=jax.tree.map(climb, carry.shift, gradient.alphas))

  def _update_weights(self, carry: Carry, gradient: Gradient, batches: input_pipeline.StepBatches) -> Carry:
    """WEIGHTS: one step of SGD; ends the step."""
    by_params, strength = gradient.params, self._config.search.layer_alignment
    if strength and self._aligned:
      loss = functools.partial(self._loss, carry.state, self._batch(carry.state, batches, TRAIN), TRAIN)
      by_shifts = lambda params, shifts: loss(params, carry.state.alphas, shifts)[0]
      shape = jnp.zeros_like(next(iter(carry.state.alphas.values())).operations)
      zeros = {layer: shape for layers in self._aligned for layer in layers}
      pull = alignment.pull(by_shifts, carry.state.params, zeros, self._aligned, self._devices.mean)
      factor = strength * jnp.clip(self._progress(carry.state), 0, 1)
      by_params = jax.tree.map(lambda g, p: g - factor * p, by_params, pull)
    state = self.apply_weight_gradient(carry.state, by_params, gradient.batch_stats)
    return carry._replace(state=state.replace(step=state.step + 1))

  def apply_alpha_gradient(self, state: SearchState, gradient: dict[str, Alphas]) -> SearchState:
    """The state after the alphas moved by a gradient."""
    optimizer, alphas = self._alpha_optimizer(state.mask), self._searched(state.alphas)
    updates, alpha_opt_state = optimizer.update(self._searched(gradient), state.alpha_opt_state, alphas)
    alphas = state.alphas | optax.apply_updates(alphas, updates)
    return state.replace(alphas=alphas, alpha_opt_state=alpha_opt_state)

  def apply_weight_gradient(self, state: SearchState, gradient: Tree, batch_stats: Tree) -> SearchState:
    """The state after the weights moved by a gradient; batch statistics move here alone."""
    updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(params=params, opt_state=opt_state, batch_stats=batch_stats)

  def _inner_rate(self, step: jax.Array) -> Any:
    search = self._config.search
    return self._rate(step) if search.inner_learning_rate is None else search.inner_learning_rate

  def _searched(self, of_cells: dict[str, Any]) -> dict[str, Any]:
    """What belongs to the cells whose alphas move."""
    return {name: of_cells[name] for name in self._stage.searched}

  def _alpha_optimizer(self, mask: dict[str, Alphas]) -> optax.GradientTransformation:
    return optimizers.search_alphas(self._config, self._stage.alpha_learning_rate(self._total), self._searched(mask))
