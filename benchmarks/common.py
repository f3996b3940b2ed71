"""What the benchmarks share: flags, the search's config, data, and processes of their own. For Linux."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
import contextlib
import fcntl
import json
import multiprocessing
import os
import pathlib
import re
import runpy
import sys
import tempfile
from typing import Any, NoReturn
import zlib

import ml_collections
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax.fields import check_name
from lfr_darts_jax.runtime import jax_setup

CIFAR10 = pathlib.Path(__file__).parents[1] / "configs" / "cifar10.py"


class Parser(argparse.ArgumentParser):
  """Flags whose errors take one line."""

  def __init__(self, description: str):
    super().__init__(description=description, allow_abbrev=False)

  def error(self, message: str) -> NoReturn:
    """Ends the process with status 2."""
    print(f"{self.prog}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def positive(text: str) -> int:
  """A flag's value that is an integer from 1."""
  if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
    raise argparse.ArgumentTypeError(f"{text!r}; allowed are integers from 1")
  return int(text)


def place(text: str) -> pathlib.Path:
  """A flag's value that is a path, `~` expanded."""
  return pathlib.Path(os.path.expanduser(text))


def cores(text: str) -> int:
  """A flag's value that is a number of cores which this process has."""
  available = len(os.sched_getaffinity(0))
  if positive(text) > available:
    raise argparse.ArgumentTypeError(f"{text!r}; allowed are integers from 1 to {available}, the cores here")
  return int(text)


def add_size_flags(parser: Parser) -> None:
  """Flags of the supernet's size and of the machine, which all benchmarks take."""
  parser.add_argument("--channels", type=positive, default=16, help="features of a node before the first reduction")
  parser.add_argument(
    "--layers", type=positive, default=8, help="depth; lfr_darts takes as many copies of its normal cells as fit"
  )
  parser.add_argument("--nodes", type=positive, default=4, help="intermediate nodes of a cell")
  parser.add_argument("--batch", type=positive, default=16, help="images per half-step")
  parser.add_argument("--image-size", type=positive, default=32, help="height and width, pixels")
  parser.add_argument("--order", type=int, choices=(1, 2), default=1, help="of the bilevel gradient")
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="FIELD=VALUE",
    help="a field of our config, such as network.remat=true",
  )
  parser.add_argument("--threads", type=cores, help="cores to run on; all by default")
  parser.add_argument("--json", action="store_true", help="one line of JSON each instead of a table")


def search_config(options: argparse.Namespace, plan: str) -> ml_collections.ConfigDict:
  """The config of a search on CIFAR-like images, by the protocol of configs/cifar10.py but without augmentation.

  Both halves of every update run, as without a warm-up.

  Args:
    options: values of `add_size_flags`.
    plan: `plan.name`.

  Raises:
    UsageError: where `--set` names no field, or not a value that it allows.
  """
  config = runpy.run_path(str(CIFAR10))["get_config"]()
  config.data.update(image_size=options.image_size, flip="none", crop_padding=0)
  # lfr_darts stacks three normal cells and two reductions, of which it repeats the former.
  copies = max(1, (options.layers - 2) // 3)
  config.plan.update(name=plan, derived_copies=copies, searched_copies=copies)
  config.search.update(
    channels=options.channels,
    layers=options.layers,
    nodes=options.nodes,
    batch_size=options.batch,
    order=options.order,
    warmup_fraction=0.0,
  )
  return with_settings(config, options.set)


def with_settings(config: ml_collections.ConfigDict, settings: Iterable[str]) -> ml_collections.ConfigDict:
  """A config with fields replaced, each given as FIELD=VALUE.

  Raises:
    UsageError: where one names no field, or not a value that it allows.
  """
  flat = schema.flatten(config)
  for setting in settings:
    name, _, value = setting.partition("=")
    check_name(name)
    try:
      flat[name] = json.loads(value)
    except json.JSONDecodeError:
      flat[name] = value
  return schema.unflatten(flat)


def random_images(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Noise in the shape of CIFAR-10: uint8 `[count, size, size, 3]` and int32 labels below 10."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, size, size, 3), np.uint8), rng.integers(0, 10, count, np.int32)


def initial(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
  """First value of the weight at a path of our tree, or of a cell's alphas: the same for every framework.

  Kernels are uniform within 1 / sqrt(fan_in), PyTorch's default and ours; alphas normal at a thousandth, as DARTS has
  them.
  """
  rng = np.random.default_rng(zlib.crc32("/".join(path).encode()))
  if path[-1] == "alphas":
    return 1e-3 * rng.normal(size=shape)
  if path[-1] == "kernel":
    return rng.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[:-1]))
  return np.full(shape, 1.0 if path[-1] == "scale" else 0.0)


def in_own_process(
  function: Callable[..., dict[str, Any]], *arguments: Any, threads: int | None = None
) -> dict[str, Any]:
  """What a function of a module returns when a fresh process calls it, on so many cores."""
  context = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(1, context, _start, (threads,)) as pool:
    return pool.submit(function, *arguments).result()


def report(
  names: Iterable[str],
  measure: Callable[[str], dict[str, Any]],
  as_json: bool,
  as_table: Callable[[list[dict[str, Any]]], str],
) -> None:
  """Measures one thing after another, and prints a line of JSON after each or a table at the end.

  A process of a measurement that is killed ends the program with one line.
  """
  results = []
  for name in names:
    try:
      results.append(measure(name))
    except BrokenProcessPool:
      sys.exit(f"{pathlib.Path(sys.argv[0]).name}: the process of {name} was killed; is there memory enough?")
    if as_json:
      print(json.dumps(results[-1]), flush=True)
  if not as_json:
    print(as_table(results))


def _start(threads):
  jax_setup.set_flags()
  # XLA and PyTorch both start as many threads as the process has cores.
  if threads is not None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@contextlib.contextmanager
def turn(path: str | None) -> Iterator[None]:
  """Waits until no other process is in its turn that names the same file; None waits for nobody."""
  if path is None:
    yield
    return
  with open(path, "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def empty_compilation_cache() -> Iterator[None]:
  """Gives the processes that are started meanwhile a compilation cache of their own, which stores everything."""
  with tempfile.TemporaryDirectory() as folder:
    variables = {
      "JAX_ENABLE_COMPILATION_CACHE": "true",
      "JAX_COMPILATION_CACHE_DIR": folder,
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
      yield
    finally:
      for name, value in before.items():
        if value is None:
          del os.environ[name]
        else:
          os.environ[name] = value


def peak_resident() -> int:
  """The largest resident set that this process has had, bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
  assert found
  return 1024 * int(found[1])


def table(rows: Mapping[str, list[str]]) -> str:
  """Rows of a table by their title, columns aligned to the right."""
  width = max(len(cell) for cells in rows.values() for cell in cells) + 2
  title = max(map(len, rows)) + 1
  return "\n".join(f"{name:<{title}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows.items())
