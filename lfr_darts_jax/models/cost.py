"""Parameters and multiply-adds of a network and of its candidates, from shapes alone: nothing is computed."""

from collections.abc import Iterator, Sequence
import contextlib
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.models.edge_stacks import edge_name
from lfr_darts_jax.models.layers.binary import BinaryConv
from lfr_darts_jax.models.layers.depthwise import DepthwiseConv
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.spaces import AnyNetwork
from lfr_darts_jax.search_space.cell_spec import LAYER, CellSpec

_COUNTED = (nn.Conv, nn.Dense, DepthwiseConv)
Path = tuple[str, ...]


def parameters(params: Any) -> int:
  """Number of scalars in a tree of arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def describe(network: AnyNetwork, image_shape: tuple[int, int, int]) -> dict[str, int]:
  """Cost of a network; mixed cells count with all their candidates.

  Args:
    network: the network; its auxiliary head serves training alone.
    image_shape: height, width and channels.

  Returns:
    `parameters` without the auxiliary head and `parameters_with_auxiliary`; `multiply_adds` of convolutions and dense
    layers for one image at test time, and apart from them `binary_multiply_adds`, of signs by signs.
  """
  variables, counts, binary = _count(network, image_shape)
  params = dict(variables["params"])
  with_auxiliary = parameters(params)
  params.pop("auxiliary", None)
  return {
    "parameters": parameters(params),
    "parameters_with_auxiliary": with_auxiliary,
    "multiply_adds": sum(counts.values()),
    "binary_multiply_adds": sum(binary.values()),
  }


def candidates(
  network: AnyNetwork, image_shape: tuple[int, int, int], unit: str = "multiply_adds"
) -> dict[str, np.ndarray]:
  """Cost of every candidate of the mixed cells of a network.

  Args:
    network: a supernet, or a final network of cells that are not derived.
    image_shape: height, width and channels.
    unit: "multiply_adds" for one image, or "parameters".

  Returns:
    By cell `[edges, operations]`, summed over the cell's layers; zero for what costs nothing and for what is no
    candidate.
  """
  variables, counts, _ = _count(network, image_shape)
  if unit == "parameters":
    counts = _sizes(network, variables["params"])
  costs = {name: np.zeros(mixture.shape, int) for name, mixture in _uniform(network).items()}
  cells = {cell.name: cell for cell in network.cells if cell.name in costs}
  layers = {f"layer_{i}": cells[name] for i, name in enumerate(network.layout) if name in cells}
  for (layer, *rest), count in counts.items():
    if layer in layers and (place := _place(layers[layer], rest)):
      row, operation = place
      costs[layers[layer].name][row, network.operations.index(operation)] += count
  return costs


def by_part(network: AnyNetwork, image_shape: tuple[int, int, int]) -> dict[str, dict[str, int]]:
  """Where a network's cost lies: by unit, and by part from image to classifier, its auxiliary head left out.

  Args:
    network: the network.
    image_shape: height, width and channels.

  Returns:
    "multiply_adds" and "parameters" of "stem", every layer, such as "layer_0", and "head".
  """
  variables, counts, _ = _count(network, image_shape)
  layers = [f"layer_{i}" for i in range(len(network.layout))]
  found = {}
  for unit, by_path in (("multiply_adds", counts), ("parameters", _sizes(network, variables["params"]))):
    parts = dict.fromkeys(("stem", *layers, "head"), 0)
    for (first, *_), count in by_path.items():
      if first != "auxiliary":
        parts[first if first in layers else "stem" if first.startswith("stem") else "head"] += count
    found[unit] = parts
  return found


def _place(cell: CellSpec, path: Sequence[str]) -> tuple[int, str] | None:
  """Which edge and operation a module of a cell's layer belongs to, None where to none."""
  if cell.kind == LAYER:
    return 0, path[0]
  rows = {edge_name(*edge): row for row, edge in enumerate(cell.edges)}
  return (rows[path[0]], path[1]) if path[0] in rows else None


def _sizes(network: AnyNetwork, params: Any) -> dict[Path, int]:
  """Scalars of the parameters by path of the operation, each edge by itself."""
  unstack = lambda cell, layer: dict(layer) if cell.kind == LAYER else edge_stacks.unstack(cell, layer)
  # Shapes alone have no rows to be taken.
  whole = jax.eval_shape(lambda tree: edge_stacks.of_network(unstack, network.layout, network.cells, tree), params)
  sizes: dict[Path, int] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(whole):
    names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
    sizes[names] = sizes.get(names, 0) + math.prod(leaf.shape)
  return sizes


def _uniform(network: AnyNetwork) -> dict[str, jax.Array]:
  """Mixtures of the cells that are not derived."""
  mixed = [cell for cell in network.cells if not cell.derived]
  return {cell.name: jnp.ones((len(cell.candidates), len(network.operations))) for cell in mixed}


@functools.lru_cache(maxsize=8)
def _count(network: AnyNetwork, image_shape: tuple[int, int, int]) -> tuple[Any, dict[Path, int], dict[Path, int]]:
  """Shapes of the variables, and multiply-adds by path of the module: real ones and binary ones.

  To trace a network takes seconds, and its costs are asked for by unit, by candidate and by part: nobody may change
  what is kept.
  """
  images, mixtures = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32), _uniform(network)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, mixtures), images)
  # Written out, since a loop over edges would be counted once.
  network = network.clone(edges="unroll") if isinstance(network, Network) else network
  counts: dict[Path, int] = {}
  binary: dict[Path, int] = {}
  with _counting(_COUNTED, counts), _counting((BinaryConv,), binary):
    jax.eval_shape(lambda v, x: network.apply(v, x, mixtures), variables, images)
  return variables, counts, binary


@contextlib.contextmanager
def _counting(kinds: tuple[type, ...], counts: dict[Path, int]) -> Iterator[None]:
  def count(next_method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    y = next_method(*args, **kwargs)
    if isinstance(context.module, kinds) and context.method_name == "__call__":
      kernel: Any = context.module.get_variable("params", "kernel")
      path = context.module.path
      counts[path] = counts.get(path, 0) + math.prod(y.shape[:-1]) * math.prod(kernel.shape)
    return y

  with nn.intercept_methods(count):
    yield
