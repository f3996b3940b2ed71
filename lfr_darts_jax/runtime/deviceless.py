"""Compiles for GPUs and TPUs on a machine that has none, so that a program's cost is known before a device is paid for.

XLA needs a description of the device alone: for GPUs a text in the form of its GpuTargetConfigProto, for TPUs a name
that libtpu knows. Kernels are not timed, so that choices which XLA makes by timing are its defaults.
"""

import dataclasses
import importlib.util
import os
from typing import Any

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import jax_setup

# What JAX must find in its environment when it starts.
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
  "CUDA_VISIBLE_DEVICES": "-1",
  "TPU_SKIP_MDS_QUERY": "1",
}
AUTOTUNE = "--xla_gpu_autotune_level=0"  # There is nothing to time on.


@dataclasses.dataclass(frozen=True)
class Device:
  """A device as its data sheet has it.

  Attributes:
    platform: "gpu" or "tpu".
    name: as the vendor, or for TPUs libtpu, has it.
    bandwidth: of its memory, bytes per second.
    memory: bytes.
    capability: CUDA's compute capability.
    cores: streaming multiprocessors.
    clock: GHz.
    cache: second level, bytes.
    shared: memory of a streaming multiprocessor that blocks share, bytes.
  """

  platform: str
  name: str
  bandwidth: float
  memory: int
  capability: tuple[int, int] = (0, 0)
  cores: int = 0
  clock: float = 0.0
  cache: int = 0
  shared: int = 0


DEVICES = {
  "h100": Device("gpu", "NVIDIA H100 80GB HBM3", 3.352e12, 84942979072, (9, 0), 132, 1.98, 52428800, 233472),
  "h200": Device("gpu", "NVIDIA H200", 4.8e12, 151397597184, (9, 0), 132, 1.98, 62914560, 233472),
  "a100": Device("gpu", "NVIDIA A100-SXM4-80GB", 2.039e12, 85031714816, (8, 0), 108, 1.41, 41943040, 167936),
  "v5e": Device("tpu", "v5e", 8.19e11, 17179869184),
  "v6e": Device("tpu", "v6e", 1.64e12, 34359738368),
}
HERE = ("here", "cpu")  # What needs no such description: the device that JAX finds, and the CPU whatever else there is.
# The slices of TPUs that libtpu describes, by their number of chips; the smallest has four.
SLICES = {4: "2x2", 8: "2x4", 16: "4x4"}


def check(device: str) -> None:
  """Checks that programs can be compiled for a device here.

  Raises:
    UsageError: where it is unknown, or the packages of its extra are missing.
  """
  if device not in DEVICES:
    raise UsageError(f"device: {device}; allowed are {', '.join((*DEVICES, *HERE))}")
  platform = DEVICES[device].platform
  needed = {"gpu": "jax_plugins.xla_cuda13", "tpu": "libtpu"}[platform]
  try:
    found = importlib.util.find_spec(needed)
  except ModuleNotFoundError:
    found = None
  if found is None:
    raise UsageError(
      f"device: {device} needs {needed}, which is missing; pip install 'lfr-darts-jax[deviceless-{platform}]'"
    )


def set_environment() -> None:
  """Tells JAX, which must not have started, that it compiles for devices that are not here."""
  os.environ.update(ENVIRONMENT)
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {AUTOTUNE}".lstrip()
  jax_setup.set_flags()


def devices(device: str, count: int = 1) -> tuple[Any, ...]:
  """So many of a device, for which functions can be lowered and compiled.

  Raises:
    UsageError: see `check`, and where so many can't be described.
  """
  check(device)
  from jax.experimental import topologies

  made = DEVICES[device]
  if made.platform == "gpu":
    found = topologies.get_topology_desc(made.name, "cuda", target_config=gpu_target(made), topology=f"1x1x{count}")
  else:
    slices = [shape for chips, shape in SLICES.items() if chips >= count]
    if not slices:
      raise UsageError(f"devices: {count}; allowed are 1 to {max(SLICES)} of {device}")
    found = topologies.get_topology_desc(platform="tpu", topology_name=f"{made.name}:{slices[0]}")
  return tuple(found.devices[:count])


def gpu_target(device: Device) -> str:
  """The text of XLA's GpuTargetConfigProto for a GPU."""
  major, minor = device.capability
  hopper = major == 9
  # By XLA's numbers of types: operations a core issues per clock, of its scalar units and of its matrix units.
  scalar = {4: 64, 8: 64, 10: 256 if hopper else 64, 11: 128, 12: 64 if hopper else 32, 16: 256 if hopper else 64}
  matrix = {
    10: 2048 if hopper else 1024,
    16: 2048 if hopper else 1024,
    11: 1024 if hopper else 512,
    12: 128 if hopper else 64,
  }
  rate = lambda key, units: (
    f"rate_infos {{ key: {key} value {{ clock_rate_ghz: {device.clock} units_per_core: {units} ops_per_clock: 1 }} }}"
  )
  feature = " feature_extension: ACCELERATED_FEATURES" if hopper else ""
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {device.shared}
  shared_memory_per_block_optin: {device.shared - 1024}
  threads_per_core_limit: 2048
  core_count: {device.cores}
  fpus_per_core: {128 if hopper else 64}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  memory_bandwidth: {int(device.bandwidth)}
  l2_cache_size: {device.cache}
  clock_rate_ghz: {device.clock}
  device_memory_size: {device.memory}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: {minor}{feature} }}
  scalar_unit_description {{ {" ".join(rate(*pair) for pair in scalar.items())} }}
  matrix_unit_description {{ {" ".join(rate(*pair) for pair in matrix.items())} }}
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability {major}.{minor}{"a" if hopper else ""}"
  device_address_bits: 64
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  name: "{device.name}"
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.12.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
device_description_str: "{device.name}"
"""
