"""What a job needs on a device, before it is paid for: steps compiled without the device, or timed on the one here.

The time of a step is estimated from its compiled program: no less than the bytes that its kernels move take at the
memory's bandwidth; plausibly that, and `LAUNCH_SECONDS` for each kernel. Tests, compilation and input come on top.
"""

from collections.abc import Callable, Iterator
import dataclasses
import itertools
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets
from lfr_darts_jax.data.in_memory import ArrayDataset, EpochBatches
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import deviceless, distributed, hlo, target
from lfr_darts_jax.runtime.distributed import REPLICATED, Devices
from lfr_darts_jax.runtime.progress import duration
from lfr_darts_jax.search import bilevel, plans, pruning
from lfr_darts_jax.search.stages import initial_alphas, supernet_of
from lfr_darts_jax.search_space import formats, spaces
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype, chain
from lfr_darts_jax.training.train import TrainSteps

LAUNCH_SECONDS = 2.5e-6
TIMED = 10  # Steps in one dispatch, as in a job; of which there are three after one that is not counted.
# Of data sets that need not be there to be estimated for.
TRAIN_IMAGES = {
  "cifar10": 50_000,
  "cifar100": 50_000,
  "fashion_mnist": 60_000,
  "mnist": 60_000,
  "imagenet2012": 1_281_167,
}


class Step(NamedTuple):
  """A program of a job.

  Attributes:
    name: of the cells that its stages of the search are for, or "training".
    runs: how often it runs in the job.
    warmup: of these, how often with the weights' phase alone, at the beginning.
    take: the step itself.
    following: from what that gives to the carry that the next step starts from.
    arguments: from the number of a step to its arguments, of which `lower` needs the shapes alone.
    program: equal for stages that share a compiled step.
  """

  name: str
  runs: int
  warmup: int
  take: Callable[..., Any]
  following: Callable[[Any], Any]
  arguments: Callable[[int], tuple[Any, Any]]
  program: Any = None


def estimate(config: ml_collections.ConfigDict, device: str, genotype: Genotype | None = None) -> dict[str, Any]:
  """What the search and the training of a config need on one device.

  Compiled steps are counted with all their phases, also those of a warm-up, which has one alone.

  Args:
    config: the config, validated.
    device: one of `deviceless.DEVICES`, or of `deviceless.HERE` to time steps on the device that JAX has here.
    genotype: what is trained, and not searched; None to search, and to train DARTS's cells in the place of what will be
      found.

  Returns:
    `device`, `fits` and `memory_bytes`; `seconds` of the steps of the whole job, `search_seconds` and `train_seconds`,
    each `{"lower": ..., "plausible": ...}`; and `programs`, each with its `name`, `steps`, `memory_bytes`,
    `compile_seconds` on this machine and seconds per step; unless they were timed also `kernels`, `gigabytes`, and
    `valid`, which is False where a loop of unknown length makes all three too small.

  Raises:
    UsageError: where the device is unknown, or an extra is missing.
  """
  if device in deviceless.HERE:
    programs = [_timed(step) for step in steps(config, distributed.first_device(), genotype)]
  else:
    members = Devices(deviceless.devices(device))
    made = deviceless.DEVICES[device]
    with target.compiling_for(made.platform):
      programs = [_compiled(step, members, made) for step in steps(config, members, genotype)]
  memory = max(program["memory_bytes"] for program in programs)

  def seconds(of: list[dict[str, Any]]) -> dict[str, float]:
    return {
      kind: round(sum(p["steps"] * p[f"{kind}_seconds_per_step"] for p in of), 1) for kind in ("lower", "plausible")
    }

  return {
    "device": device,
    "fits": device in deviceless.HERE or memory <= deviceless.DEVICES[device].memory,
    "memory_bytes": memory,
    "seconds": seconds(programs),
    "search_seconds": seconds([p for p in programs if p["name"] != "training"]),
    "train_seconds": seconds([p for p in programs if p["name"] == "training"]),
    "programs": programs,
  }


