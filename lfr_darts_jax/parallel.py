"""Devices: the mesh that batches are split over, and what lies where on it.

Every device holds all weights and a share of each batch, and does the same updates; gradients and losses are averaged
over the devices, as are the statistics of batch norms.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.norm import Batching

Tree = Any
AXIS = "data"
WHOLE = PartitionSpec()  # Of what every device has all of.


def along(dimension: int) -> PartitionSpec:
  """Of what is split over the devices along a dimension."""
  return PartitionSpec(*(None,) * dimension, AXIS)


@dataclasses.dataclass(frozen=True)
class Devices:
  """Devices that work on one batch together.

  Attributes:
    members: the devices, of all processes.
  """

  members: tuple[jax.Device, ...]

  @property
  def size(self) -> int:
    """How many there are."""
    return len(self.members)

  @property
  def mesh(self) -> jax.sharding.Mesh:
    """Their mesh, of one axis."""
    return jax.sharding.Mesh(np.array(self.members), (AXIS,))

  def batching(self, group: int | None = None) -> Batching:
    """How a network on these devices sees its batch; see `norm.Batching`."""
    return Batching(AXIS if self.size > 1 else None, group)

  def replicate(self, tree: Tree) -> Tree:
    """Puts arrays, equal in all processes, on every device."""
    everywhere = NamedSharding(self.mesh, WHOLE)

    def put(leaf):
      if everywhere.is_fully_addressable:
        return jax.device_put(leaf, everywhere)
      leaf = np.asarray(leaf)
      return jax.make_array_from_callback(leaf.shape, everywhere, lambda index: leaf[index])

    return jax.tree.map(put, tree)

  def split(self, tree: Tree, dimension: int) -> Tree:
    """Makes arrays that are split over the devices along a dimension out of every process's share of them."""
    sharding = NamedSharding(self.mesh, along(dimension))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)

  def spmd(self, function: Callable[..., Any], *specs: Tree) -> Callable[..., Any]:
    """A function that every device runs on its share; what it returns is equal on all of them.

    Args:
      function: of pytrees; sees the shares.
      *specs: of its arguments, each a pytree, or the beginning of one, of `WHOLE` and `along`.
    """
    if self.size == 1:
      return function
    # What JAX could check, that results are equal on all devices, it can't for primitives of our own.
    return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=WHOLE, check_vma=False)

  def mean(self, tree: Tree) -> Tree:
    """The mean over the devices, inside `spmd`."""
    return tree if self.size == 1 else jax.lax.pmean(tree, AXIS)

  def gather(self, tree: Tree) -> Tree:
    """The shares of all devices, joined along their first dimension, inside `spmd`."""
    return tree if self.size == 1 else jax.lax.all_gather(tree, AXIS, tiled=True)

  def check(self, field: str, batch_size: int, group: int | None) -> None:
    """Checks that a batch can be split evenly.

    Args:
      field: of the config, for the message.
      batch_size: images.
      group: `network.batch_norm_group`.

    Raises:
      UsageError: where it can't.
    """
    if batch_size % self.size:
      raise UsageError(f"config.{field}: {batch_size}; allowed are multiples of {self.size}, the number of devices")
    share = batch_size // self.size
    if group is not None and share % group and group % share:
      raise UsageError(
        f"config.network.batch_norm_group: {group}; allowed are divisors and multiples of {share}, the images of "
        f"config.{field} on each of {self.size} devices"
      )


def everything() -> Devices:
  """All devices of all processes."""
  return Devices(tuple(jax.devices()))


def first() -> Devices:
  """The first device of this process alone."""
  return Devices((jax.local_devices()[0],))
