"""A cell as a set of candidates: per edge, the operations still to be chosen from.

Full sets are the search space of DARTS; one operation on each kept edge is a derived cell. Pruning shrinks the sets.
A layer of a chain, as the space "mobile" has them, is a cell of one edge.
Cells that others derived may compute several operations on one edge.
"""

from collections.abc import Sequence
import dataclasses
import re
from typing import Any

import numpy as np

from lfr_darts_jax.errors import UsageError, short

NORMAL, REDUCTION, LAYER = "normal", "reduction", "layer"
MAX_NODES = 16  # As `search.nodes` allows: a picture of a full cell with more has too many pixels to be drawn.


class GenotypeError(UsageError):
  """A genotype that can't be read or laid out."""


def edges(nodes: int) -> list[tuple[int, int]]:
  """(source, target) states of a cell's edges, by target then source; states 0 and 1 are the cell's inputs."""
  return [(source, target) for target in range(2, nodes + 2) for source in range(target)]


@dataclasses.dataclass(frozen=True)
class CellSpec:
  """A cell's candidates.

  Attributes:
    name: its name in layouts, such as "n0".
    kind: "normal", "reduction", or "layer" of a chain.
    candidates: for every edge, in the order of `edges`, the operations left; a layer has one edge.
    concat: the states whose features are the cell's output; none of a layer.
    parallel: whether the operations of an edge are no choices but all computed, as NASNet's and AmoebaNet's cells have
      two between the same states; then one may stand there twice.

  Raises:
    GenotypeError: where the name is not one of 1 to 32 letters, digits and underscores.
  """

  name: str
  kind: str
  candidates: tuple[tuple[str, ...], ...]
  concat: tuple[int, ...]
  parallel: bool = False

  def __post_init__(self) -> None:
    """Checks the name."""
    check_name(self.name)

  @classmethod
  def full(cls, name: str, kind: str, nodes: int, operations: Sequence[str], window: int | None = None) -> "CellSpec":
    """The whole search space.

    Args:
      name, kind: see the class.
      nodes: intermediate nodes.
      operations: candidates of every edge.
      window: how many states before it a node may read; None for all.
    """
    near = lambda source, target: window is None or target - source <= window
    candidates = tuple(tuple(operations) if near(*edge) else () for edge in edges(nodes))
    return cls(name, kind, candidates, tuple(range(2, nodes + 2)))

  @classmethod
  def layer(cls, name: str, operations: Sequence[str]) -> "CellSpec":
    """A layer of a chain with these candidates."""
    return cls(name, LAYER, (tuple(operations),), ())

  @property
  def edges(self) -> list[tuple[int, int]]:
    """(source, target) states of its edges, see `edges`; a layer's leads from its input to its output."""
    return [(0, 1)] if self.kind == LAYER else edges(self.nodes)

  @property
  def nodes(self) -> int:
    """Number of intermediate nodes."""
    return next(n for n in range(1, MAX_NODES + 1) if len(edges(n)) >= len(self.candidates))

  def stride(self, source: int) -> int:
    """Of the edges out of a state: 2 out of the inputs of a reduction cell, else 1."""
    return 2 if self.kind == REDUCTION and source < 2 else 1

  @property
  def connections(self) -> list[tuple[int, int, tuple[str, ...]]]:
    """(source, target, candidates) of the edges that have any; of a parallel cell one for every operation."""
    own = zip(self.edges, self.candidates, strict=False)
    if self.parallel:
      return [(*edge, (name,)) for edge, names in own for name in names]
    return [(*edge, left) for edge, left in own if left]

  @property
  def derived(self) -> bool:
    """Whether there is nothing left to choose: every edge has at most one candidate, or they are parallel."""
    return self.parallel or all(len(left) <= 1 for left in self.candidates)

  def mask(self, operations: Sequence[str]) -> np.ndarray:
    """`[edges, len(operations)]` bool: which operations are candidates of each edge."""
    return np.array([[name in left for name in operations] for left in self.candidates])

  def count(self, operation: str) -> int:
    """How many connections have the operation among their candidates."""
    return sum(operation in left for _, _, left in self.connections)

  def __str__(self) -> str:
    """On one line, node by node; the concatenated states where these are not all nodes in order."""
    if self.kind == LAYER:
      return f"{self.name}: {' | '.join(self.candidates[0])}"
    node = lambda t: " + ".join(f"{'|'.join(ops)}({s})" for s, target, ops in self.connections if target == t)
    targets = range(2, self.nodes + 2)
    concat = "" if self.concat == tuple(targets) else f"; concat {', '.join(map(str, self.concat))}"
    return f"{self.name} {self.kind}: " + ", ".join(f"{t} = {node(t)}" for t in targets) + concat


def check_name(name: Any) -> str:
  """Checks the name of a cell, which names files and stands on pages.

  Raises:
    GenotypeError: where it is not one of 1 to 32 letters, digits and underscores.
  """
  if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,32}", name):
    raise GenotypeError(f"cells.name: {short(name)}; allowed are 1 to 32 letters, digits and underscores")
  return name
