"""Devices and hosts: the mesh that a batch is split over, and how the processes of a run agree.

Every device holds all parameters and a share of each batch, and takes the same steps; gradients, losses and the
statistics of batch norms are averaged over the devices. All processes run the same program on the same arguments. What
one of them alone could know, a file, a clock or a signal, it tells the others before they act on it.
"""

from collections.abc import Callable
import dataclasses
import json
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
from orbax.checkpoint import multihost

from lfr_darts_jax.errors import RunError, UsageError

Tree = Any
AXIS = "data"
REPLICATED = PartitionSpec()
# A process that is silent for so long counts as dead, which ends the others.
HEARTBEAT_SECONDS = 60


def sharded(dimension: int) -> PartitionSpec:
  """The spec of arrays that are split over the devices along a dimension."""
  return PartitionSpec(*(None,) * dimension, AXIS)


class BatchSharding(NamedTuple):
  """How a batch is split over devices, and grouped for batch norm.

  Attributes:
    axis: the mesh axis that the batch is split over; None where one device has all of it.
    group: images that share batch norm statistics; None for the whole batch. It is a multiple or a divisor of the
      images on one device.
  """

  axis: str | None = None
  group: int | None = None

  @property
  def shards(self) -> int:
    """Devices that the batch is split over."""
    return 1 if self.axis is None else lax.axis_size(self.axis)

  def local_shard(self, values: jax.Array) -> jax.Array:
    """This device's share of values for the whole batch, `[batch, ...]` to `[batch / shards, ...]`."""
    if self.axis is None:
      return values
    count = values.shape[0] // self.shards
    return lax.dynamic_slice_in_dim(values, lax.axis_index(self.axis) * count, count)


WHOLE_BATCH = BatchSharding()


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

  def sharding(self, group: int | None = None) -> BatchSharding:
    """How a network on these devices sees its batch; `group` as of `BatchSharding`."""
    return BatchSharding(AXIS if self.size > 1 else None, group)

  def replicate(self, tree: Tree) -> Tree:
    """Puts arrays, equal in all processes, on every device."""
    everywhere = NamedSharding(self.mesh, REPLICATED)

    def put(leaf: Any) -> jax.Array:
      if everywhere.is_fully_addressable:
        return jax.device_put(leaf, everywhere)
      leaf = np.asarray(leaf)
      return jax.make_array_from_callback(leaf.shape, everywhere, lambda index: leaf[index])

    return jax.tree.map(put, tree)

  def split(self, tree: Tree, dimension: int) -> Tree:
    """Makes arrays that are split along a dimension from each process's share of them."""
    sharding = NamedSharding(self.mesh, sharded(dimension))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)

  def shard_map(self, function: Callable[..., Any], *specs: Tree) -> Callable[..., Any]:
    """A function that every device runs on its share, with a result that is equal on all of them.

    Args:
      function: of pytrees; sees the shares.
      *specs: of its arguments, each a pytree, or a prefix of one, of `REPLICATED` and `sharded`.
    """
    if self.size == 1:
      return function
    # JAX can't check that results are replicated behind primitives of our own.
    return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False)

  def mean(self, tree: Tree) -> Tree:
    """The mean over the devices, inside `shard_map`."""
    return tree if self.size == 1 else lax.pmean(tree, AXIS)

  def gather(self, tree: Tree) -> Tree:
    """The shares of all devices, joined along their first dimension, inside `shard_map`."""
    return tree if self.size == 1 else lax.all_gather(tree, AXIS, tiled=True)

  def check(self, field: str, batch_size: int, group: int | None) -> None:
    """Checks that a batch can be split evenly.

    Args:
      field: the config field, for the message.
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


def all_devices() -> Devices:
  """All devices of all processes."""
  return Devices(tuple(jax.devices()))


def first_device() -> Devices:
  """The first device of this process alone."""
  return Devices((jax.local_devices()[0],))


def connect(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
  """Joins the processes of a run; must be called before anything touches a device.

  Args:
    coordinator: host and port of process 0; None to take it, like the others, from the cluster's environment: a TPU
      pod's, Slurm's, Kubernetes' or Open MPI's.
    count: number of processes.
    index: of this one.

  Raises:
    UsageError: where the environment names no cluster.
    RunError: where the others can't be reached.
  """
  try:
    jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
  except ValueError as error:
    raise UsageError(
      f"distributed: no cluster is found in the environment ({error}); allowed is a TPU pod, Slurm, Kubernetes or Open "
      "MPI, or --coordinator, --num_processes and --process_id"
    ) from None
  except jax.errors.JaxRuntimeError as error:
    raise RunError(f"the other processes can't be reached: {error}") from error


def connected() -> bool:
  """Whether `connect` has been called; touches no device."""
  return jax.distributed.is_initialized()


def process_count() -> int:
  """Number of processes."""
  return jax.process_count()


def is_primary() -> bool:
  """Whether this is process 0, which alone writes."""
  return jax.process_index() == 0


def broadcast_from_primary(read: Callable[[], Any]) -> Any:
  """What process 0 reads, on all processes.

  Args:
    read: called in process 0 alone; returns what JSON can write, lists in place of tuples.

  Raises:
    Exception: what `read` raises, in process 0.
    UsageError, RunError: in the others then.
  """
  if process_count() == 1:
    return read()
  answer: dict[str, Any] = {}
  failed: Exception | None = None
  if is_primary():
    try:
      answer["value"] = read()
    except Exception as error:
      failed = error
      answer = {"refused": str(error)} if isinstance(error, UsageError) else {"failed": f"process 0: {error}"}
  answer = json.loads(_broadcast(json.dumps(answer).encode()))
  if failed is not None:
    raise failed
  if "refused" in answer:
    raise UsageError(answer["refused"])
  if "failed" in answer:
    raise RunError(answer["failed"])
  return answer["value"]


def _broadcast(text: bytes) -> bytes:
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.frombuffer(text.ljust(length)[:length], np.uint8)
  return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8))


def host_max(value: int) -> int:
  """The largest of all processes' values."""
  return value if process_count() == 1 else int(np.max(multihost_utils.process_allgather(np.int32(value))))


def barrier(name: str) -> None:
  """Waits until all processes are here."""
  if process_count() > 1:
    multihost_utils.sync_global_devices(name)


def slow_barrier(name: str, seconds: float = 3600.0) -> None:
  """Waits until all processes are here, through the coordinator alone.

  `barrier` and all collectives give up where one process comes much later than another: those of CPUs after 30
  seconds, less than compile times differ where process 0 alone has the compilation cache.
  """
  if process_count() > 1:
    multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(1000 * seconds))