def table(found: dict[str, Any]) -> str:
  """What `estimate` found, for a terminal."""
  rows = [("program", "steps", "kernels", "GB", "memory", "a step, ms", "in all")]
  for p in found["programs"]:
    milliseconds = " to ".join(f"{1e3 * p[f'{kind}_seconds_per_step']:.2f}" for kind in ("lower", "plausible"))
    seconds = p["steps"] * p["plausible_seconds_per_step"]
    counted = f"{p['kernels']:,}" if "kernels" in p else "", f"{p['gigabytes']:.2f}" if "gigabytes" in p else ""
    rows.append(
      (p["name"], f"{p['steps']:,}", *counted, f"{p['memory_bytes'] / 2**30:.2f} GiB", milliseconds, duration(seconds))
    )
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
  whole = " to ".join(duration(found["seconds"][kind]) for kind in ("lower", "plausible"))
  fits = "fits" if found["fits"] else "does not fit"
  valid = all(program.get("valid", True) for program in found["programs"])
  short = "" if valid else "; too little, since a loop of unknown length counts once"
  return "\n".join([*lines, f"on {found['device']}: {fits}, steps of the whole job {whole}{short}"])


def steps(config: ml_collections.ConfigDict, devices: Devices, genotype: Genotype | None) -> Iterator[Step]:
  """The programs of a job."""
  images = TRAIN_IMAGES.get(config.data.name) or datasets.open_dataset(config).train_images
  if genotype is None:
    plan = plans.make(config)
    every = (search_step(config, index, devices, images) for index in range(len(plan.stages)))
    for _, together in itertools.groupby(every, key=lambda step: step.program):
      same = list(together)
      runs, warmup = sum(step.runs for step in same), sum(step.warmup for step in same)
      yield same[0]._replace(name=", ".join(step.name for step in same), runs=runs, warmup=warmup)
  yield train_step(config, genotype or _typical(config), devices, images)


def _typical(config: ml_collections.ConfigDict) -> Genotype:
  """A genotype to estimate by where none is given: DARTS_V2, or the chain of the last block everywhere."""
  if config.space.name == spaces.MOBILE:
    return chain([spaces.operations(config)[-1]] * len(spaces.layers(config)))
  return formats.DARTS_V2


