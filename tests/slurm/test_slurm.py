"""launch/slurm.sbatch on a real Slurm. Needs Debian's packages slurm-wlm and munge."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pytest

from tests.chaos.process import BUDGET
from tests.slurm import cluster as clusters

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(clusters.missing()), reason="needs Slurm and munge")]
ROOT = pathlib.Path(__file__).parents[2]
# One iteration, as two processes of two devices each that share two cores.
SHORT = (*BUDGET, "--config.plan.name=darts", "--config.search.layers=3", "--config.checkpoint.interval=0")
DEVICES = "--xla_force_host_platform_device_count="
TWO_TASKS = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
WAIT_SECONDS = 900.0

# Stands in for the program where only the script is meant: each process says what it sees, and then does what its
# number's argument says, if it was not requeued. A wait ends by SIGTERM, after the time that saving takes.
STAND_IN = """
import json, os, signal, sys, time

def save(number, frame):
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  time.sleep(5)
  print("saved", flush=True)
  sys.exit(143)

signal.signal(signal.SIGTERM, save)
number, again = int(os.environ["SLURM_PROCID"]), "SLURM_RESTART_COUNT" in os.environ
names = ("SLURM_LOCALID", "CUDA_VISIBLE_DEVICES", "SLURM_NTASKS")
print(json.dumps([number, again, sys.argv[1:], [os.environ[name] for name in names]]), flush=True)
what = sys.argv[2 + number]
if what == "wait" and not again:
  time.sleep(300)
sys.exit(0 if again or what == "wait" else int(what))
"""


@pytest.fixture(scope="module")
def cluster():
  with tempfile.TemporaryDirectory(prefix="slurm") as directory, clusters.Cluster(pathlib.Path(directory)) as started:
    started.environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    yield started


@pytest.fixture
def stand_in(cluster, tmp_path, monkeypatch):
  package = tmp_path / "lfr_darts_jax"
  package.mkdir()
  (package / "__init__.py").touch()
  (package / "main.py").write_text(STAND_IN)
  monkeypatch.setitem(cluster.environment, "PYTHONPATH", str(tmp_path))
  # A module beside the working directory would come before that.
  return lambda *arguments, options=(): Job(cluster, tmp_path, tmp_path, arguments, options)


class Job:
  """A job of two tasks on two nodes."""

  def __init__(self, cluster, directory, chdir, arguments, options=()):
    self._cluster, self._log = cluster, directory / "job.log"
    options = (*TWO_TASKS, f"--chdir={chdir}", f"--output={self._log}", *options)
    self.number = cluster.run("sbatch", "--parsable", *options, str(ROOT / "launch" / "slurm.sbatch"), *arguments)

  @property
  def log(self):
    return self._log.read_text() if self._log.exists() else ""

  @property
  def processes(self):
    """What each start of each process saw: its number, whether the job was requeued, arguments, environment."""
    return sorted(json.loads(line) for line in self.log.splitlines() if line.startswith("["))

  def signal(self, *options):
    self._cluster.run("scancel", *options, self.number)

  def wait(self, *states):
    deadline = time.monotonic() + WAIT_SECONDS
    while (state := self._cluster.show(self.number)["JobState"]) not in states:
      assert time.monotonic() < deadline, f"the job is {state}: {self.log}"
      time.sleep(0.5)
    return state

  def wait_until(self, true):
    """Waits for something that happens while the job runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
      state = self._cluster.show(self.number)["JobState"]
      assert state in ("PENDING", "RUNNING") and time.monotonic() < deadline, f"the job is {state}: {self.log}"
      time.sleep(0.2)

  def end(self):
    """Waits for the job's end; returns its state, its exit status and how often it was requeued."""
    self.wait("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    shown = self._cluster.show(self.number)
    return shown["JobState"], int(shown["ExitCode"].partition(":")[0]), int(shown["Restarts"])


def test_every_task_gets_the_arguments_and_sees_the_gpus_of_its_node(stand_in):
  job = stand_in("0", "0", "--config.search.operations=('none', 'skip_connect')", "a b")
  assert job.end() == ("COMPLETED", 0, 0)
  arguments = ["--distributed", "0", "0", "--config.search.operations=('none', 'skip_connect')", "a b"]
  assert job.processes == [[number, False, arguments, ["0", "0", "2"]] for number in (0, 1)]


def test_the_highest_exit_status_is_the_jobs(stand_in):
  assert stand_in("0", "2").end() == ("FAILED", 2, 0)


def test_the_notice_before_the_jobs_end_stops_the_run_and_requeues_the_job(stand_in):
  # Slurm looks every half a minute, so the notice may come as much earlier: here when the processes are there.
  job = stand_in("wait", "wait", options=("--time=2", "--signal=TERM@60"))
  assert job.end() == ("COMPLETED", 0, 1)
  assert [process[:2] for process in job.processes] == [[0, False], [0, True], [1, False], [1, True]]
  assert job.log.count("saved") == 2


def test_one_process_that_ends_early_leaves_the_other_the_time_to_save(stand_in):
  job = stand_in("143", "wait")
  job.wait_until(lambda: len(job.processes) == 2)
  time.sleep(5)
  job.signal("--signal=TERM")
  assert job.end() == ("COMPLETED", 0, 1)
  assert job.log.count("saved") == 1


def test_scancel_ends_the_job_after_its_state_is_saved(stand_in):
  job = stand_in("wait", "wait")
  job.wait_until(lambda: len(job.processes) == 2)
  job.signal()
  assert job.end() == ("CANCELLED", 143, 0)
  assert job.log.count("saved") == 2


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The work directory of the same run as one process with as many devices."""
  workdir = tmp_path_factory.mktemp("alone") / "run"
  command = [sys.executable, "-m", "lfr_darts_jax.main", f"--workdir={workdir}", *SHORT]
  subprocess.run(command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{DEVICES}4"}, check=True)
  return workdir


@pytest.fixture
def real(cluster, tmp_path, monkeypatch):
  """Starts the program itself; its work directory is `run`."""
  monkeypatch.setitem(cluster.environment, "JAX_PLATFORMS", "cpu")
  monkeypatch.setitem(cluster.environment, "XLA_FLAGS", f"{DEVICES}2")
  return lambda: Job(cluster, tmp_path, ROOT, (f"--workdir={tmp_path / 'run'}", *SHORT))


def genotype(workdir):
  return json.loads((workdir / "genotype.json").read_text())


@pytest.mark.long
def test_two_tasks_run_the_digits_job_to_the_end(real, alone, tmp_path):
  job = real()
  assert job.end() == ("COMPLETED", 0, 0), job.log
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert result["devices"] == 4 and (tmp_path / "run" / "report" / "index.html").exists()
  assert genotype(tmp_path / "run") == genotype(alone)


@pytest.mark.long
def test_a_run_stopped_in_the_middle_of_its_search_goes_on_after_the_requeue(real, alone, tmp_path):
  job = real()
  metrics = tmp_path / "run" / "metrics.jsonl"
  job.wait_until(lambda: metrics.exists() and metrics.read_text())
  job.signal("--signal=TERM")
  job.wait("PENDING")
  assert job.log.count("stopped by SIGTERM; the same command continues") == 2, job.log
  assert not (tmp_path / "run" / "genotype.json").exists()
  assert job.end() == ("COMPLETED", 0, 1), job.log
  assert "continuing the search at iteration 1, update " in job.log
  assert genotype(tmp_path / "run") == genotype(alone)
