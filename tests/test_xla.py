"""Flags that XLA gets."""

import os
import subprocess
import sys

import pytest

from lfr_darts_jax import xla

OFF = f"{xla.TRITON_GEMM}=false"
OTHER = "--xla_cpu_enable_fast_math=false"


@pytest.mark.parametrize(
  ("plugin", "before", "after"),
  [
    ("xla_cuda13", None, OFF),
    ("xla_cuda13", OTHER, f"{OTHER} {OFF}"),
    ("xla_cuda13", f"{xla.TRITON_GEMM}=true", f"{xla.TRITON_GEMM}=true"),
    ("xla_other", None, "None"),
  ],
)
def test_matrix_products_of_nvidia_gpus_are_cublas_unless_flags_say_otherwise(tmp_path, plugin, before, after):
  package = tmp_path / "jax_plugins" / plugin
  package.mkdir(parents=True)
  (package / "__init__.py").touch()
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  environment |= {"PYTHONPATH": str(tmp_path)} | ({"XLA_FLAGS": before} if before else {})
  code = "import os, lfr_darts_jax; print(os.environ.get('XLA_FLAGS'))"
  found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
  assert found.stdout.strip() == after
