"""What the device can do: the rates that docs/performance.md measures a step against.

    python benchmarks/machine.py --json

One line of JSON holds `device` and

  multiply_adds_per_second  of a product of large square matrices, by type: float32 (JAX's default precision), bfloat16
  bytes_per_second          read and written by a sum of two arrays, by the megabytes of each array: small ones stay in
                            the caches of a CPU, large ones don't
"""

import json
import statistics
import time

import common
import jax
import jax.numpy as jnp

SIDE = {"cpu": 1024}  # Of the matrices; elsewhere ACCELERATOR_SIDE.
ACCELERATOR_SIDE = 8192
MEGABYTES = (1, 256)
REPEATS = 20


def seconds(function, *arguments) -> float:
  """Median duration of a jitted function."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(REPEATS):
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - began)
  return statistics.median(times)


def matrix_rate(dtype: str) -> float:
  """Multiply-adds per second."""
  side = SIDE.get(jax.default_backend(), ACCELERATOR_SIDE)
  a = jnp.ones((side, side), dtype)
  return side**3 / seconds(jax.jit(jnp.matmul), a, a)


def bandwidth(megabytes: int) -> float:
  """Bytes per second, of two operands and a result; many sums in one call hide the call itself."""
  repeats = 8 * MEGABYTES[-1] // megabytes
  x = jnp.ones(megabytes * 2**20 // 4)
  many = jax.jit(lambda x, y: jax.lax.fori_loop(0, repeats, lambda _, total: 0.5 * total + y, x))
  return repeats * 3 * x.nbytes / seconds(many, x, x)


def main() -> None:
  """Measures everything."""
  parser = common.Parser("Measures the device's matrix rate and bandwidth.")
  parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
  options = parser.parse_args()
  result = {
    "device": jax.devices()[0].device_kind,
    "multiply_adds_per_second": {dtype: matrix_rate(dtype) for dtype in ("float32", "bfloat16")},
    "bytes_per_second": {f"{megabytes} MB": bandwidth(megabytes) for megabytes in MEGABYTES},
  }
  if options.json:
    print(json.dumps(result))
    return
  rows = {"device": [result["device"]]}
  rows |= {f"{k}, 1e9 multiply-adds/s": [f"{v / 1e9:.1f}"] for k, v in result["multiply_adds_per_second"].items()}
  rows |= {f"{k}, GB/s": [f"{v / 1e9:.1f}"] for k, v in result["bytes_per_second"].items()}
  print(common.table(rows))


if __name__ == "__main__":
  main()