def search_step(config: ml_collections.ConfigDict, index: int, devices: Devices, images: int) -> Step:
  """A step of a stage of the search, with all its phases.

  Args:
    config: the config.
    index: of the stage, from 0 or, from the last one on, from -1.
    devices: that share every batch.
    images: of the train split.
  """
  plan = plans.make(config)
  index = range(len(plan.stages))[index]
  stage, total = plan.stages[index], plans.steps_per_stage(config, images)
  network = supernet_of(config, stage, cells_at(config, plan, index))
  made = bilevel.SearchSteps(config, network, stage, total, _moments(config), devices)

  def arguments(step: int) -> tuple[Any, Any]:
    cells, key = {cell.name: cell for cell in plan.cells}, jax.random.PRNGKey(0)
    with_alphas = (*stage.searched, *stage.settled, *stage.absent)
    alphas = {name: initial_alphas(config, cells[name], key) for name in with_alphas}
    image = jnp.zeros((1, *schema.image_shape(config)))
    variables = network.init(jax.random.PRNGKey(0), image, {name: a.operations for name, a in alphas.items()})
    carry = made.carry(made.initial_state(variables, alphas, jax.random.PRNGKey(0), stage.absent))
    carry = carry._replace(state=carry.state.replace(step=jnp.int32(step)))
    return carry, _batches(config, 2, int(images * config.data.search_fraction) // 2, images)

  name, warmup = "+".join(stage.searched), stage.warmup_steps(total)
  return Step(name, total, warmup, made.search_step, lambda carry: carry, arguments, (stage.program(total), network))


def train_step(config: ml_collections.ConfigDict, genotype: Genotype, devices: Devices, images: int) -> Step:
  """A step of the final training; arguments as of `search_step`."""
  made = TrainSteps(config, final_network(config, genotype), images, _moments(config), devices)

  def arguments(step: int) -> tuple[Any, Any]:
    state = made.packed(made.initial_state(schema.image_shape(config)))
    return state.replace(step=jnp.int32(step)), _batches(config, 1, images, images)

  return Step("training", made.total, 0, made.step, lambda result: result[0], arguments)


def cells_at(config: ml_collections.ConfigDict, plan: plans.Plan, index: int) -> tuple[CellSpec, ...]:
  """The cells in a stage's supernet: what is derived by then is DARTS_V2's, what is pruned is pruned at random."""
  derived = {cell.kind: cell for cell in formats.DARTS_V2.cells}
  rng, operations = np.random.default_rng(0), spaces.operations(config)
  cells = {cell.name: cell for cell in plan.cells}
  for stage in plan.stages[:index]:
    for name in stage.searched:
      cell = cells[name]
      if stage.keep is None:
        continue
      if stage.keep == 1:
        cells[name] = dataclasses.replace(derived[cell.kind], name=name)
      else:
        strengths = rng.random((len(cell.candidates), len(operations)))
        cells[name] = pruning.prune_operations(cell, strengths, operations, stage.keep)
  return tuple(cells.values())


def lower(step: Step, devices: Devices) -> Any:
  """A step, lowered for devices that need not be here."""
  everywhere = jax.sharding.NamedSharding(devices.mesh, REPLICATED)
  place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
  shapes = jax.tree.map(place, jax.eval_shape(lambda: step.arguments(0)))
  return jax.jit(devices.shard_map(step.take, REPLICATED, REPLICATED), donate_argnums=0).lower(*shapes)


def memory_bytes(compiled: Any) -> int:
  """Temporaries, arguments and outputs of a program, donated ones once, in XLA's account."""
  memory = compiled.memory_analysis()
  used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
  return int(used - memory.alias_size_in_bytes)


def _compiled(step: Step, devices: Devices, device: deviceless.Device) -> dict[str, Any]:
  began = time.perf_counter()
  compiled = lower(step, devices).compile()
  seconds, cost = time.perf_counter() - began, hlo.cost(compiled.as_text())
  lowest = 1e9 * cost.gigabytes / device.bandwidth
  return {
    "name": step.name,
    "steps": step.runs,
    "kernels": cost.kernels,
    "gigabytes": round(cost.gigabytes, 3),
    "valid": cost.exact,
    "memory_bytes": memory_bytes(compiled),
    "lower_seconds_per_step": lowest,
    "plausible_seconds_per_step": lowest + LAUNCH_SECONDS * cost.kernels,
    "compile_seconds": round(seconds, 1),
  }


def _timed(step: Step) -> dict[str, Any]:
  def several(carry: Any, batches: EpochBatches) -> Any:
    return jax.lax.fori_loop(0, TIMED, lambda _, carry: step.following(step.take(carry, batches)), carry)

  last = step.arguments(step.runs - 1)
  began = time.perf_counter()
  compiled = jax.jit(several).lower(*last).compile()
  compiling = time.perf_counter() - began

  def seconds(arguments: Any) -> list[float]:
    found = []
    for _ in range(4):
      began = time.perf_counter()
      jax.block_until_ready(compiled(*arguments))
      found.append((time.perf_counter() - began) / TIMED)
    return found[1:]

  whole, alone = seconds(last), seconds(step.arguments(0)) if step.warmup >= TIMED else None
  share = step.warmup / step.runs
  mean = lambda of: of(whole) if alone is None else (1 - share) * of(whole) + share * of(alone)
  return {
    "name": step.name,
    "steps": step.runs,
    "memory_bytes": memory_bytes(compiled),
    "lower_seconds_per_step": mean(min),
    "plausible_seconds_per_step": mean(statistics.median),
    "compile_seconds": round(compiling, 1),
  }


def _moments(config: ml_collections.ConfigDict) -> tuple[tuple[float, ...], tuple[float, ...]]:
  return (0.5,) * config.data.channels, (0.25,) * config.data.channels


def _batches(config: ml_collections.ConfigDict, splits: int, count: int, images: int) -> EpochBatches:
  """An epoch's batches out of a data set on the device, or of what of it a stream has there."""
  held = min(images, 64 * config.search.batch_size) if config.data.loading == "stream" else images
  dataset = ArrayDataset(jnp.zeros((held, *schema.image_shape(config)), jnp.uint8), jnp.zeros(held, jnp.int32))
  order = jnp.tile(jnp.arange(count, dtype=jnp.int32) % held, (splits, 1))
  # So that every step finds its batch, whatever its number.
  return EpochBatches(dataset, order, jnp.int32(0))
