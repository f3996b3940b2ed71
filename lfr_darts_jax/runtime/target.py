"""The platform that programs are compiled for: which form of a layer runs is decided by it, and nowhere else."""

from collections.abc import Iterator
import contextlib
import contextvars
from typing import Any

import jax

ANY = "any"
_told: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def platform() -> str:
  """Its name, as JAX has it: "cpu", "gpu" or "tpu"; or `ANY`."""
  return _told.get() or jax.default_backend()


def is_cpu() -> bool:
  """Whether programs are compiled for CPUs, where XLA needs other forms of convolutions, pools and mixed cells."""
  return platform() == "cpu"


def is_any() -> bool:
  """Whether a program is to run on any platform, and to be read by other libraries: in plain operations of XLA's."""
  return platform() == ANY


def host() -> contextlib.AbstractContextManager[Any]:
  """Has what is computed inside, operation by operation, run on the CPU: an accelerator would compile every shape."""
  if is_cpu():
    return contextlib.nullcontext()
  try:
    return jax.default_device(jax.local_devices(backend="cpu")[0])
  except RuntimeError:  # JAX was told to leave the CPU out.
    return contextlib.nullcontext()


@contextlib.contextmanager
def compiling_for(name: str) -> Iterator[None]:
  """Has programs that are traced inside compiled for a platform that this process may not have, or for `ANY`."""
  jax.clear_caches()  # What was traced before was for another one.
  token = _told.set(name)
  try:
    yield
  finally:
    _told.reset(token)
    jax.clear_caches()
