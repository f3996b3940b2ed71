"""Runs whose disk fills, or turns read-only, under them."""

import json
import subprocess
import time

import pytest

from lfr_darts_jax.runtime import checkpoint
from tests.test_main import ROOT, TINY, call, command

pytestmark = pytest.mark.slow
ARGUMENTS = [*TINY, "--config.search.epochs=10", "--config.checkpoint.interval=0", "--config.checkpoint.keep=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  done = call(f"--workdir={workdir}", *ARGUMENTS)
  assert done.returncode == 0, done.stderr
  return workdir


def steps(folder):
  return [path for path in folder.glob("*") if path.name.isdecimal()]


def start(workdir, phase):
  """Starts a run, and waits until the phase has a checkpoint."""
  process = subprocess.Popen(
    command(f"--workdir={workdir}", *ARGUMENTS), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  while not steps(workdir / phase) and process.poll() is None:
    time.sleep(0.01)
  return process


def ends_like(workdir, whole):
  done = call(f"--workdir={workdir}", *ARGUMENTS)
  assert done.returncode == 0, done.stderr
  for name in ("genotype.json", "metrics.jsonl"):
    assert (workdir / name).read_bytes() == (whole / name).read_bytes()
  errors = [json.loads((place / "result.json").read_text())["test_error"] for place in (workdir, whole)]
  return errors[0] == errors[1] and not list(workdir.rglob("*partial*"))


@pytest.mark.parametrize("phase", ["search", "checkpoints"])
def test_full(whole, small_disk, phase):
  workdir = small_disk.path / "run"
  process = start(workdir, phase)
  while process.poll() is None:
    # Space comes back while the run deletes an older checkpoint.
    small_disk.fill()
  _, errors = process.communicate()
  assert process.returncode == 1
  assert errors.startswith(f"lfr-darts: {workdir}/") and errors.count("\n") == 1
  assert "no space left on device; the same command continues once there is space" in errors
  newest = max(steps(workdir / phase), key=lambda path: int(path.name))
  assert checkpoint.fault(newest) is None
  small_disk.free()
  assert ends_like(workdir, whole)


def test_read_only(whole, small_disk):
  workdir = small_disk.path / "run"
  process = start(workdir, "search")
  # A file system with files open for writing can't be remounted, but the way to it can.
  subprocess.run(["mount", "--bind", workdir, workdir], check=True)
  subprocess.run(["mount", "-o", "remount,ro,bind", workdir], check=True)
  _, errors = process.communicate()
  assert process.returncode == 1
  assert errors.startswith(f"lfr-darts: {workdir}/") and errors.count("\n") == 1
  assert "read-only file system; the same command continues once it can be written" in errors
  subprocess.run(["umount", workdir], check=True)
  assert ends_like(workdir, whole)
