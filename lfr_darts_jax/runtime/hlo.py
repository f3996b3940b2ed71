"""What a compiled program launches, moves and loops over, read from its optimised HLO text.

Nothing is run, so that a machine without the device can tell what its programs cost there.
"""

from collections import Counter
from collections.abc import Iterator
import dataclasses
import math
import re

# Instructions that name, split or join values, or wait; no kernel runs for them.
FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id opt-barrier domain "
  "add-dependency async-update async-done copy-done all-reduce-done all-gather-done collective-permute-done".split()
)
BYTES = {"pred": 1, "c64": 8, **{f"{kind}{bits}": bits // 8 for kind in "sfu" for bits in (8, 16, 32, 64)}, "bf16": 2}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SMALL = 64 * 1024  # Bytes of a result below which a kernel's time is that of its launch.

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction: its name, the text of its type, its opcode, and what follows that."""

  name: str
  shape: str
  opcode: str
  rest: str

  def called(self, attribute: str) -> str:
    """The computation that an attribute names, empty where there is none."""
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
    return found[1] if found else ""

  @property
  def result(self) -> str:
    """The text of its type without the scratch memory that libraries ask for, which they need not touch."""
    return re.sub(r", [us]8\[\d+\][^,()]*\)$", ")", self.shape) if self.opcode == "custom-call" else self.shape

  @property
  def operands(self) -> list[str]:
    """Names of the instructions whose results it takes."""
    inside = self.rest[1 : _closing(self.rest) - 1]
    return re.findall(r"%([\w.\-]+)", inside)

  @property
  def branches(self) -> list[str]:
    """The computations of a conditional."""
    listed = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
    found = listed[1] if listed else " ".join(self.called(f"{side}_computation") for side in ("true", "false"))
    return re.findall(r"[\w.\-]+", found)

  @property
  def trips(self) -> int | None:
    """How often a loop turns, None where the compiler does not know."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.rest)
    return int(known[1]) if known else None


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one run of a program costs.

  Attributes:
    kernels: launches. A loop counts with its trips, a conditional with its largest branch.
    kernels_small: those whose results have less than 64 KiB.
    gigabytes: operands and results of all kernels, each read or written once; slices where only these are.
    while_loops: trips of every loop; None for one of unknown length, which counts as a single turn.
    largest_window: longest side of a window, of a convolution or another operation that has one.
    collectives: how many of each kind run.
  """

  kernels: int
  kernels_small: int
  gigabytes: float
  while_loops: tuple[int | None, ...]
  largest_window: int
  collectives: dict[str, int]

  @property
  def exact(self) -> bool:
    """Whether every loop's length is known."""
    return None not in self.while_loops


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  """The computations of an HLO text by name, and the name of its entry.

  Raises:
    ValueError: where it has no entry.
  """
  computations: dict[str, list[Instruction]] = {}
  current: list[Instruction] | None = None
  entry = ""
  for line in text.splitlines():
    if head := _HEAD.match(line):
      current = computations[head[2]] = []
      entry = head[2] if head[1] else entry
    elif line.startswith("}"):
      current = None
    elif current is not None and (found := _INSTRUCTION.match(line)):
      end = _closing(found[2]) if found[2].startswith("(") else found[2].index(" ")
      if operation := re.match(r"\s*([\w\-]+)(\(.*)", found[2][end:]):
        current.append(Instruction(found[1], found[2][:end], operation[1], operation[2]))
  if not entry:
    raise ValueError("the text has no entry computation")
  return computations, entry


def cost(text: str) -> Cost:
  """The cost of a compiled program, from `compiled.as_text()`."""
  computations, entry = parse(text)
  counted = [0, 0, 0]
  loops: list[int | None] = []
  collectives: Counter[str] = Counter()
  for instruction, times, shapes in _launches(computations, entry, 1, loops):
    size = _bytes(instruction.result)
    if body := computations.get(instruction.called("calls")):
      moved = _fused_bytes(body)
    else:
      moved = size + sum(_bytes(shapes.get(name, "")) for name in instruction.operands)
    control = instruction.opcode in ("while", "conditional")
    for i, more in enumerate((1, not control and size < SMALL, 0 if control else moved)):
      counted[i] += times * more
    kind = instruction.opcode.removesuffix("-start")
    if kind in COLLECTIVES:
      collectives[kind] += times
  windows = [int(n) for sizes in re.findall(r"window=\{size=([\dx]+)", text) for n in sizes.split("x")]
  return Cost(counted[0], counted[1], counted[2] / 1e9, tuple(loops), max(windows, default=0), dict(collectives))


def _launches(
  computations: dict[str, list[Instruction]], name: str, times: int, loops: list[int | None]
) -> Iterator[tuple[Instruction, int, dict[str, str]]]:
  """Every instruction that launches something, how often it does, and the types of its computation's values."""
  shapes = {instruction.name: instruction.shape for instruction in computations[name]}
  for instruction in computations[name]:
    if instruction.opcode in FREE:
      continue
    if instruction.opcode == "call":
      yield from _launches(computations, instruction.called("to_apply"), times, loops)
      continue
    yield instruction, times, shapes
    if instruction.opcode == "while":
      loops.append(instruction.trips)
      trips = instruction.trips if instruction.trips is not None else 1
      yield from _launches(computations, instruction.called("body"), times * trips, loops)
    elif instruction.opcode == "conditional":
      found: list[tuple[list[int | None], list[tuple[Instruction, int, dict[str, str]]]]] = []
      for branch in instruction.branches:
        own: list[int | None] = []
        found.append((own, list(_launches(computations, branch, times, own))))
      inner, largest = max(found, key=lambda branch: sum(times for _, times, _ in branch[1]))
      loops += inner
      yield from largest


def _fused_bytes(body: list[Instruction]) -> int:
  """What a fusion reads and writes: of what it only slices, the slices; of what it updates in place, the update."""
  by_name = {instruction.name: instruction for instruction in body}
  users: dict[str, list[Instruction]] = {name: [] for name in by_name}
  for instruction in body:
    for name in instruction.operands:
      users[name].append(instruction)

  def using(name: str) -> Iterator[tuple[Instruction, str]]:
    for user in users[name]:
      yield from using(user.name) if user.opcode == "bitcast" else [(user, name)]

  total = 0
  for parameter in (i for i in body if i.opcode == "parameter"):
    found = list(using(parameter.name))
    first = all(user.operands[0] == name for user, name in found)
    opcodes = {user.opcode for user, _ in found}
    if first and opcodes <= {"slice", "dynamic-slice", "gather"}:
      total += min(_bytes(parameter.shape), sum(_bytes(user.shape) for user, _ in found))
    elif not (first and opcodes == {"dynamic-update-slice"}):
      total += _bytes(parameter.shape)
  root = body[-1]
  for written in [by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]:
    while written.opcode == "bitcast":
      written = by_name[written.operands[0]]
    updated = by_name[written.operands[1]] if written.opcode == "dynamic-update-slice" else written
    total += _bytes(updated.shape)
  return total


def _closing(text: str) -> int:
  """Where the parenthesis that a text begins with has been closed."""
  depth = 0
  for i, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if depth == 0:
      return i + 1
  return len(text)


def _bytes(shape: str) -> int:
  sizes = ((BYTES.get(kind, 0), dims) for kind, dims in _SHAPE.findall(shape))
  return sum(size * math.prod(int(n) for n in dims.split(",") if n) for size, dims in sizes)
