"""The platform that programs are compiled for: which form of a layer runs is decided by it, and nowhere else."""

import jax


def is_cpu() -> bool:
  """Whether programs are compiled for CPUs, where XLA needs other forms of convolutions, pools and mixed cells."""
  return jax.default_backend() == "cpu"
