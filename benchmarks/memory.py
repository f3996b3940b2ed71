"""Whether a long search keeps to its memory over thousands of dispatches.

    python benchmarks/memory.py --dispatches=2000 --json

A small search on digits, one update per dispatch, with metrics, TensorBoard events and a checkpoint every second. One
line of JSON holds

  dispatches  how many there were
  low_bytes   median of the process's own memory over a tenth of the dispatches, the lowest of the tenths but the first;
              what the compiler leaves behind is given back to the system at any time
  end_bytes   the same over the last tenth
  growth      end_bytes / low_bytes - 1
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import re
import statistics
import sys
import tempfile
from typing import Any

import common

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.progress import Progress
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search.search import Search

UPDATES_PER_EPOCH = 10
BATCH = 16


class Sampler(Progress):
  """A progress line that looks at the process's memory after every dispatch.

  Attributes:
    sizes: bytes.
  """

  def __init__(self) -> None:
    super().__init__()
    self.sizes: list[int] = []

  def advance(self, *arguments: Any) -> None:
    super().advance(*arguments)
    self.sizes.append(memory())


def memory() -> int:
  """This process's own memory, in RAM or swapped out, bytes; mapped files, which a kernel drops at will, left out."""
  status = pathlib.Path("/proc/self/status").read_text()
  return 1024 * sum(map(int, re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", status, re.MULTILINE)))


def measure(dispatches: int) -> dict[str, Any]:
  """Searches for so many dispatches, a multiple of `UPDATES_PER_EPOCH`."""
  config = schema.get_config("digits")
  config.plan.name, config.prune.rounds = "darts", ()
  config.search.update(
    layers=3,
    nodes=1,
    channels=4,
    batch_size=BATCH,
    operations=("skip_connect", "dil_conv_3x3"),
    steps_per_chunk=1,
    epochs=dispatches // UPDATES_PER_EPOCH,
  )
  config.checkpoint.interval = 1.0
  dataset = datasets.open_dataset(config)
  count = 2 * BATCH * UPDATES_PER_EPOCH
  dataset = dataclasses.replace(dataset, train=tuple(a[:count] for a in dataset.train))
  sampler = Sampler()
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    workdir = pathlib.Path(folder)
    with contextlib.closing(Metrics(workdir, schema.flatten(config))) as metrics:
      Search(config, dataset, Session(config, workdir, workdirs.SEARCH, metrics, sampler)).run()
  assert len(sampler.sizes) == dispatches
  tenth = dispatches // 10
  medians = [statistics.median(sampler.sizes[i : i + tenth]) for i in range(tenth, dispatches, tenth)]
  low, end = min(medians), medians[-1]
  return {"dispatches": dispatches, "low_bytes": low, "end_bytes": end, "growth": end / low - 1}


def main() -> None:
  """Measures what the flags ask for."""
  parser = common.Parser("Watches the memory of a long search.")
  parser.add_argument("--dispatches", type=_tens, default=2000, help="how many; a multiple of 10")
  parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
  options = parser.parse_args()
  result = common.in_own_process(measure, options.dispatches)
  if options.json:
    print(json.dumps(result))
    return
  megabytes = {k: [f"{result[f'{k}_bytes'] / 1e6:.1f}"] for k in ("low", "end")}
  print(common.table({f"{k}, MB": v for k, v in megabytes.items()} | {"growth": [f"{100 * result['growth']:.2f} %"]}))


def _tens(text):
  value = common.positive(text)
  if value % UPDATES_PER_EPOCH:
    raise argparse.ArgumentTypeError(f"{text!r}; allowed are multiples of {UPDATES_PER_EPOCH}")
  return value


if __name__ == "__main__":
  main()
