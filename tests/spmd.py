"""Compares runs on several simulated devices with the same runs on one: `python -m tests.spmd TASK`.

Prints one JSON object. In a process of its own, since the number of simulated devices is fixed when JAX starts.
"""

import collections
import json
import os
import pathlib
import re
import sys
import tempfile

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax import pipeline
from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.models.spaces import supernet
from lfr_darts_jax.runtime import metrics
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.search import bilevel, plans
from lfr_darts_jax.search.stages import Stages
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges
from lfr_darts_jax.training.train import TrainSteps
from tests.conftest import tiny_config

OPERATIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")
COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def devices(count):
  """The first so many."""
  return Devices(tuple(jax.devices()[:count]))


def as_float(tree, dtype):
  """A tree with its floating-point leaves in another type."""
  cast = lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
  return jax.tree.map(cast, tree)


def furthest(a, b):
  """The largest difference between two trees."""
  difference = lambda x, y: float(np.max(np.abs(np.float64(x) - np.float64(y))))
  return max(jax.tree.leaves(jax.tree.map(difference, a, b)))


def updates(order, count, dtype, group=None, edges_as="scan"):
  """So many updates of a supernet on one device and on eight.

  Returns:
    The largest differences of losses and of alphas, and the collectives of the compiled program on eight.
  """
  config = tiny_config()
  config.search.update(order=order, batch_size=32, operations=OPERATIONS, nodes=1)
  config.data.update(flip="random")
  config.network.update(batch_norm_group=group, edges=edges_as)
  cells = tuple(CellSpec.full(name, kind, 1, OPERATIONS) for name, kind in (("n0", "normal"), ("r0", "reduction")))
  network = supernet(config, ("n0", "r0"), cells)
  rng = np.random.default_rng(0)
  alphas = {c.name: Alphas(jnp.asarray(rng.normal(size=(len(edges(1)), len(OPERATIONS))))) for c in cells}
  image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
  variables = as_float(
    network.lazy_init(jax.random.PRNGKey(0), image, {k: a.operations for k, a in alphas.items()}), dtype
  )
  images = rng.integers(0, 256, (128, 8, 8, 1)).astype(np.uint8)
  labels = rng.integers(0, 10, 128).astype(np.int32)
  splits = np.arange(128, dtype=np.int32).reshape(2, 64)
  stage = plans.Stage(network.layout, ("n0", "r0"), skip_dropout=0.3, warmup=0.2, alpha_rate=6e-3)
  results = []
  for number in (1, 8):
    team = devices(number)
    # With the star cell as on accelerators.
    for_cpu = edges_as != "star"
    made = bilevel.SearchSteps(config, network, stage, 20, ((0.4,), (0.3,)), team, for_cpu)
    state = made.initial_state(variables, as_float(alphas, dtype), jax.random.PRNGKey(0))
    state = team.replicate(jax.tree.map(np.asarray, state))
    chunk = team.replicate(InMemoryChunk(ArrayDataset(images, labels), splits))
    losses = []
    for step in range(1, count + 1):
      state, sums = made.run(state, chunk, step)
      losses.append(np.asarray(sums.loss))
    results.append((np.array(losses), jax.tree.map(np.asarray, state.alphas)))
  (losses, alphas), (split_losses, split_alphas) = results
  return {
    "losses": furthest(losses, split_losses),
    "alphas": furthest(alphas, split_alphas),
    "collectives": collections.Counter(COLLECTIVE.findall(made._compiled.as_text())),
  }


def run():
  """A whole run in float64 on one device and on eight: search, pruning, deepening, training, test.

  Returns:
    The largest differences of losses along the way and of test errors, and whether the formats are equal.
  """
  for home in (Stages, TrainSteps):
    own = home.initial_state
    home.initial_state = lambda *arguments, own=own: as_float(own(*arguments), jnp.float64)
  config = tiny_config()
  config.search.update(operations=OPERATIONS, nodes=1, batch_size=32)
  config.prune.rounds = ((0.5, 2),)
  config.plan.inherit_weights = True
  config.data.search_fraction = 0.3
  results, losses = [], []
  with tempfile.TemporaryDirectory() as folder:
    for number in (1, 8):
      workdir = pathlib.Path(folder) / str(number)
      workdir.mkdir()
      job = pipeline._Job(config, workdir, "", devices(number))
      job.search()
      results.append((job.train(), (workdir / "genotype.json").read_text()))
      entries = metrics.read(workdir)
      losses.append(np.array([e[k] for e in entries for k in ("train_loss", "validation_loss") if k in e]))
  (result, genotype), (split_result, split_genotype) = results
  return {
    "losses": furthest(*losses),
    "count": len(losses[0]),
    "test_error": abs(result["test_error"] - split_result["test_error"]),
    "images": int(np.sum(split_result["confusion"])),
    "genotype": genotype == split_genotype,
  }


TASKS = {
  "order_1": lambda: updates(1, 20, jnp.float64),
  "order_2": lambda: updates(2, 20, jnp.float64),
  "unrolled": lambda: updates(1, 20, jnp.float64, edges_as="unroll"),
  "star": lambda: updates(1, 20, jnp.float64, edges_as="star"),
  "float32": lambda: updates(1, 5, jnp.float32),
  "group_of_one_device": lambda: updates(1, 20, jnp.float64, group=4),
  "group_of_two_devices": lambda: updates(1, 20, jnp.float64, group=8),
  "run": run,
}

if __name__ == "__main__":
  task = sys.argv[1]
  # Not as a context, which the threads that a run waits for would not be in.
  jax.config.update("jax_enable_x64", task != "float32")
  print(json.dumps(TASKS[task]()))
