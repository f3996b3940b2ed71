"""Which connections are weak: alphas to surviving candidates."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from lfr_darts_jax import genotype
from lfr_darts_jax.genotype import Cell

INPUTS_PER_NODE = 2  # DARTS derives two edges into every node.


def strengths(rule: str, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """How strong every candidate is, `[edges, operations]`.

  Args:
    rule: `prune.rule`: "softmax" takes the mixture weights, "random" draws.
    weights: `[edges, operations]` mixture weights.
    rng: for the rule that draws.
  """
  return rng.random(weights.shape) if rule == "random" else np.asarray(weights)


def prune_operations(cell: Cell, strength: np.ndarray, operations: Sequence[str], keep: int) -> Cell:
  """Keeps the strongest operations of every edge.

  Args:
    cell: the cell.
    strength: `[edges, operations]`.
    operations: names of the columns.
    keep: how many to keep, at least 2 (one would leave `none` alone on an edge: `derive` instead).

  Returns:
    The cell with at most `keep` operations per edge, in the order of the columns.
  """
  candidates = []
  for alive, row in zip(cell.candidates, strength, strict=True):
    # Ties go to the earlier column, so that the result does not depend on the platform's sort.
    ranked = sorted(alive, key=lambda name: (-row[operations.index(name)], operations.index(name)))[:keep]
    candidates.append(tuple(name for name in operations if name in ranked))
  return dataclasses.replace(cell, candidates=tuple(candidates))


def derive(cell: Cell, strength: np.ndarray, operations: Sequence[str], max_skip_connects: int | None = None) -> Cell:
  """Derives the discrete cell: the strongest operation on the two strongest edges into every node (DARTS, section 2.4).

  `none` is never chosen, and an edge's strength is that of its strongest other operation.

  Args:
    cell: the cell.
    strength: `[edges, operations]`.
    operations: names of the columns.
    max_skip_connects: cap of `skip_connect`s; while there are more, the weakest is struck off its edge's candidates
      and the cell derived anew (P-DARTS, section 3.3).

  Returns:
    The derived cell; a node has fewer than two edges only where it has fewer candidates.
  """
  edges = genotype.edges(cell.nodes)
  alive = [[name for name in ops if name != "none"] for ops in cell.candidates]
  value = lambda edge, name: strength[edge][operations.index(name)]
  while True:
    best = [max(ops, key=lambda name: value(e, name)) if ops else None for e, ops in enumerate(alive)]
    chosen: set[int] = set()
    for target in range(2, cell.nodes + 2):
      into = [e for e, (_, t) in enumerate(edges) if t == target and best[e]]
      chosen |= set(sorted(into, key=lambda e: (-value(e, best[e]), e))[:INPUTS_PER_NODE])
    skips = [e for e in chosen if best[e] == "skip_connect" and len(alive[e]) > 1]
    total = sum(best[e] == "skip_connect" for e in chosen)
    if max_skip_connects is None or total <= max_skip_connects or not skips:
      kept = [(name,) if e in chosen and name else () for e, name in enumerate(best)]
      return dataclasses.replace(cell, candidates=tuple(kept))
    alive[min(skips, key=lambda e: value(e, "skip_connect"))].remove("skip_connect")
