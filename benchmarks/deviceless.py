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
  largest_window   longest side of a window, of a convolution or another operation that has one
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

  from lfr_darts_jax import estimate
  from lfr_darts_jax.runtime import hlo, target
  from lfr_darts_jax.runtime.distributed import Devices

  members = deviceless.devices(options.device, options.devices)
  with target.compiling_for(deviceless.DEVICES[options.device].platform):
    began = time.perf_counter()
    made = Devices(members)
    lowered = estimate.lower(step(options, made), made)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
  text = compiled.as_text()
  if options.hlo:
    options.hlo.write_text(text)
  cost = hlo.cost(text)
  return {
    **{name: value for name, value in vars(options).items() if name not in ("json", "threads", "hlo")},
    **dataclasses.asdict(cost),
    "valid": cost.exact,
    "compile_seconds": round(done - traced, 1),
    "trace_seconds": round(traced - began, 1),
    "memory_bytes": estimate.memory_bytes(compiled),
    "jax": jax.__version__,
  }


def step(options: argparse.Namespace, devices: Any) -> Any:
  """The step that the flags describe."""
  import common

  from lfr_darts_jax import estimate
  from lfr_darts_jax.search import plans
  from lfr_darts_jax.search_space import formats

  config = common.search_config(options, options.plan)
  config.network.update(dtype=options.dtype, channels=options.channels, layers=options.layers)
  config.data.update(flip="random", crop_padding=4)
  config.train.batch_size = options.batch
  if options.network == "final":
    return estimate.train_step(config, formats.as_genotype(options.genotype), devices, IMAGES)
  stages = len(plans.make(config).stages)
  if not -stages <= options.stage < stages:
    raise UsageError(f"stage: {options.stage}; allowed are 0 to {stages - 1}")
  return estimate.search_step(config, options.stage, devices, IMAGES)


if __name__ == "__main__":
  deviceless.set_environment()
  sys.path.insert(0, str(pathlib.Path(__file__).parent))
  main()
