"""Programs for GPUs and TPUs, compiled on a machine without one."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import deviceless

ROOT = pathlib.Path(__file__).parents[1]
SMALL = ("--channels=4", "--layers=5", "--nodes=2", "--batch=12", "--image-size=16", "--json")


def measure(*flags):
  command = [sys.executable, "benchmarks/deviceless.py", *SMALL, *flags]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def skip_without(device):
  """Skips a test where programs can't be compiled for a device."""
  try:
    deviceless.check(device)
  except UsageError:
    pytest.skip("the extra is not installed")


def test_an_unknown_device_and_a_missing_extra_are_one_line(monkeypatch):
  with pytest.raises(UsageError, match="device: z80; allowed are h100"):
    deviceless.check("z80")
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  for device, extra in (("h100", "gpu"), ("v5e", "tpu")):
    with pytest.raises(UsageError, match=re.escape(f"pip install 'lfr-darts-jax[deviceless-{extra}]'")):
      deviceless.devices(device)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["h100", "v5e"])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_step_has_no_loop_and_no_large_window(device, stage):
  """Of a mixed normal cell, and of a reduction cell behind derived ones."""
  skip_without(device)
  done = measure(f"--device={device}", f"--stage={stage}")
  assert done.returncode == 0, done.stderr[-2000:]
  result = json.loads(done.stdout)
  # Loops over the images of a batch, or windows of the size of an image, once took most of the time.
  assert result["valid"] and not result["while_loops"]
  assert device != "h100" or 3 <= result["largest_window"] <= 9
  assert result["kernels"] > 100 and result["memory_bytes"] > 2**20


@pytest.mark.slow
def test_eight_devices_take_few_collectives():
  skip_without("h100")
  done = measure("--device=h100", "--stage=0", "--batch=16", "--devices=8")
  assert done.returncode == 0, done.stderr[-2000:]
  result = json.loads(done.stdout)
  # Two of each departure of a mixed cell, two of each batch norm around them and behind, one of the gradients.
  assert 0 < sum(result["collectives"].values()) < 60
