"""What the next iteration's deeper supernet inherits from the one before."""

from typing import Any

import jax
import optax

from lfr_darts_jax import transplant

Tree = Any


def origins(old: tuple[str, ...], new: tuple[str, ...]) -> dict[int, tuple[int, bool]]:
  """Where the layers of a deeper network come from.

  Args:
    old: the layout before.
    new: the deeper layout.

  Returns:
    For every layer of `new` whose cell `old` has: the layer of `old` that it starts from, and whether it is that layer
    itself. The others are further copies, which start from the nearest one.
  """
  found = {}
  for i, name in enumerate(new):
    copies = [j for j, other in enumerate(old) if other == name]
    rank = new[:i].count(name)
    if copies:
      found[i] = (copies[min(rank, len(copies) - 1)], rank < len(copies))
  return found


def inherit(fresh: Tree, before: Tree, old: tuple[str, ...], new: tuple[str, ...], copies: bool = True) -> Tree:
  """Fills a deeper network's variables from the network before: stem and layers that both have.

  A preprocessing whose input differs stays fresh as a whole. The searched cell and the heads stay fresh.

  Args:
    fresh: initial parameters or batch statistics of the deeper network.
    before: those of the network before, with the cells that it derived.
    old: its layout.
    new: the deeper layout.
    copies: whether further copies of a layer are filled too.
  """
  layers = {f"layer_{i}": f"layer_{j}" for i, (j, same) in origins(old, new).items() if same or copies}
  result = dict(fresh)
  for name in fresh:
    if name in ("stem", "stem_norm"):
      result[name] = transplant.graft(fresh[name], before[name])
    elif name in layers:
      source = before[layers[name]]
      result[name] = {
        part: transplant.graft(subtree, source[part]) if _alike(subtree, source.get(part)) else subtree
        for part, subtree in fresh[name].items()
      }
  return result


def inherit_momentum(fresh: Tree, before: Tree, old: tuple[str, ...], new: tuple[str, ...]) -> Tree:
  """Fills a deeper network's optimizer state: the momentum of layers that stay; copies and fresh layers start at zero.

  The schedules' counts start afresh too: schedules restart at each iteration.
  """
  trace = inherit(optax.tree.get(fresh, "trace"), optax.tree.get(before, "trace"), old, new, copies=False)
  return optax.tree.set(fresh, trace=trace)


def _alike(a, b):
  if b is None or jax.tree.structure(a) != jax.tree.structure(b):
    return False
  return all(x.shape == y.shape for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
