"""The platform that programs are compiled for: which form of a layer runs is decided by it, and nowhere else."""

from collections.abc import Iterator
import contextlib
import contextvars

import jax

_told: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def platform() -> str:
  """Its name, as JAX has it: "cpu", "gpu" or "tpu"."""
  return _told.get() or jax.default_backend()


def is_cpu() -> bool:
  """Whether programs are compiled for CPUs, where XLA needs other forms of convolutions, pools and mixed cells."""
  return platform() == "cpu"


@contextlib.contextmanager
def compiling_for(name: str) -> Iterator[None]:
  """Has programs that are traced inside compiled for a platform that this process may not have."""
  jax.clear_caches()  # What was traced before was for another one.
  token = _told.set(name)
  try:
    yield
  finally:
    _told.reset(token)
    jax.clear_caches()
