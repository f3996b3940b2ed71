"""How close the input comes to its floor: streams to decoding alone, data on the device to no data at all.

    python benchmarks/input_pipeline.py --data=photographs --folder=DIR --workers=2 --json
    python benchmarks/input_pipeline.py --data=digits --json

`photographs` writes the JPEGs of DIR (`train/<class>/*`) as a data set of TFDS, as often as to make 5,000, and streams
it as configs/imagenet.py does: array_record, random-resized crops, flips, changes of colour. Without DIR they are
random. In turns, so that both see the same machine, as many processes as there are workers only decode the same files,
in memory and by the same library. Of a stream all processes count; `--memory` leaves out what reading costs. One line
of JSON holds, besides the flags:

  stream_per_core    images per second of processor time, median over the rounds
  decode_per_core    the same of decoding alone
  share              stream_per_core / decode_per_core, median of the rounds' quotients; `share_all` has all of them
  stream_per_second  images per second of the clock
  decode_per_second  the same of decoding alone, together

`digits` searches with the plan `darts`, and holds

  dispatches         of updates
  dispatch_seconds   from one to the next, together: what the search does but for compiling, initial values and tests
  outside_seconds    of them outside the compiled program, for each dispatch; two of them compile something small
  batch_seconds      of them in making batches, together, which a program of its own measures
  share              of a dispatch that is not updating: the median of what is outside, and its part of making batches
  share_all          the same of all dispatches together, with what is compiled
"""

import argparse
from concurrent import futures
import contextlib
import itertools
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import common
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import prepared

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import augment, datasets, input_pipeline
from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.data.streaming.transforms import Transform
from lfr_darts_jax.models.spaces import supernet
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.progress import Progress
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search import bilevel, plans
from lfr_darts_jax.search.search import Search
from lfr_darts_jax.search.state import SearchState

PHOTOGRAPHS = 5000
SIZE = (375, 500, 3)  # Of a random photograph: ImageNet's most frequent one.
IDLE_SECONDS = 0.5  # Without work, after which a stream's queues are full.
JITTER, HUE = 0.4, 0.2  # Of configs/imagenet.py.


def photographs(folder: pathlib.Path | None) -> list[bytes]:
  """The JPEGs of a folder, or random ones that compress like photographs."""
  if folder is not None:
    return [path.read_bytes() for path in sorted(folder.glob("train/*/*"))]
  rng, made = np.random.default_rng(0), []
  for _ in range(50):
    rough = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), SIZE[1::-1], interpolation=cv2.INTER_CUBIC)
    made.append(cv2.imencode(".jpg", rough)[1].tobytes())
  return made


class Processors:
  """Processor time of this process and its children, living and ended, seconds."""

  def __init__(self) -> None:
    self._tick = os.sysconf("SC_CLK_TCK")

  def __call__(self) -> float:
    return time.process_time() + sum(map(self._of, multiprocessing.active_children()))

  def _of(self, child):
    with contextlib.suppress(FileNotFoundError):
      fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
      return (int(fields[11]) + int(fields[12])) / self._tick
    return 0.0

  def when_idle(self) -> float:
    """The same, once nothing works any more."""
    seconds = self()
    while True:
      time.sleep(IDLE_SECONDS)
      later = self()
      if later - seconds < 0.05 * IDLE_SECONDS:
        return later
      seconds = later


def decode_all(encoded: list[bytes], count: int) -> float:
  """Decodes so many of the photographs; the processor time it took, seconds."""
  cv2.setNumThreads(1)
  began = time.process_time()
  for photograph in itertools.islice(itertools.cycle(encoded), count):
    cv2.imdecode(np.frombuffer(photograph, np.uint8), cv2.IMREAD_COLOR)
  return time.process_time() - began


