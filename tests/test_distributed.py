import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.distributed import Devices

ROOT = pathlib.Path(__file__).parents[1]
DEVICES = 4
TINY = (
  "--config.search.epochs=1",
  "--config.search.batch_size=16",
  "--config.search.channels=4",
  "--config.search.nodes=1",
  "--config.search.operations=('none','skip_connect','max_pool_3x3','sep_conv_3x3')",
  "--config.search.steps_per_chunk=4",
  "--config.data.search_fraction=0.1",
  "--config.network.channels=4",
  "--config.train.epochs=1",
  "--config.train.batch_size=16",
  "--config.train.steps_per_chunk=10",
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


def test_a_single_process_hears_itself():
  assert distributed.broadcast_from_primary(lambda: (1, 2)) == (1, 2)
  assert distributed.host_max(3) == 3
  assert distributed.is_primary()

  def refuse():
    raise UsageError("a field: a value")

  with pytest.raises(UsageError, match="a field"):
    distributed.broadcast_from_primary(refuse)


def start_two(workdir):
  """Two processes of one run, with half of the devices each."""
  with socket.create_server(("localhost", 0)) as server:
    port = server.getsockname()[1]
  common = [f"--coordinator=localhost:{port}", "--num_processes=2"]
  return [start(workdir, *common, f"--process_id={index}") for index in (0, 1)]


def ends(run, seconds=1200):
  """Exit statuses and errors of the processes of a run."""
  outputs = [process.communicate(timeout=seconds) for process in run]
  return [process.returncode for process in run], [errors for _, errors in outputs]


def reaches(workdir, updates, run, seconds=600):
  """Waits until a search has written down so many dispatches."""
  until = time.monotonic() + seconds
  lines = workdir / "metrics.jsonl"
  while not lines.exists() or lines.read_text().count("\n") < updates:
    assert time.monotonic() < until and all(process.poll() is None for process in run)
    time.sleep(0.2)


@pytest.mark.long
def test_two_processes_find_what_one_does_through_kills_and_signals(tmp_path):
  """One process on eight devices; two of four each, of which one is killed, and then told to stop."""
  alone, together = tmp_path / "alone", tmp_path / "together"
  assert ends([start(alone, devices=2 * DEVICES)]) == ([0], [""])
  for victim in (1, 0):
    run = start_two(together)
    reaches(together, 3 if victim else 6, run)
    run[victim].kill()
    began = time.monotonic()
    statuses, errors = ends(run, 150)
    assert time.monotonic() - began < 120
    other = 1 - victim
    assert statuses[victim] == -signal.SIGKILL and statuses[other] not in (0, -signal.SIGKILL)
    assert "another process" in errors[other] or "coordinat" in errors[other].lower()
  run = start_two(together)
  reaches(together, 9, run)
  run[1].terminate()
  statuses, errors = ends(run)
  assert statuses == [143, 143] and "stopped by SIGTERM; the same command continues" in errors[0]
  assert ends(start_two(together)) == ([0, 0], ["", ""])
  assert (together / "genotype.json").read_text() == (alone / "genotype.json").read_text()
  result, reference = (json.loads((workdir / "result.json").read_text()) for workdir in (together, alone))
  assert sum(map(sum, result["confusion"])) == 360
  assert result["test_error"] == pytest.approx(reference["test_error"], abs=1)


def compare(task):
  """What `tests.spmd` finds on eight simulated devices against one."""
  done = subprocess.run([sys.executable, "-m", "tests.spmd", task], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
  ("task", "tolerance"),
  [
    ("order_1", 1e-9),
    pytest.param("order_2", 1e-9, marks=pytest.mark.long),
    pytest.param("unrolled", 1e-9, marks=pytest.mark.long),
    pytest.param("star", 1e-9, marks=pytest.mark.slow),
    pytest.param("float32", 1e-5, marks=pytest.mark.long),
    pytest.param("group_of_one_device", 1e-9, marks=pytest.mark.slow),
    pytest.param("group_of_two_devices", 1e-9, marks=pytest.mark.long),
  ],
)
def test_eight_devices_update_as_one_does(task, tolerance):
  found = compare(task)
  assert found["losses"] < tolerance
  assert found["alphas"] < tolerance
  # Gradients, losses and statistics are summed; activations never travel.
  assert set(found["collectives"]) == {"all-reduce"}


@pytest.mark.long
def test_a_whole_run_on_eight_devices_is_that_on_one():
  found = compare("run")
  assert found["genotype"]
  assert found["losses"] < 1e-9 and found["count"] > 20
  assert found["test_error"] == 0 and found["images"] == 360  # Eleven batches of 32, and eight images.


def test_a_batch_must_be_shared_evenly():
  three = Devices(tuple(jax.devices()[:1]) * 3)
  with pytest.raises(UsageError, match=r"config.search.batch_size: 32; allowed are multiples of 3"):
    three.check("search.batch_size", 32, None)
  three.check("search.batch_size", 30, 5)
  three.check("search.batch_size", 30, 10)
  three.check("search.batch_size", 30, 30)
  with pytest.raises(UsageError, match=r"batch_norm_group: 15; allowed are divisors and multiples of 10"):
    three.check("search.batch_size", 30, 15)
