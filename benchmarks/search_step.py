"""How long one update of the search takes, in this project and in plain PyTorch.

    python benchmarks/search_step.py --plan=darts --channels=16 --layers=8 --batch=16 --steps=10 --framework=both --json

Both sides start from equal weights and see the same random images, one batch for the weights and one for the alphas, so
that their losses agree. Data lie on the device; neither side augments. Every framework gets a process of its own, and
its first update is not timed. `--plan=lfr_darts` takes the last iteration, whose derived cells are drawn at random.
PyTorch's side is `torch_supernet.py`, with autocast for bfloat16; its order 2 is DARTS's finite difference, ours exact.

One line of JSON per framework holds, besides the flags and `device`:

  framework             "jax" or "torch"
  seconds_per_step      median of `seconds_per_step_all`, of updates of both half-steps
  images_per_second     of both half-steps
  compile_seconds       from an empty compilation cache, tracing included; PyTorch compiles nothing
  warm_compile_seconds  the same in a second process, from the cache that the first has filled; not with --cold
  peak_memory_bytes     jax: temporaries, arguments and outputs of the compiled update, in XLA's account; donated ones
                        once. torch: on a GPU the allocator's peak, on a CPU how far the peak of the resident set grew
  resident_bytes        peak of the process's resident set, imports and compilation included
  loss_first, loss_last of the weights' batch, in the first (untimed) and the last update
"""

import argparse
import functools
import importlib.util
import math
import statistics
import time
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.models.spaces import supernet
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.search import bilevel, plans, pruning
from lfr_darts_jax.search.stages import supernet_of
from lfr_darts_jax.search.state import Alphas, SearchState
from lfr_darts_jax.search_space.cell_spec import CellSpec

UNTIMED = 1  # Updates before the timed ones: the first one allocates, and on a GPU picks its kernels.


class Task(NamedTuple):
  """What is timed.

  Attributes:
    config: the config.
    stage: the last one of its plan.
    cells: all its cells, in part derived.
    images, labels: random, `[2 * batch, ...]`: the weights' batch, then the alphas'.
  """

  config: ml_collections.ConfigDict
  stage: plans.Stage
  cells: tuple[CellSpec, ...]
  images: np.ndarray
  labels: np.ndarray

  def alphas(self) -> dict[str, np.ndarray]:
    """First alphas of every searched cell, `[edges, operations]`."""
    shape = len(self.cells[0].candidates), len(self.config.search.operations)
    return {name: common.initial((name, "alphas"), shape) for name in self.stage.searched}


def task(options: argparse.Namespace) -> Task:
  """The task that the flags describe.

  Raises:
    UsageError: where they don't fit together.
  """
  config = common.search_config(options, options.plan)
  config.network.dtype = options.dtype
  plan = plans.make(config)
  stage = plan.stages[-1]
  rng = np.random.default_rng(config.seed)
  operations = tuple(config.search.operations)
  cells = tuple(
    cell
    if cell.name in stage.searched
    else pruning.derive(cell, rng.random((len(cell.candidates), len(operations))), operations)
    for cell in plan.cells
  )
  supernet(config, stage.layout, cells)
  images, labels = common.random_images(2 * options.batch, options.image_size, config.seed)
  return Task(config, stage, cells, images, labels)


def measure_jax(options: argparse.Namespace) -> dict[str, Any]:
  """Compiles and times our update."""
  steps, state, chunk, compile_seconds = compiled(options)
  seconds, losses = [], []
  with common.turn(options.turn):
    for step in range(1, UNTIMED + options.steps + 1):
      began = time.perf_counter()
      state, sums = jax.block_until_ready(steps.run(state, chunk, step))
      seconds.append(time.perf_counter() - began)
      losses.append(float(sums.loss[bilevel.TRAIN]))
  memory = steps._compiled.memory_analysis()
  peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
  return {
    **_times(seconds, losses, options.batch),
    "compile_seconds": compile_seconds,
    "peak_memory_bytes": peak - memory.alias_size_in_bytes,
    "resident_bytes": common.peak_resident(),
    "device": jax.devices()[0].device_kind,
  }


