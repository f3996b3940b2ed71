"""launch/gpu.sh with an interpreter that records what is asked of it."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import termios
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
AWKWARD = ["--config.search.operations=('none', 'skip_connect')", 'a "b" $HOME `id`', "two\nlines", "*", ""]

# A python3 that makes virtual environments with itself in them, and stands for pip and for the program.
PYTHON3 = f"""#!{sys.executable}
import json, os, pathlib, shutil, signal, sys, time
folder = pathlib.Path(os.environ["FOLDER"])
with (folder / "calls.jsonl").open("a") as file:
  file.write(json.dumps([os.environ.get("JAX_PLATFORMS"), *sys.argv[1:]]) + "\\n")
if sys.argv[1] == "-c":
  sys.version_info = (3, 10) if (folder / "old").exists() else (3, 11)
  exec(sys.argv[2])
elif sys.argv[2] == "venv":
  target = pathlib.Path(sys.argv[3], "bin")
  target.mkdir(parents=True)
  shutil.copy(__file__, target / "python")
elif sys.argv[2] == "lfr_darts_jax.main":
  def stop(number, frame):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(130)
  signal.signal(signal.SIGINT, stop)
  print("searching", flush=True)
  print("a warning", file=sys.stderr, flush=True)
  for second in range(30 if (folder / "wait").exists() else 0):
    time.sleep(0.1)
  print("the end", flush=True)
  sys.exit(3)
"""


class Workstation:
  """A checkout, and a folder from which a user starts runs."""

  def __init__(self, folder):
    self.folder, self.checkout, tools = folder, folder / "checkout", folder / "tools"
    (self.checkout / "launch").mkdir(parents=True)
    shutil.copy(ROOT / "launch" / "gpu.sh", self.checkout / "launch")
    shutil.copy(ROOT / "setup.cfg", self.checkout)
    tools.mkdir()
    for name, text in {"python3": PYTHON3, "nvidia-smi": "#!/bin/sh\n"}.items():
      (tools / name).write_text(text)
      (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "JAX_PLATFORMS", "PYTHON")}
    self.environment = kept | {"PATH": f"{tools}:{os.environ['PATH']}", "FOLDER": str(folder)}

  def run(self, *arguments):
    command = [self.checkout / "launch" / "gpu.sh", *arguments]
    return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60)

  def start_in_a_terminal(self, *arguments):
    """Returns the process and our end of its terminal."""
    ours, theirs = os.openpty()
    takes_it = lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    command = [self.checkout / "launch" / "gpu.sh", *arguments]
    pipes = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(
      command, cwd=self.folder, env=self.environment, start_new_session=True, preexec_fn=takes_it, **pipes
    )
    os.close(theirs)
    return process, ours

  @property
  def calls(self):
    return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

  def wait_for(self, text):
    deadline = time.monotonic() + 60
    while text not in (log.read_text() if (log := self.folder / "runs" / "x.log").exists() else ""):
      assert time.monotonic() < deadline
      time.sleep(0.05)


@pytest.fixture
def workstation(tmp_path):
  return Workstation(tmp_path)


def test_the_first_time_it_installs_and_then_only_where_the_requirements_changed(workstation):
  done = workstation.run("--workdir=runs/x", *AWKWARD)
  assert (done.returncode, done.stdout) == (3, "searching\na warning\nthe end\n")
  check, venv, pip, run = workstation.calls
  assert check[1] == "-c" and venv[1:] == ["-m", "venv", str(workstation.checkout / ".venv")]
  assert pip[1:] == ["-m", "pip", "install", "-e", f"{workstation.checkout}[cuda]"]
  assert run == ["cuda", "-m", "lfr_darts_jax.main", "--workdir=runs/x", *AWKWARD]
  workstation.run("--workdir=runs/x")
  assert len(workstation.calls) == 5
  assert (workstation.folder / "runs" / "x.log").read_text() == done.stdout * 2
  later = time.time() + 5
  os.utime(workstation.checkout / "setup.cfg", (later, later))
  workstation.run("--workdir=runs/x")
  assert [call[2] for call in workstation.calls[5:]] == ["pip", "lfr_darts_jax.main"]


def test_it_takes_the_environment_that_is_active_and_the_platforms_that_are_set(workstation):
  active = workstation.folder / "active"
  (active / "bin").mkdir(parents=True)
  shutil.copy(workstation.folder / "tools" / "python3", active / "bin" / "python")
  (workstation.folder / "tools" / "nvidia-smi").unlink()
  workstation.environment |= {"VIRTUAL_ENV": str(active), "JAX_PLATFORMS": "cpu"}
  workstation.run("--mode=describe")
  assert [call[:3] for call in workstation.calls] == [["cpu", "-m", "pip"], ["cpu", "-m", "lfr_darts_jax.main"]]
  assert not (workstation.checkout / ".venv").exists()


def test_without_a_gpu_nothing_is_installed(workstation):
  (workstation.folder / "tools" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
  done = workstation.run("--workdir=runs/x")
  assert (done.returncode, done.stdout) == (2, "") and not (workstation.checkout / ".venv").exists()
  assert done.stderr.startswith("gpu.sh: nvidia-smi finds no GPU") and done.stderr.count("\n") == 1


def test_an_old_interpreter_makes_no_environment(workstation):
  (workstation.folder / "old").touch()
  done = workstation.run("--workdir=runs/x")
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr == "gpu.sh: python3 is none of 3.11 or newer; PYTHON=FILE names another\n"
  assert not (workstation.checkout / ".venv").exists()


@pytest.mark.parametrize("arguments", [["--workdir", "runs/x"], ["-workdir=runs/x"], ["--workdir=gs://b/runs/x"]])
def test_the_log_stands_beside_the_work_directory(workstation, arguments):
  workstation.run("--mode=run", *arguments)
  log = workstation.folder / ("x.log" if "gs:" in arguments[0] else "runs/x.log")
  assert log.read_text().startswith("searching")


def test_it_goes_on_when_its_terminal_is_closed(workstation):
  (workstation.folder / "wait").touch()
  process, terminal = workstation.start_in_a_terminal("--workdir=runs/x")
  workstation.wait_for("searching")
  os.close(terminal)
  assert process.wait(60) == 3
  assert (workstation.folder / "runs" / "x.log").read_text().endswith("the end\n")


def test_it_goes_on_when_nobody_reads_it_any_more(workstation):
  (workstation.folder / "wait").touch()
  command = [workstation.checkout / "launch" / "gpu.sh", "--workdir=runs/x"]
  process = subprocess.Popen(command, cwd=workstation.folder, env=workstation.environment, stdout=subprocess.PIPE)
  assert process.stdout.readline() == b"searching\n"
  process.stdout.close()
  assert process.wait(60) == 3
  assert (workstation.folder / "runs" / "x.log").read_text().endswith("the end\n")


def test_ctrl_c_lets_it_save_and_log_the_end(workstation):
  (workstation.folder / "wait").touch()
  process, terminal = workstation.start_in_a_terminal("--workdir=runs/x")
  workstation.wait_for("searching")
  os.write(terminal, termios.tcgetattr(terminal)[6][termios.VINTR])
  assert process.wait(60) == 128 + signal.SIGINT
  assert (workstation.folder / "runs" / "x.log").read_text().endswith("saved\n")
  os.close(terminal)
