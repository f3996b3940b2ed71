"""What XLA must be told before it starts."""

import importlib.util
import os
import pkgutil

TRITON_GEMM = "--xla_gpu_enable_triton_gemm"


def set_flags() -> None:
  """Turns XLA's own matrix products on NVIDIA GPUs off, so that cuBLAS makes them, unless `XLA_FLAGS` speaks of them.

  Compiling the training with them ended the process, on an H200 with jax 0.11.2: "triton_tiling_propagation.cc: Check
  failed: subdim_size_accumulator == dim_size" (https://github.com/openxla/xla/issues/47381). Nothing is set where JAX
  has no plugin for these GPUs, since XLA refuses flags that it does not know.
  """
  plugins = importlib.util.find_spec("jax_plugins")
  found = pkgutil.iter_modules(plugins.submodule_search_locations) if plugins else ()
  flags = os.environ.get("XLA_FLAGS", "")
  if TRITON_GEMM not in flags and any(module.name.startswith("xla_cuda") for module in found):
    os.environ["XLA_FLAGS"] = f"{flags} {TRITON_GEMM}=false".lstrip()