def compile_jax(options: argparse.Namespace) -> dict[str, Any]:
  """Compiles our update."""
  return {"warm_compile_seconds": compiled(options).seconds}


class Compiled(NamedTuple):
  """Our update, compiled; its arguments; the seconds that compilation took."""

  steps: bilevel.SearchSteps
  state: SearchState
  chunk: InMemoryChunk
  seconds: float


def compiled(options: argparse.Namespace, devices: Devices | None = None) -> Compiled:
  """Compiles our update for so many devices, by default for one."""
  devices = devices or distributed.first_device()
  made = task(options)
  config, images = made.config, made.images
  network = supernet_of(config, made.stage, made.cells)
  total, measured = UNTIMED + options.steps, augment.statistics(images)
  steps = bilevel.SearchSteps(config, network, made.stage, total, measured, devices)
  alphas = {name: jnp.asarray(a, jnp.float32) for name, a in made.alphas().items()}
  image = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
  shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0), image, alphas)
  # A value for every edge's weights, as PyTorch's side has them.
  each = functools.partial(edge_stacks.of_network, layout=network.layout, cells=network.cells)
  params = jax.tree.map_with_path(
    lambda path, s: jnp.asarray(common.initial(tuple(p.key for p in path), s.shape), s.dtype),
    jax.eval_shape(lambda variables: each(edge_stacks.unstack, variables=variables), shapes["params"]),
  )
  params = each(edge_stacks.stack, variables=params)
  statistics_ = jax.tree.map_with_path(
    lambda path, s: jnp.full(s.shape, float(path[-1].key == "var"), s.dtype), shapes["batch_stats"]
  )
  variables = {"params": params, "batch_stats": statistics_}
  of_edges = lambda a: jnp.zeros(len(a)) if config.search.edge_weights else None
  architecture = {name: Alphas(a, of_edges(a)) for name, a in alphas.items()}
  state = steps.initial_state(variables, architecture, jax.random.PRNGKey(config.seed))
  dataset = ArrayDataset(jnp.asarray(images), jnp.asarray(made.labels))
  # Each split is one batch, so that the order in which a step draws it makes no difference.
  chunk = InMemoryChunk(dataset, jnp.arange(len(images), dtype=jnp.int32).reshape(2, -1))
  state, chunk = devices.replicate((state, chunk))
  began = time.perf_counter()
  steps.compile(state, chunk)
  return Compiled(steps, state, chunk, time.perf_counter() - began)


def measure_torch(options: argparse.Namespace) -> dict[str, Any]:
  """Times PyTorch's update."""
  # Only here, so that our side runs without PyTorch.
  import torch
  import torch_supernet

  made = task(options)
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
  torch.backends.cudnn.benchmark = True
  if options.threads:
    torch.set_num_threads(options.threads)
  resident = common.peak_resident()
  model = torch_supernet.Supernet(
    made.stage.layout, made.cells, made.config.search.channels, made.config.data.num_classes
  )
  for name, parameter in model.named_parameters():
    torch_supernet.assign(parameter, common.initial(torch_supernet.our_path(name), torch_supernet.our_shape(parameter)))
  layout = torch.channels_last if options.channels_last else torch.contiguous_format
  model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
  alphas = {
    name: torch.tensor(a, dtype=torch.float32, device=device, requires_grad=True) for name, a in made.alphas().items()
  }
  images = torch.tensor(made.images.transpose(0, 3, 1, 2), device=device)
  labels = torch.tensor(made.labels, dtype=torch.int64, device=device)
  mean, deviation = (torch.tensor(v, device=device)[:, None, None] for v in augment.statistics(made.images))

  def batch(half):
    at = slice(half * options.batch, (half + 1) * options.batch)
    normal = (images[at].float() / 255 - mean) / deviation
    return torch_supernet.Batch(normal.contiguous(memory_format=layout), labels[at])

  autocast = torch.bfloat16 if options.dtype == "bfloat16" else None
  updates = torch_supernet.Bilevel(model, alphas, made.config.search, UNTIMED + options.steps, autocast)
  seconds, losses = [], []
  with common.turn(options.turn):
    for _ in range(UNTIMED + options.steps):
      began = time.perf_counter()
      loss = updates.update(batch(0), batch(1))
      wait()
      seconds.append(time.perf_counter() - began)
      losses.append(loss.item())
  on_gpu = device.type == "cuda"
  return {
    **_times(seconds, losses, options.batch),
    "compile_seconds": 0.0,
    "warm_compile_seconds": 0.0,
    "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else common.peak_resident() - resident,
    "resident_bytes": common.peak_resident(),
    "device": torch.cuda.get_device_name() if on_gpu else "cpu",
  }


