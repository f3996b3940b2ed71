"""The processes of a run on several machines: how they find, and what they tell each other.

All run the same program on the same arguments. Whatever one of them alone could know, a file, a clock or a signal, it
tells the others before they act on it, so that all take the same turns.
"""

from collections.abc import Callable
import json
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np
from orbax.checkpoint import multihost

from lfr_darts_jax.errors import RunError
from lfr_darts_jax.errors import UsageError

# A process that says nothing for so long counts as dead, which ends the others.
HEARTBEAT_SECONDS = 60


def connect(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
  """Joins the processes of a run; called before anything else touches a device.

  Args:
    coordinator: host and port of process 0, None to take it, like the others, from the cluster's environment: a TPU
      pod's, Slurm's, Kubernetes' or Open MPI's.
    count: number of processes.
    index: of this one.

  Raises:
    UsageError: where the environment tells of no cluster.
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


def count() -> int:
  """Number of processes."""
  return jax.process_count()


def primary() -> bool:
  """Whether this is process 0, which alone writes."""
  return jax.process_index() == 0


def agree(read: Callable[[], Any]) -> Any:
  """What process 0 reads, on all of them.

  Args:
    read: called in process 0 alone; returns what JSON can write, lists in place of tuples.

  Raises:
    Exception: what `read` raises, in process 0.
    UsageError, RunError: in the others then.
  """
  if count() == 1:
    return read()
  answer: dict[str, Any] = {}
  failed: Exception | None = None
  if primary():
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
  """The bytes of process 0."""
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.frombuffer(text.ljust(length)[:length], np.uint8)
  return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8))


def largest(value: int) -> int:
  """The largest of all processes' values."""
  return value if count() == 1 else int(np.max(multihost_utils.process_allgather(np.int32(value))))


def meet(name: str) -> None:
  """Waits until all processes are here."""
  if count() > 1:
    multihost_utils.sync_global_devices(name)


def catch_up(name: str, seconds: float = 3600.0) -> None:
  """Waits until all processes are here, through the coordinator alone.

  `meet` and all that computes together give up where one comes much later than another: CPUs' collectives after 30
  seconds, less than compilers differ by where the compilation cache serves process 0 alone.
  """
  if count() > 1:
    multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(1000 * seconds))
