import os
import pathlib
import subprocess
import sys

import pytest

from lfr_darts_jax import processes
from lfr_darts_jax.errors import UsageError

ROOT = pathlib.Path(__file__).parents[1]
DEVICES = 4
TINY = (
  "--config.search.epochs=1",
  "--config.search.batch_size=16",
  "--config.search.channels=4",
  "--config.search.nodes=1",
  "--config.search.operations=('none','skip_connect','max_pool_3x3','sep_conv_3x3')",
  "--config.search.updates_per_dispatch=4",
  "--config.data.search_fraction=0.1",
  "--config.network.channels=4",
  "--config.train.epochs=1",
  "--config.train.batch_size=16",
  "--config.train.updates_per_dispatch=10",
  "--config.checkpoint.interval=0",
)


def start(workdir, *arguments, devices=DEVICES, flags=TINY):
  """A process of the real program on so many simulated devices."""
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "cache"),
  }
  command = [sys.executable, "-m", "lfr_darts_jax.main", f"--workdir={workdir}", *flags, *arguments]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
  return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    (["--coordinator=localhost:1234"], "coordinator: not given with num_processes and process_id; allowed are"),
    (
      ["--coordinator=localhost", "--num_processes=2", "--process_id=0"],
      "coordinator: localhost; allowed is HOST:PORT",
    ),
    (["--coordinator=a:1", "--num_processes=0", "--process_id=0"], "num_processes: 0; allowed are integers from 1"),
    (["--coordinator=a:1", "--num_processes=2", "--process_id=2"], "process_id: 2; allowed are integers from 0 to 1"),
    (["--distributed", "--num_processes=2"], "distributed: with --coordinator; allowed is one of them"),
    (["--distributed"], "distributed: no cluster is found in the environment"),
  ],
)
def test_wrong_flags_of_processes_get_one_line(tmp_path, arguments, line):
  process = start(tmp_path / "run", *arguments, devices=1)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 2
  assert errors.startswith(f"lfr-darts: {line}")
  assert errors.count("\n") == 1
  assert output == ""
  assert not (tmp_path / "run").exists()


def test_a_single_process_agrees_with_itself():
  assert processes.agree(lambda: (1, 2)) == (1, 2)
  assert processes.largest(3) == 3
  assert processes.primary()

  def refuse():
    raise UsageError("a field: a value")

  with pytest.raises(UsageError, match="a field"):
    processes.agree(refuse)
