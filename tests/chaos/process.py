"""One process of a run, killed or left alone."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tests.chaos.strike import Kill

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 900.0  # Of a process that hangs; one takes half a minute, and minutes where it compiles anew.
ANY_TIME = "any time"  # The point of a kill from outside; its moment is the share of an undisturbed run's length.

# The digits job at the smallest budget that has everything: five iterations with a pruning in each, a final training.
BUDGET = (
  "--config.search.epochs=1",
  "--config.search.batch_size=16",
  "--config.search.channels=4",
  "--config.search.nodes=1",
  "--config.search.operations=('none','skip_connect','dil_conv_3x3')",
  "--config.search.steps_per_chunk=1",
  "--config.prune.rounds=((0.5,2),)",
  "--config.plan.inherit_weights=True",
  "--config.data.search_fraction=0.1",
  "--config.network.channels=4",
  "--config.network.layers=5",
  "--config.train.epochs=2",
  "--config.train.steps_per_chunk=10",
)


class Ended(NamedTuple):
  """How a process ended.

  Attributes:
    status: as a shell shows it: 128 and the signal's number for one that a signal killed.
    began: seconds, as the times of files are.
    ended: the same.
    output: of its stdout.
    errors: of its stderr.
  """

  status: int
  began: float
  ended: float
  output: str
  errors: str


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, of as many processes as it takes.

  Attributes:
    workdir: its work directory.
    arguments: of the command line, without that.
    cache: directory of compiled programs.
    length: seconds that an undisturbed run takes.
  """

  workdir: pathlib.Path
  arguments: tuple[str, ...]
  cache: pathlib.Path
  length: float = 0.0

  @property
  def safe_points(self) -> pathlib.Path:
    """Where the last process that was to be killed has recorded its safe points."""
    return self.workdir.with_name(f"{self.workdir.name}.safe_points")

  def go_on(self) -> Ended:
    """Runs to the end."""
    return self._process(["lfr_darts_jax.main"], keeps_compiled=True)

  def go_on_until(self, kill: Kill) -> Ended:
    """Runs until the kill, or to the end where that comes first."""
    self.safe_points.write_text("")
    inside = None if kill.point == ANY_TIME else dataclasses.asdict(kill)
    # A program that is half written would make every later process compile it anew.
    victim = ["tests.chaos.victim", str(self.safe_points), json.dumps(inside)]
    return self._process(victim, keeps_compiled=False, outside=kill if inside is None else None)

  def _process(self, module: list[str], keeps_compiled: bool, outside: Kill | None = None) -> Ended:
    environment = {
      **os.environ,
      "JAX_COMPILATION_CACHE_DIR": str(self.cache),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if keeps_compiled else "1e9",
    }
    command = [sys.executable, "-m", *module, f"--workdir={self.workdir}", *self.arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
      began = time.time()
      process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=errors)
      try:
        if outside:
          self._kill(process, outside)
        process.wait(TIMEOUT)
      finally:
        process.kill()
      ended = time.time()
      output.seek(0)
      errors.seek(0)
      status = process.returncode if process.returncode >= 0 else 128 - process.returncode
      return Ended(status, began, ended, output.read(), errors.read())

  def _kill(self, process, kill):
    try:
      process.wait(float(kill.moment) * self.length)
    except subprocess.TimeoutExpired:
      process.send_signal(signal.Signals[kill.signal])
