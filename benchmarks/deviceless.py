"""What one step costs on a GPU or TPU, compiled on a machine that has none.

    python benchmarks/deviceless.py --device=h100 --plan=lfr_darts --json
    python benchmarks/deviceless.py --device=v5e --network=final --channels=36 --layers=20 --batch=96 --json

The step of a search has all its phases: the batches of alphas and weights drawn and augmented, gradients, optimizers.
Cells derived in earlier stages are those of DARTS_V2; every candidate of the searched ones is alive. The step of a
final network trains `--genotype`. Needs the extra deviceless-gpu or deviceless-tpu. Runs nothing, so there are no times
of steps, and choices that XLA makes by timing are its defaults.

One line of JSON holds, besides the flags:

  kernels          launches; a loop counts with its trips, a conditional with its largest branch
  kernels_small    those whose results have less than 64 KiB
  gigabytes        operands and results of all kernels, each read or written once; slices where only these are
  while_loops      trips of every loop; null for one of unknown length, which makes the counts invalid: `valid` says so
  largest_window   longest side of a convolution's window
  compile_seconds, trace_seconds
  memory_bytes     temporaries, arguments and outputs, donated ones once, in XLA's account
  collectives      by kind
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import deviceless

IMAGES = 50_000  # Of the data set that lies on the device.


def main() -> None:
  """Reads the flags, compiles, prints."""
  import common

  parser = common.Parser("What one step costs on a device that is not here.")
  common.add_size_flags(parser)
  parser.set_defaults(batch=64)
  parser.add_argument("--device", choices=list(deviceless.DEVICES), default="h100")
  parser.add_argument("--devices", type=common.positive, default=1, help="that share every batch")
  parser.add_argument("--network", choices=("supernet", "final"), default="supernet")
  parser.add_argument("--plan", default="lfr_darts", help="plan.name")
  parser.add_argument("--stage", type=int, default=-1, help="of the plan, from 0; the last by default")
  parser.add_argument("--genotype", default="DARTS_V2", help="of a final network: a file or a built-in name")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
  parser.add_argument("--hlo", type=pathlib.Path, help="where the optimised program goes")
  options = parser.parse_args()
  try:
    result = measure(options)
  except UsageError as error:
    parser.error(str(error))
  if options.json:
    print(json.dumps(result))
  else:
    print(common.table({name: [str(value)] for name, value in result.items()}))


def measure(options: argparse.Namespace) -> dict[str, Any]:
  """Compiles a step; the JSON of the module's docstring."""
  import jax

  from lfr_darts_jax.runtime import hlo, target
  from lfr_darts_jax.runtime.distributed import Devices

  members = deviceless.devices(options.device, options.devices)
  with target.compiling_for(deviceless.DEVICES[options.device].platform):
    began = time.perf_counter()
    make = supernet_step if options.network == "supernet" else final_step
    lowered = make(options, Devices(members))
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
  text = compiled.as_text()
  if options.hlo:
    options.hlo.write_text(text)
  cost, memory = hlo.cost(text), compiled.memory_analysis()
  used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
  flags = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(options).items()}
  return {
    **{name: value for name, value in flags.items() if name not in ("json", "threads", "hlo")},
    **dataclasses.asdict(cost),
    "valid": cost.exact,
    "compile_seconds": round(done - traced, 1),
    "trace_seconds": round(traced - began, 1),
    "memory_bytes": used - memory.alias_size_in_bytes,
    "jax": jax.__version__,
  }


def supernet_step(options: argparse.Namespace, devices: Any) -> Any:
  """The step of a stage of a search, lowered."""
  import common
  import jax
  import jax.numpy as jnp

  from lfr_darts_jax.models.network import supernet
  from lfr_darts_jax.search import bilevel, plans
  from lfr_darts_jax.search.state import Alphas
  from lfr_darts_jax.search_space import formats

  config = common.search_config(options, options.plan)
  config.network.dtype = options.dtype
  config.data.update(flip="random", crop_padding=4)
  plan = plans.make(config)
  if not -len(plan.stages) <= options.stage < len(plan.stages):
    raise UsageError(f"stage: {options.stage}; allowed are 0 to {len(plan.stages) - 1}")
  stage = plan.stages[options.stage]
  derived = {cell.kind: cell for cell in formats.DARTS_V2.cells}
  cells = tuple(
    cell if cell.name in stage.searched else dataclasses.replace(derived[cell.kind], name=cell.name)
    for cell in plan.cells
  )
  network = supernet(config, stage.layout, cells, skip_unweighted=bool(stage.rounds))
  steps = bilevel.SearchSteps(config, network, stage, 50, ((0.5,) * 3, (0.25,) * 3), devices)
  shape = len(plan.cells[0].candidates), len(config.search.operations)
  image = jnp.zeros((1, options.image_size, options.image_size, 3))

  def initial_state() -> Any:
    alphas = {name: Alphas(jnp.zeros(shape)) for name in stage.searched}
    variables = network.init(jax.random.PRNGKey(0), image, {name: a.operations for name, a in alphas.items()})
    return steps.initial_state(variables, alphas, jax.random.PRNGKey(0))

  carry = jax.eval_shape(lambda: steps.carry(initial_state()))
  return _lower(steps.search_step, devices, carry, _batches(options, 2, IMAGES // 2))


def final_step(options: argparse.Namespace, devices: Any) -> Any:
  """The step of the training of a genotype's network, lowered."""
  import common
  import jax

  from lfr_darts_jax.models.network import final_network
  from lfr_darts_jax.search_space import formats
  from lfr_darts_jax.training.train import TrainSteps

  config = common.search_config(options, "darts")
  config.network.update(dtype=options.dtype, channels=options.channels, layers=options.layers)
  config.data.update(flip="random", crop_padding=4)
  config.train.batch_size = options.batch
  network = final_network(config, formats.named(options.genotype))
  steps = TrainSteps(config, network, IMAGES, ((0.5,) * 3, (0.25,) * 3), devices)
  shape = options.image_size, options.image_size, 3
  state = jax.eval_shape(lambda: steps.packed(steps.initial_state(shape)))
  return _lower(steps.step, devices, state, _batches(options, 1, IMAGES))


def _batches(options: argparse.Namespace, splits: int, count: int) -> Any:
  """Shapes of an epoch's batches out of a data set on the device."""
  import jax
  import jax.numpy as jnp

  from lfr_darts_jax.data.in_memory import ArrayDataset, EpochBatches

  shape, size = jax.ShapeDtypeStruct, options.image_size
  dataset = ArrayDataset(shape((IMAGES, size, size, 3), jnp.uint8), shape((IMAGES,), jnp.int32))
  return EpochBatches(dataset, shape((splits, count), jnp.int32), shape((), jnp.int32))


def _lower(step: Any, devices: Any, state: Any, batches: Any) -> Any:
  import jax

  from lfr_darts_jax.runtime.distributed import REPLICATED

  everywhere = jax.sharding.NamedSharding(devices.mesh, REPLICATED)
  place = lambda tree: jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=everywhere), tree)
  steps = devices.shard_map(step, REPLICATED, REPLICATED)
  return jax.jit(steps, donate_argnums=0).lower(place(state), place(batches))


if __name__ == "__main__":
  deviceless.set_environment()
  sys.path.insert(0, str(pathlib.Path(__file__).parent))
  main()