def _times(seconds, losses, batch):
  median = statistics.median(seconds[UNTIMED:])
  return {
    "seconds_per_step": median,
    "seconds_per_step_all": seconds[UNTIMED:],
    "images_per_second": 2 * batch / median,
    "loss_first": losses[0],
    "loss_last": losses[-1],
  }


def measure(framework: str, options: argparse.Namespace) -> dict[str, Any]:
  """All that is known of a framework's update."""
  flags = {k: v for k, v in vars(options).items() if k not in ("framework", "json", "cold", "turn")}
  result = {"framework": framework, **flags, "layers": len(task(options).stage.layout)}
  if framework == "torch":
    return result | common.in_own_process(measure_torch, options, threads=options.threads)
  with common.empty_compilation_cache():
    for function in (measure_jax,) if options.cold else (measure_jax, compile_jax):
      result |= common.in_own_process(function, options, threads=options.threads)
  return result


def parse() -> argparse.Namespace:
  """The flags; ends the process with one line and status 2 where they are wrong."""
  parser = common.Parser("Times one update of the search against plain PyTorch.")
  common.add_size_flags(parser)
  parser.add_argument("--steps", type=common.positive, default=10, help="updates to time")
  parser.add_argument("--plan", choices=("darts", "lfr_darts"), default="darts", help="whose supernet")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
  parser.add_argument("--framework", choices=("jax", "torch", "both"), default="both", help="which to time")
  parser.add_argument("--channels-last", action="store_true", help="PyTorch's memory format")
  parser.add_argument("--cold", action="store_true", help="leave out the second compilation, from the cache")
  parser.add_argument("--turn", help="a file; benchmarks that name it compile beside each other and time in turn")
  options = parser.parse_args()
  if options.framework != "jax" and importlib.util.find_spec("torch") is None:
    parser.error(f"--framework={options.framework}: PyTorch is not installed; pip install -e '.[torch]'")
  try:
    task(options)
  except UsageError as error:
    parser.error(str(error))
  return options


def as_table(results: list[dict[str, Any]]) -> str:
  """The results as columns, and how long our step takes in terms of PyTorch's."""
  rows = {
    "": [r["framework"] for r in results],
    "seconds per step": [f"{r['seconds_per_step']:.4f}" for r in results],
    "images per second": [f"{r['images_per_second']:.1f}" for r in results],
    "compile, seconds": [f"{r['compile_seconds']:.1f}" for r in results],
    "compile warm, seconds": [f"{r.get('warm_compile_seconds', math.nan):.1f}" for r in results],
    "peak memory, MB": [f"{r['peak_memory_bytes'] / 1e6:.0f}" for r in results],
    "resident, MB": [f"{r['resident_bytes'] / 1e6:.0f}" for r in results],
    "first loss": [f"{r['loss_first']:.5f}" for r in results],
    "last loss": [f"{r['loss_last']:.5f}" for r in results],
  }
  if len(results) == 2:
    ours, theirs = (r["seconds_per_step"] for r in results)
    rows["ours / PyTorch's"] = [f"{ours / theirs:.3f}", ""]
  return common.table(rows)


def main() -> None:
  """Measures what the flags ask for."""
  options = parse()
  frameworks = ("jax", "torch") if options.framework == "both" else (options.framework,)
  common.report(frameworks, lambda framework: measure(framework, options), options.json, as_table)


if __name__ == "__main__":
  main()
