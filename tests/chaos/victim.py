"""Runs the command line in a process that is to be killed."""

import json
import pathlib
import sys
import time

from lfr_darts_jax import main
from lfr_darts_jax.runtime.checkpoint import Checkpoints
from lfr_darts_jax.runtime.preemption import Preemption
from tests.chaos.points import POINTS
from tests.chaos.strike import Kill, Strike


def record_safe_points(path: pathlib.Path) -> None:
  """Appends to a file when a phase opens its checkpoints, and when a safe point has been passed, in seconds."""

  def record(owner, name):
    original = getattr(owner, name)

    def recorded(*args, **kwargs):
      original(*args, **kwargs)
      with path.open("a") as file:
        file.write(f"{name} {time.time()}\n")

    setattr(owner, name, recorded)

  record(Checkpoints, "__init__")
  record(Preemption, "maybe_stop")


def run(argv: list[str]) -> None:
  """Runs with arguments: where to record safe points, a `Kill` as JSON or null, and those of the command line."""
  record_safe_points(pathlib.Path(argv[1]))
  kill = json.loads(argv[2])
  if kill is not None:
    POINTS[kill["point"]].install(Strike(Kill(**kill)))
  sys.argv = [argv[0], *argv[3:]]
  main.run()


if __name__ == "__main__":
  run(sys.argv)
