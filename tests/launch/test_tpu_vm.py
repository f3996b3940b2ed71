"""launch/tpu_vm.sh with a gcloud of our own; its commands are checked by the real one where that is installed."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests.launch import fake_gcloud

ROOT = pathlib.Path(__file__).parents[2]
AWKWARD = ["--config.search.operations=('none', 'skip_connect')", 'a "b" $HOME `id`', "two\nlines", "*", ""]

# What stands for .venv/bin/python over there.
PROGRAM = f"""#!{sys.executable}
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
home = os.environ["HOME"]
with open(home + "/runs.jsonl", "a") as file:
  file.write(json.dumps(sys.argv[1:]) + "\\n")
print("it runs on", os.path.basename(home), flush=True)
how = open(os.path.dirname(home) + "/how.txt").read()
time.sleep(60 if how == "wait" else 1)
sys.exit(0 if how == "wait" else int(how))
"""


class Cloud:
  """A checkout, and a cloud that has no slice yet."""

  def __init__(self, folder, how="0"):
    self.folder, self.checkout = folder / "cloud", folder / "checkout"
    tools = folder / "here"
    for path in (self.folder, self.checkout / "launch", tools):
      path.mkdir(parents=True)
    for name in ("tpu_vm.sh", "tpu_worker.sh"):
      shutil.copy(ROOT / "launch" / name, self.checkout / "launch")
    (self.checkout / "module name.py").write_text("tracked")
    (self.checkout / "gone.py").touch()
    (self.checkout / ".gitignore").write_text("runs/\n")
    for command in (["init", "-q"], ["add", "."]):
      subprocess.run(["git", *command], cwd=self.checkout, check=True)
    (self.checkout / "gone.py").unlink()
    (self.checkout / "new.py").write_text("not tracked")
    (self.checkout / "runs").mkdir()
    (self.checkout / "runs" / "large").touch()
    (self.folder / "program").write_text(PROGRAM)
    (self.folder / "program").chmod(0o755)
    (self.folder / "how.txt").write_text(how)
    line = shlex.join([sys.executable, fake_gcloud.__file__, str(self.folder)])
    for name, text in {"gcloud": f'exec {line} "$@"', "sleep": f'echo "$1" >> {self.folder}/sleeps.txt'}.items():
      (tools / name).write_text(f"#!/bin/sh\n{text}\n")
      (tools / name).chmod(0o755)
    self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

  def start(self, *arguments):
    command = [self.checkout / "launch" / "tpu_vm.sh", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Where the tests run in the background, a script could not set right what it is to ignore from the start.
    heard = lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)]
    return subprocess.Popen(command, env=self.environment, start_new_session=True, preexec_fn=heard, **pipes)

  def run(self, *arguments):
    process = self.start(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors

  @property
  def calls(self):
    path = self.folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

  @property
  def verbs(self):
    """What was asked of gcloud, without the options."""
    return [" ".join(call[2:4]) if call[0] == "compute" else call[1] for call in self.calls]

  def has_slice(self, *states, creator="lfr-darts-tpu-vm"):
    (self.folder / "creator.txt").write_text(creator)
    (self.folder / "states.txt").write_text("\n".join(states))

  def runs(self, worker=0):
    return [json.loads(line) for line in (self.folder / f"worker{worker}" / "runs.jsonl").read_text().splitlines()]


@pytest.fixture
def cloud(tmp_path):
  return Cloud(tmp_path)


def test_all_goes_from_nothing_to_a_fetched_work_directory_and_leaves_nothing(cloud):
  found = cloud.folder / "bucket" / "runs" / "x"
  found.mkdir(parents=True)
  (found / "result.json").write_text("{}")
  options = ["--name=mine", "--zone=us-east5-b", "--project=p", "--type=v6e-8", "--version=v2-alpha-tpuv6e", "--spot"]
  arguments = ["--workdir=gs://bucket/runs/x", *AWKWARD]
  status, output, errors = cloud.run(*options, "all", *arguments)
  assert status == 0, errors
  assert "it runs on worker0" in output and "it runs on worker1" not in output
  assert (cloud.checkout / "runs" / "x" / "result.json").read_text() == "{}"
  assert cloud.verbs == [
    *["queued-resources describe", "queued-resources create"],
    *["queued-resources describe"] * 3,
    *["tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh", "rsync"],
    *["queued-resources describe", "queued-resources delete"],
  ]
  create = cloud.calls[1]
  assert create[4] == "mine" and set(create[5:]) == {
    *["--zone=us-east5-b", "--project=p", "--node-id=mine", "--accelerator-type=v6e-8"],
    *["--runtime-version=v2-alpha-tpuv6e", "--spot", "--labels=creator=lfr-darts-tpu-vm"],
  }
  assert not (cloud.folder / "creator.txt").exists()
  for worker in range(fake_gcloud.WORKERS):
    home = cloud.folder / f"worker{worker}"
    assert cloud.runs(worker) == [["-m", "lfr_darts_jax.main", "--distributed", *arguments]]
    there = home / "lfr_darts_jax"
    assert (there / "module name.py").read_text() == "tracked" and (there / "new.py").read_text() == "not tracked"
    assert not (there / "gone.py").exists() and not (there / "runs").exists()
    assert (home / "python3.log").read_text().splitlines()[-1] == "-m uv pip install --quiet --python .venv -e .[tpu]"


def test_a_work_directory_over_there_comes_to_the_same_place_here(cloud):
  cloud.has_slice("ACTIVE")
  there = cloud.folder / "worker0" / "lfr_darts_jax" / "runs" / "digits"
  there.mkdir(parents=True)
  (there / "result.json").touch()
  for arguments in (["--workdir=runs/digits"], ["--workdir", "runs/digits", "--mode=run"]):
    shutil.rmtree(cloud.checkout / "runs")
    assert cloud.run("fetch", *arguments)[0] == 0
    assert (cloud.checkout / "runs" / "digits" / "result.json").exists()
  status, _, errors = cloud.run("fetch")
  assert status == 2 and errors == "tpu_vm.sh: workdir: not given; fetch needs --workdir=DIR, as the run had it\n"


def test_the_runs_exit_status_is_the_steps_and_the_slice_stays(tmp_path):
  cloud = Cloud(tmp_path, how="3")
  status, _, errors = cloud.run("all", "--workdir=gs://bucket/x")
  assert status == 3
  assert errors.splitlines()[-1] == "tpu_vm.sh: lfr-darts is still there and is paid for; the step delete ends that"
  assert cloud.verbs[-1] == "tpu-vm ssh"


def test_a_run_outlives_the_connection_and_can_be_followed_again_and_stopped(tmp_path):
  cloud = Cloud(tmp_path, how="wait")
  cloud.has_slice("ACTIVE")
  assert cloud.run("copy")[0] == cloud.run("install")[0] == 0
  lost = cloud.start("run", "--workdir=gs://bucket/x")
  assert lost.stdout.readline() == "it runs on worker0\n"
  # As a closed terminal does it, to all processes in it.
  os.killpg(lost.pid, signal.SIGHUP)
  lost.communicate(timeout=60)
  again = cloud.start("run", "--workdir=gs://bucket/x")
  lines = [again.stdout.readline() for _ in range(3)]
  assert [line.partition(": ")[2] for line in lines[:2]] == ["the run goes on already\n"] * 2
  assert lines[2] == "it runs on worker0\n" and len(cloud.runs()) == 1
  assert cloud.run("stop")[0] == 0
  again.communicate(timeout=60)
  assert again.returncode == 143
  # It has ended, so that the same step starts it again.
  (cloud.folder / "how.txt").write_text("0")
  assert cloud.run("run", "--workdir=gs://bucket/x")[0] == 0 and len(cloud.runs()) == 2
  assert cloud.run("stop")[0] == 0


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_slice_that_was_preempted_is_asked_for_anew(cloud, state):
  cloud.has_slice(state)
  assert cloud.run("create")[0] == 0
  assert [verb.split()[1] for verb in cloud.verbs[:4]] == ["describe", "delete", "create", "describe"]


def test_a_slice_that_is_there_is_used(cloud):
  cloud.has_slice("PROVISIONING", "ACTIVE")
  assert cloud.run("create")[0] == 0 and set(cloud.verbs) == {"queued-resources describe"}


def test_a_slice_that_goes_away_while_it_is_waited_for_ends_the_wait(cloud):
  cloud.has_slice("PROVISIONING", "PROVISIONING", "SUSPENDING")
  status, _, errors = cloud.run("create")
  assert status == 1 and errors.endswith("tpu_vm.sh: lfr-darts is SUSPENDING; the same command asks for it anew\n")
  assert (cloud.folder / "sleeps.txt").read_text() == "30\n"


@pytest.mark.parametrize("step", ["create", "delete"])
def test_the_slice_of_someone_else_is_left_alone(cloud, step):
  cloud.has_slice("ACTIVE", creator="")
  status, _, errors = cloud.run(step)
  assert status == 2 and errors.startswith("tpu_vm.sh: name: ") and errors.count("\n") == 1
  assert cloud.verbs == ["queued-resources describe"]


def test_what_is_not_there_is_not_deleted(cloud):
  status, _, errors = cloud.run("delete")
  assert (status, errors) == (2, "tpu_vm.sh: name: there is no slice lfr-darts in us-west4-a\n")
  assert cloud.verbs == ["queued-resources describe"]


@pytest.mark.parametrize("arguments", [[], ["destroy"], ["--nme=x", "create"]])
def test_a_wrong_command_line_reaches_no_cloud(cloud, arguments):
  status, _, errors = cloud.run(*arguments)
  assert status == 2 and errors.startswith("tpu_vm.sh: ") and cloud.calls == []


def dry_run(cloud):
  cloud.folder.joinpath("how.txt").unlink()
  lines = []
  for arguments in (
    ["all", "--workdir=gs://b/x", *AWKWARD[:2]],
    ["fetch", "--workdir=runs/x"],
    ["fetch", "--workdir=/x"],
  ):
    status, output, errors = cloud.run("--dry-run", "--spot", "--project=p", *arguments)
    assert status == 0 and errors == ""
    lines += output.splitlines()
  assert cloud.run("--dry-run", "stop")[0] == 0 and cloud.calls == []
  return lines


def test_a_dry_run_prints_what_a_shell_can_read_and_calls_nothing(cloud):
  commands = [shlex.split(line) for line in dry_run(cloud)]
  assert len(commands) == 13 and {command[0] for command in commands} == {"gcloud"}
  (run,) = [command[-1] for command in commands if " run " in command[-1]]
  assert shlex.split(run)[-3:] == ["--workdir=gs://b/x", *AWKWARD[:2]]


def verdicts(commands, folder):
  """Of the real gcloud's own parser, which needs no account and no network: the error by command, or None."""
  path = folder / "commands.json"
  path.write_text(json.dumps([{"command_string": command} for command in commands]))
  environment = os.environ | {"CLOUDSDK_CONFIG": str(folder / "gcloud"), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1"}
  command = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={path}"]
  done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
  return {verdict["command_string"]: verdict["error_message"] for verdict in json.loads(done.stdout)}


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud")
def test_gcloud_itself_takes_every_command(cloud, tmp_path):
  lines = dry_run(cloud)
  found = verdicts(lines, tmp_path)
  assert len(found) == len(set(lines)) and set(found.values()) == {None}
  wrong = lines[1].replace("--accelerator-type", "--accelerator")
  assert "unrecognized arguments: --accelerator" in str(verdicts([wrong], tmp_path))
