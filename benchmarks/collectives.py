"""What a compiled program sends between devices, read from its optimised HLO."""

import collections
import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(rf" = (.+?) ({'|'.join(KINDS)})(?:-start)?\(")
_SHAPE = re.compile(rf"({'|'.join(BYTES)})\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_BODY = re.compile(r"body=%?([\w.\-]+)")
_BRANCHES = re.compile(
  r"(?:branch_computations=\{([^}]*)\}|true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+))"
)
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")


class Collective(NamedTuple):
  """A collective operation: its kind, the bytes of its result on a device, and how often it runs."""

  kind: str
  size: int
  times: int


def read(hlo: str) -> list[Collective]:
  """The collectives of a program.

  Args:
    hlo: the text of the optimised module.

  Returns:
    Them, each with how often it runs in a call: in a loop of a known number of turns so often; in any other loop once
    for each turn; in a conditional as often as in its most talkative branch.
  """
  computations, entry = _computations(hlo)
  return [Collective(kind, size, times) for (kind, size), times in sorted(_count(entry, computations, {}).items())]


def _computations(hlo):
  found: dict[str, list[str]] = {}
  entry, name = "", ""
  for line in hlo.splitlines():
    started = _COMPUTATION.match(line)
    if started:
      name = started[2]
      found[name] = []
      entry = name if started[1] else entry
    elif name:
      found[name].append(line)
  return found, entry


def _count(name, computations, known):
  if name not in known:
    total: collections.Counter[tuple[str, int]] = collections.Counter()
    for line in computations.get(name, ()):
      total.update(_of_line(line, computations, known))
    known[name] = total
  return known[name]


def _of_line(line, computations, known):
  collective, body = _COLLECTIVE.search(line), _BODY.search(line)
  if collective:
    return {(collective[2], _size(collective[1])): 1}
  if body:
    turns = _TRIPS.search(line)
    inside = _count(body[1], computations, known)
    return {key: times * (int(turns[1]) if turns else 1) for key, times in inside.items()}
  branches = _BRANCHES.search(line)
  if branches:
    names = [n.strip().lstrip("%") for n in (branches[1] or f"{branches[2]},{branches[3]}").split(",")]
    return max((_count(n, computations, known) for n in names), key=lambda counter: sum(counter.values()))
  called = _CALLED.search(line)
  # What an all-reduce applies is no call of its own; it has been returned above.
  return _count(called[1], computations, known) if called else {}


def _size(shapes):
  return sum(
    BYTES[kind] * math.prod(int(n) for n in dimensions.split(",") if n) for kind, dimensions in _SHAPE.findall(shapes)
  )