def measure_photographs(options: argparse.Namespace) -> dict[str, Any]:
  """Streams and decodes in turns."""
  cv2.setNumThreads(1)
  encoded = photographs(options.folder)
  count = options.batch * options.batches
  processes = options.workers or len(os.sched_getaffinity(0))
  processors, rounds = Processors(), []
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    some = itertools.islice(itertools.cycle((e, i % 10) for i, e in enumerate(encoded)), PHOTOGRAPHS)
    prepared.write(pathlib.Path(folder), "photographs", {"train": list(some), "test": [(encoded[0], 0)]}, 10)
    config = schema.get_config("digits")
    config.data.update(name="photographs", dir=folder, loading="stream", channels=3, num_classes=10)
    source = prepared.Memory(encoded, PHOTOGRAPHS) if options.memory else datasets.open_dataset(config).train
    transform = Transform((options.image_size,) * 2, 3, "random", True, JITTER, HUE)
    made = loader.train_batches(source, None, options.batch, 0, transform, loader.Host(workers=options.workers))
    stream = stack.enter_context(contextlib.closing(made))
    next(stream)
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(futures.ProcessPoolExecutor(processes, context))
    list(pool.map(decode_all, [encoded] * processes, [1] * processes))
    before = processors.when_idle()
    for _ in range(options.rounds):
      # First what has been made meanwhile, in no time.
      for _ in range(options.batches):
        next(stream)
      began = time.perf_counter()
      for _ in range(options.batches):
        next(stream)
      streaming = time.perf_counter() - began
      stream_cpu = (processors.when_idle() - before) / 2
      began = time.perf_counter()
      decode_cpu = sum(pool.map(decode_all, [encoded] * processes, [count // processes] * processes))
      decoding = time.perf_counter() - began
      decoded = count // processes * processes
      before = processors.when_idle()
      rounds.append((count / stream_cpu, decoded / decode_cpu, count / streaming, decoded / decoding))
  stream_rates, decode_rates, stream_clock, decode_clock = zip(*rounds, strict=True)
  shares = [s / d for s, d in zip(stream_rates, decode_rates, strict=True)]
  return {
    "stream_per_core": statistics.median(stream_rates),
    "decode_per_core": statistics.median(decode_rates),
    "share": statistics.median(shares),
    "share_all": shares,
    "stream_per_second": statistics.median(stream_clock),
    "decode_per_second": statistics.median(decode_clock),
  }


class Stopwatch(Progress):
  """A progress line that measures dispatches from one to the next, without what the search waits for.

  Attributes:
    dispatches: seconds of each, and of these in its program.
  """

  def __init__(self) -> None:
    super().__init__()
    self.dispatches: list[tuple[float, float]] = []
    self._last = time.perf_counter()

  def advance(self, steps: int, seconds: float, left: int, where: str, figures: str) -> None:
    super().advance(steps, seconds, left, where, figures)
    now = time.perf_counter()
    self.dispatches.append((now - self._last, seconds))
    self._last = now

  @contextlib.contextmanager
  def waiting(self, *arguments: Any) -> Any:
    with super().waiting(*arguments):
      yield
    self._last = time.perf_counter()


def measure_digits(options: argparse.Namespace) -> dict[str, Any]:
  """Searches on digits, then makes the batches of as many updates."""
  config = schema.get_config("digits")
  config.plan.name = "darts"
  dataset, watch = datasets.open_dataset(config), Stopwatch()
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    with contextlib.closing(Metrics(pathlib.Path(folder), schema.flatten(config))) as metrics:
      Search(config, dataset, Session(config, pathlib.Path(folder), workdirs.SEARCH, metrics, watch)).run()
  seconds = [whole for whole, _ in watch.dispatches]
  outside = [whole - program for whole, program in watch.dispatches]
  batch_seconds = make_batches(config, dataset, plans.steps_per_stage(config, dataset.train_images))
  making = batch_seconds / sum(seconds)
  typical = statistics.median(o / s for o, s in zip(outside, seconds, strict=True))
  return {
    "dispatches": len(seconds),
    "dispatch_seconds": sum(seconds),
    "outside_seconds": outside,
    "batch_seconds": batch_seconds,
    "share": typical + making,
    "share_all": sum(outside) / sum(seconds) + making,
  }


def make_batches(config, dataset: datasets.Dataset, updates: int) -> float:
  """Seconds that both batches of so many updates take by themselves."""
  plan = plans.make(config)
  stage = plan.stages[0]
  images, labels = dataset.train
  network = supernet(config, stage.layout, plan.cells)
  made = bilevel.SearchSteps(config, network, stage, updates, augment.statistics(images))
  splits = datasets.search_splits(len(images), config.data.search_fraction, config.search.batch_size, config.seed)
  feed = jax.tree.map(jnp.asarray, InMemoryChunk(ArrayDataset(images, labels), splits))
  blank = SearchState(jnp.int32(0), {}, {}, {}, {}, None, None, jax.random.PRNGKey(0))

  def total(feed):
    def body(carry, ready):
      state, total = carry
      for split in (bilevel.VALIDATION, bilevel.TRAIN):
        batch = made._batch(state, ready, split)
        total += jnp.sum(batch.images) + jnp.sum(batch.labels)
      return state.replace(step=state.step + 1), total

    keys, start = made.order_keys(blank), (blank, jnp.float32(0))
    return input_pipeline.run_steps(feed, keys, config.search.batch_size, updates, body, start)[1]

  compiled = jax.jit(total).lower(feed).compile()
  seconds = []
  for _ in range(3):
    began = time.perf_counter()
    jax.block_until_ready(compiled(feed))
    seconds.append(time.perf_counter() - began)
  return statistics.median(seconds)


def parse() -> argparse.Namespace:
  """The flags; ends the process with one line and status 2 where they are wrong."""
  parser = common.Parser("Measures the input against its floor.")
  parser.add_argument("--data", choices=("photographs", "digits"), default="photographs", help="what to measure")
  parser.add_argument("--folder", type=pathlib.Path, help="photographs as train/<class>/*; random ones by default")
  parser.add_argument("--workers", type=int, default=0, help="processes of the stream; 0 for threads")
  parser.add_argument("--memory", action="store_true", help="photographs come from memory, not from array_record files")
  parser.add_argument("--image-size", type=common.positive, default=224, help="height and width, pixels")
  parser.add_argument("--batch", type=common.positive, default=128, help="images")
  parser.add_argument("--batches", type=common.positive, default=24, help="in a round")
  parser.add_argument("--rounds", type=common.positive, default=5, help="of streaming and decoding")
  parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
  options = parser.parse_args()
  if options.workers < 0:
    parser.error(f"--workers={options.workers}; allowed are integers from 0")
  if options.folder is not None and not photographs(options.folder):
    parser.error(f"--folder={options.folder}: it holds no train/<class>/*")
  return options


def as_table(results: list[dict[str, Any]]) -> str:
  """The result, a line for each number."""
  return common.table({k: [f"{v:.4g}"] for k, v in results[0].items() if isinstance(v, (int, float))})


def main() -> None:
  """Measures what the flags ask for."""
  options = parse()
  flags = {k: v for k, v in vars(options).items() if k != "json"} | {"folder": str(options.folder)}
  function = {"photographs": measure_photographs, "digits": measure_digits}[options.data]
  common.report([options.data], lambda _: flags | common.in_own_process(function, options), options.json, as_table)


if __name__ == "__main__":
  main()
