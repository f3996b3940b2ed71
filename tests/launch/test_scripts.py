"""Every script of launch/, read by the tools that read shell scripts."""

import pathlib
import shutil
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.read_bytes().startswith(b"#!/usr/bin/env bash\n"))


def test_they_are_all_found():
  assert {path.name for path in SCRIPTS} == {"gpu.sh", "slurm.sbatch", "tpu_vm.sh", "tpu_worker.sh"}
  assert all(path.stat().st_mode & 0o100 for path in SCRIPTS if path.suffix == ".sh")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(path):
  subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path):
  done = subprocess.run(["shellcheck", path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
