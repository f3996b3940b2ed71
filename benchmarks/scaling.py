"""How an update of the search runs on several devices: its time, and what it sends between them.

    python benchmarks/scaling.py --plan=darts --channels=16 --layers=8 --batch=64 --steps=3 --devices=1,2,4,8 --json

On a CPU the devices are simulated and share its cores: the time shows what splitting costs, not what it brings.
The whole batch is the same for all. One line of JSON per number of devices holds, besides the flags and `device`:

  devices            their number
  seconds_per_step   median of the updates of both half-steps
  compile_seconds    of the update, tracing included
  collectives        per update: number of each kind
  collective_bytes   per update: bytes of their results on a device
  gradient_bytes     of these the largest collective's, of both half-steps
  loss_last          of the weights' batch in the last update
"""

import argparse
import collections
import os
import statistics
import time
from typing import Any

import common

HALVES = 2  # The program's loop takes one turn for each half of an update.


def measure(options: argparse.Namespace, count: int) -> dict[str, Any]:
  """Compiles and times an update on so many devices, in a process that has them."""
  # Only here, since the number of simulated devices is fixed when JAX starts.
  import collectives
  import jax
  import search_step

  from lfr_darts_jax.runtime.distributed import Devices
  from lfr_darts_jax.search import bilevel

  made = search_step.compiled(options, Devices(tuple(jax.devices()[:count])))
  state, seconds = made.state, []
  for step in range(1, search_step.UNTIMED + options.steps + 1):
    began = time.perf_counter()
    state, sums = jax.block_until_ready(made.steps.run(state, made.chunk, step))
    seconds.append(time.perf_counter() - began)
  number: collections.Counter[str] = collections.Counter()
  found = collectives.read(made.steps._compiled.as_text())
  for collective in found:
    number[collective.kind] += HALVES * collective.times
  return {
    "seconds_per_step": statistics.median(seconds[search_step.UNTIMED :]),
    "compile_seconds": made.seconds,
    "collectives": dict(number),
    "collective_bytes": HALVES * sum(c.size * c.times for c in found),
    "gradient_bytes": HALVES * max((c.size for c in found), default=0),
    "loss_last": float(sums.loss[bilevel.TRAIN]),
    "device": jax.devices()[0].device_kind,
  }


def counts(text: str) -> list[int]:
  """A flag's value that is a list of numbers of devices."""
  return [common.positive(part) for part in text.split(",")]


def main() -> None:
  """Measures the numbers of devices that the flags name."""
  parser = common.Parser(__doc__)
  parser.add_argument("--plan", choices=("darts", "lfr_darts"), default="darts", help="whose last supernet to update")
  parser.add_argument("--steps", type=common.positive, default=3, help="updates to time")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
  parser.add_argument("--devices", type=counts, default=[1, 2, 4, 8], help="numbers of devices, such as 1,2,4,8")
  common.add_size_flags(parser)
  options = parser.parse_args()
  flags = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={max(options.devices)}"
  asked = {k: v for k, v in vars(options).items() if k not in ("json", "devices")}

  def one(name: str) -> dict[str, Any]:
    count = int(name)
    return {**asked, "devices": count, **common.in_own_process(measure, options, count, threads=options.threads)}

  common.report(map(str, options.devices), one, options.json, as_table)


def as_table(results: list[dict[str, Any]]) -> str:
  """The results, one column per number of devices."""
  rows = {
    "devices": [str(r["devices"]) for r in results],
    "seconds per step": [f"{r['seconds_per_step']:.3f}" for r in results],
    "compile seconds": [f"{r['compile_seconds']:.1f}" for r in results],
    "collectives": [str(sum(r["collectives"].values())) for r in results],
    "collective MB": [f"{r['collective_bytes'] / 1e6:.2f}" for r in results],
    "gradient MB": [f"{r['gradient_bytes'] / 1e6:.2f}" for r in results],
  }
  return common.table(rows)


if __name__ == "__main__":
  main()
