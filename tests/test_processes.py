import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

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


def pair(workdir):
  """Two processes that belong together."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  told = f"--coordinator=127.0.0.1:{port}", "--num_processes=2"
  return [start(workdir, *told, f"--process_id={i}") for i in range(2)]


def finish(running, seconds=1500):
  outputs = [process.communicate(timeout=seconds) for process in running]
  assert [process.returncode for process in running] == [0] * len(running), outputs
  return outputs


def wait_for(path, running):
  until = time.monotonic() + 900
  while not path.exists():
    assert all(process.poll() is None for process in running), [process.communicate() for process in running]
    assert time.monotonic() < until
    time.sleep(0.2)


@pytest.mark.slow
def test_two_processes_find_what_one_does_through_kills_and_signals(tmp_path):
  alone = tmp_path / "alone"
  finish([start(alone, devices=2 * DEVICES)])

  workdir = tmp_path / "pair"
  running = pair(workdir)
  wait_for(workdir / "search" / "4", running)
  running[1].kill()
  began = time.monotonic()
  running[0].wait(120)
  assert time.monotonic() - began < 90
  line = running[0].stderr.read().splitlines()[-1]
  assert running[0].returncode not in (0, 2)
  assert "another process" in line and "continues" in line

  # A signal to one of them saves the state and ends both.
  running = pair(workdir)
  wait_for(workdir / "genotype.json", running)
  running[1].send_signal(signal.SIGTERM)
  for process in running:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1] == "lfr-darts: stopped by SIGTERM; the same command continues"

  outputs = finish(pair(workdir))
  # The first process alone speaks.
  assert "test error" in outputs[0][0]
  assert outputs[1][0] == ""
  assert (workdir / "genotype.json").read_bytes() == (alone / "genotype.json").read_bytes()
  ours, theirs = (json.loads((d / "result.json").read_text()) for d in (workdir, alone))
  assert ours["test_error"] == pytest.approx(theirs["test_error"], abs=1.0)
  assert ours["devices"] == theirs["devices"] == 2 * DEVICES
  # On another number of devices it goes on too, to the end that is there.
  (workdir / "result.json").unlink()
  finish([start(workdir, devices=1)])
  again = json.loads((workdir / "result.json").read_text())
  assert again["test_error"] == ours["test_error"]
  assert again["devices"] == 1


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
