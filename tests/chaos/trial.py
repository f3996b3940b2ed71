"""A run that is killed a few times, goes on to its end, and is compared with one that was left alone."""

import dataclasses
import pathlib
import signal
from typing import Any

import numpy as np

from tests.chaos import compare, lost
from tests.chaos.points import POINTS
from tests.chaos.process import ANY_TIME, Ended, Run
from tests.chaos.strike import AFTER, BEFORE, TORN, Kill

KILLS = 5  # Of a trial, at most.
INTERVALS = (0.0, 2.0)  # Of checkpoints: after every dispatch, and so that some pass without.
SIGNALS = {"SIGKILL": 0.8, "SIGTERM": 0.1, "SIGINT": 0.1}
# Between a safe point's look at the clock and the record that it has been passed, on a machine with other work.
TOLERANCE = 1.5


@dataclasses.dataclass(frozen=True)
class Plan:
  """What befalls a run.

  Attributes:
    interval: `checkpoint.interval`.
    kills: one after another.
  """

  interval: float
  kills: tuple[Kill, ...]


def draw(seed: int, index: int) -> Plan:
  """The plan of a trial: in turn kills at chosen points, in the order of a run, and at any time."""
  rng = np.random.default_rng([seed, index])
  if index % 2:
    kills = [Kill(ANY_TIME, 1, rng.random(), _signal(rng)) for _ in range(KILLS)]
  else:
    names = list(POINTS)
    kills = [_at(names[i], rng) for i in np.sort(rng.permutation(len(names))[:KILLS])]
  return Plan(INTERVALS[index // 2 % len(INTERVALS)], tuple(kills))


def _at(name, rng):
  point = POINTS[name]
  moments = [BEFORE, AFTER, *[TORN] * point.torn]
  if point.seconds is not None:
    moments += 2 * [round(rng.uniform(0, point.seconds), 3)]
  return Kill(name, int(rng.integers(point.occurrences)) + 1, moments[rng.integers(len(moments))], _signal(rng))


def _signal(rng):
  return str(rng.choice(list(SIGNALS), p=list(SIGNALS.values())))


def execute(plan: Plan, run: Run, reference: pathlib.Path) -> dict[str, Any]:
  """Carries a plan out.

  Args:
    plan: the plan.
    run: a new one, for the budget of the reference.
    reference: work directory of a run that was left alone.

  Returns:
    What goes into the log: of every kill that came, what it was and what it cost; and the problems, if any.
  """
  run = dataclasses.replace(run, arguments=(*run.arguments, f"--config.checkpoint.interval={plan.interval}"))
  kills: list[dict[str, Any]] = []
  try:
    problems = _carry_out(plan, run, kills)
    problems += compare.differences(run.workdir, reference)
  except Exception as error:  # A process that hangs, or one that leaves less than a run, is a finding too.
    problems = [f"{type(error).__name__}: {error}"]
  return {"interval": plan.interval, "kills": kills, "problems": problems}


def _carry_out(plan: Plan, run: Run, kills: list[dict[str, Any]]) -> list[str]:
  """Kills the run and lets it end; adds to `kills` and returns problems."""
  problems = []
  for kill in plan.kills:
    process = run.go_on_until(kill)
    if process.status == 0:
      return problems
    unsaved = lost.unsaved(run.workdir, run.safe_points)
    cost = {"lost": round(lost.seconds(run.workdir, process), 2), "unsaved": round(unsaved, 2)}
    kills.append({**dataclasses.asdict(kill), "status": process.status, **cost})
    problems += [f"{kill}: {text}" for text in _wrong(kill, process)]
    if unsaved > plan.interval + TOLERANCE:
      problems.append(f"{kill}: {unsaved:.1f} s unsaved at a safe point, with an interval of {plan.interval} s")
  process = run.go_on()
  return problems + ([f"status {process.status} {process.errors}"] if process.status else [])


def _wrong(kill: Kill, process: Ended) -> list[str]:
  """How a process ended otherwise than its kill lets expect."""
  if process.status != 128 + signal.Signals[kill.signal]:
    return [f"status {process.status} {process.errors}"]
  # Before its first word a process has done nothing that could be continued, and after its last one nothing is left.
  amid = process.output and "\ntest error" not in process.output
  if kill.signal != "SIGKILL" and amid and "continue" not in process.errors.strip().rpartition("\n")[2]:
    return [f"no word of how to continue: {process.errors!r}"]
  return []
