"""What a kill costs: the work since the newest checkpoint."""

from collections.abc import Iterator
import pathlib

from lfr_darts_jax.runtime import workdir as workdirs
from tests.chaos.process import Ended


def commits(workdir: pathlib.Path) -> Iterator[float]:
  """When what lies in a work directory was saved for good: checkpoints, genotype, result."""
  for phase in (workdirs.SEARCH, workdirs.CHECKPOINTS):
    # The last thing that changes in a checkpoint's directory is the mark that it is whole.
    yield from (path.stat().st_mtime for path in (workdir / phase).glob("*") if path.name.isdigit())
  yield from (
    path.stat().st_mtime for name in (workdirs.GENOTYPE, workdirs.RESULT) if (path := workdir / name).exists()
  )


def seconds(workdir: pathlib.Path, process: Ended) -> float:
  """Seconds of the process's work that the next one repeats."""
  return process.ended - max([process.began, *commits(workdir)])


def unsaved(workdir: pathlib.Path, safe_points: pathlib.Path) -> float:
  """The part of them that lies before the last safe point that was passed.

  What follows it is the one dispatch, compile or test that the kill came into. `checkpoint.interval` bounds this part,
  whatever else keeps the machine busy.
  """
  events = [line.split() for line in safe_points.read_text().splitlines()]
  opened = [float(at) for name, at in events if name == "__init__"]
  passed = [float(at) for name, at in events if name == "maybe_stop"]
  if not passed:
    return 0.0
  return max(passed[-1] - max([*(at for at in opened if at < passed[-1]), *commits(workdir)]), 0.0)
