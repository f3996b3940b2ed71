"""What every choice of a final network costs on this machine, in seconds: the file that `search.costs` takes.

    python benchmarks/latency.py --config=configs/mobile.py:macro --out=costs.json [--batch=1] [--threads=1]

Random networks of the config's space are compiled and timed in turns, and the seconds of their choices fitted to that:
of an operation, in a cell of the genotype, at a stride. A search by `--config.search.costs=costs.json
--config.search.budget="(('latency', 0.005),)"` then keeps within five milliseconds a batch. The last line of stdout is
one line of JSON: `networks`, `seconds` of the fastest and the slowest, and `error`, the median of how far the fit is
from networks that it was not made of, as a share.
"""

import argparse
from collections.abc import Callable, Sequence
import json
import os
import pathlib
import runpy
import statistics
import sys
import time
from typing import Any

import common
import ml_collections
import numpy as np
from scipy import optimize

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime.paths import write_atomically
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype

PER_CLASS = 2.5  # Networks for every number that is fitted.
HELD_OUT = 5  # One network in so many tells how good the fit is.
WARM_SECONDS = 0.01  # Of calls before one is timed: among others in turns a network is a third slower than alone.
FREE = ("identity", "skip_connect")  # Where unstrided, what others are compared with.
Class = tuple[str, int, str]  # Name of a cell, stride, operation.


def load(text: str) -> ml_collections.ConfigDict:
  """The config of a file, FILE or FILE:NAME."""
  path, _, name = text.partition(":")
  if not pathlib.Path(path).is_file():
    raise UsageError(f"config: {path} is not there; allowed is a Python file with get_config()")
  return runpy.run_path(path)["get_config"](*[name] * bool(name))


def classes(cell: CellSpec, strides: Sequence[int]) -> list[list[Class]]:
  """Which number every edge and candidate of a cell has; those that are free have none and are left out."""
  return [[(cell.name, strides[row], name) for name in left] for row, left in enumerate(cell.candidates)]


def edge_strides(config: ml_collections.ConfigDict, cells: Sequence[CellSpec]) -> dict[str, list[int]]:
  """By cell, the stride of its edges."""
  from lfr_darts_jax.search_space import spaces

  if config.space.name == spaces.MOBILE:
    # A layer that changes its features is no identity either.
    return {cell.name: [2] for cell in cells}
  return {cell.name: [cell.stride(source) for source, _ in cell.edges] for cell in cells}


def timed(config: ml_collections.ConfigDict, genotypes: Sequence[Genotype], batch: int, rounds: int) -> list[float]:
  """Seconds of a batch through the final network of every genotype: medians over rounds, in turns."""
  import jax
  import jax.numpy as jnp

  from lfr_darts_jax.models.spaces import final_network

  images = jnp.zeros((batch, *image_shape(config)))
  calls: list[Callable[[], Any]] = []
  for i, genotype in enumerate(genotypes):
    network = final_network(config, genotype)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images[:1])
    # Values don't matter, and to draw initial ones takes longer than to compile.
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    compiled = jax.jit(lambda v, x, network=network: network.apply(v, x).logits).lower(variables, images).compile()
    calls.append(lambda compiled=compiled, variables=variables: jax.block_until_ready(compiled(variables, images)))
    print(f"compiled {i + 1} of {len(genotypes)} networks", file=sys.stderr)
  took: list[list[float]] = [[] for _ in calls]
  for _ in range(rounds):
    for call, own in zip(calls, took, strict=True):
      warm = time.perf_counter() + WARM_SECONDS
      while time.perf_counter() < warm:
        call()
      began = time.perf_counter()
      call()
      own.append(time.perf_counter() - began)
  return [statistics.median(own) for own in took]


def fit(rows: np.ndarray, seconds: np.ndarray) -> np.ndarray:
  """Seconds of every class and, last, of what all networks have; none is negative."""
  design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
  # Relative to the network's own time: a share of it is what counts.
  return optimize.nnls(design / seconds[:, None], np.ones(len(seconds)))[0]


def measure(config: ml_collections.ConfigDict, batch: int, rounds: int) -> dict[str, Any]:
  """What the file holds, and the figures of the last line."""
  from lfr_darts_jax.search import plans, pruning
  from lfr_darts_jax.search_space import spaces

  plan, operations, rng = plans.make(config), spaces.operations(config), np.random.default_rng(0)
  whole = plan.genotype(plan.cells).cells
  strides = edge_strides(config, whole)
  numbered = {cell.name: classes(cell, strides[cell.name]) for cell in whole}
  every = dict.fromkeys(c for rows in numbered.values() for row in rows for c in row if c[2] != "none")
  fitted = [c for c in every if not (c[1] == 1 and c[2] in FREE)]
  genotypes = []
  for _ in range(round(PER_CLASS * (len(fitted) + 1))):
    drawn = {cell.name: rng.random((len(cell.candidates), len(operations))) for cell in plan.cells}
    derived = tuple(pruning.derive(cell, drawn[cell.name], operations) for cell in plan.cells)
    genotypes.append(plan.genotype(derived))
  seconds = np.array(timed(config, genotypes, batch, rounds))
  rows = np.array([_counts(genotype, strides, fitted) for genotype in genotypes], float)
  test = np.arange(len(rows)) % HELD_OUT == 0
  guessed = np.concatenate([rows[test], np.ones((test.sum(), 1))], axis=1) @ fit(rows[~test], seconds[~test])
  parts = dict(zip([*fitted, None], fit(rows, seconds).tolist(), strict=True))
  cells = {
    name: [
      [parts.get((name, strides[name][row], operation), 0.0) for operation in operations] for row in range(len(own))
    ]
    for name, own in numbered.items()
  }
  return {
    "operations": operations,
    "fixed": parts[None],
    "cells": cells,
    "batch": batch,
    "networks": len(genotypes),
    "seconds": [float(seconds.min()), float(seconds.max())],
    "error": float(np.median(np.abs(guessed / seconds[test] - 1))),
  }


def _counts(genotype: Genotype, strides: dict[str, list[int]], fitted: Sequence[Class]) -> list[int]:
  found = [
    (cell.name, strides[cell.name][row], left[0])
    for cell in genotype.cells
    for row, left in enumerate(cell.candidates)
    if left
  ]
  return [found.count(one) for one in fitted]


def parse(argv: list[str]) -> argparse.Namespace:
  """The flags."""
  parser = common.Parser(__doc__ or "")
  parser.add_argument("--config", required=True, help="a config file, FILE or FILE:NAME")
  parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the config")
  parser.add_argument("--out", type=pathlib.Path, required=True, help="the file to write")
  parser.add_argument("--batch", type=common.positive, default=1, help="images at a time")
  parser.add_argument("--rounds", type=common.positive, default=30, help="times that every network is timed")
  parser.add_argument("--threads", type=common.cores, help="cores to run on; all by default")
  return parser.parse_args(argv)


def main(argv: list[str]) -> int:
  """Measures and writes the file; returns the exit status."""
  options = parse(argv)
  if options.threads:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
  try:
    config = common.with_settings(load(options.config), options.set)
    found = measure(config, options.batch, options.rounds)
  except UsageError as error:
    print(f"latency: {error}", file=sys.stderr)
    return 2
  write_atomically(options.out, json.dumps(found) + "\n")
  print(json.dumps({key: found[key] for key in ("networks", "seconds", "error")}))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
