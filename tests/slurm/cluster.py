"""Munge, a controller and nodes of one core, all on loopback and in one directory."""

import contextlib
import getpass
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
READY_SECONDS, END_SECONDS = 60.0, 60.0

# Debian's packages, without systemd and control groups. Nodes are named by addresses that every machine has, since JAX
# looks up the first one's name. Each has a GPU in name only, so that scripts may ask for one. Some clusters end a step
# with its first failed process. A requeued job waits for cred_expire, by default two minutes, before it starts again.
# JAX makes a port of a job's number, which must not be that of a job of another cluster here.
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=10
FirstJobId={port}
StateSaveLocation={directory}/state
SlurmctldPidFile={directory}/slurmctld.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdSpoolDir={directory}/spool.%n
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmdLogFile={directory}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
KillOnBadExit=1
ReturnToService=2
GresTypes=gpu
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 Gres=gpu:1\n"


def missing() -> list[str]:
  """The programs that a cluster needs and this machine has not."""
  return [program for program in PROGRAMS if shutil.which(program) is None]


class Cluster:
  """A cluster of two nodes; a context manager that starts and stops it.

  Attributes:
    environment: of processes that use it.
  """

  def __init__(self, directory: pathlib.Path):
    """Takes a directory of its own, whose path must be short enough for a socket (107 bytes)."""
    self._directory = directory.absolute()
    self._nodes = ("127.0.0.1", "127.0.0.2")
    self.environment = {**os.environ, "SLURM_CONF": str(self._directory / "slurm.conf")}

  def __enter__(self) -> "Cluster":
    self.start()
    return self

  def __exit__(self, *unused: object) -> None:
    self.stop()

  def start(self) -> None:
    """Starts the daemons and waits until both nodes are idle.

    Raises:
      RuntimeError: where a daemon does not start, or a node does not come up; nothing is left running.
    """
    directory = self._directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "munge.key").touch(0o600)
    (directory / "munge.key").write_bytes(secrets.token_bytes(128))
    host, ports = socket.gethostname(), _free_ports(1 + len(self._nodes))
    nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(self._nodes, ports[1:], strict=True)]
    head = CONFIG.format(host=host, port=ports[0], user=getpass.getuser(), directory=directory)
    (directory / "slurm.conf").write_text(head + "".join(nodes))
    (directory / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    files = {"socket": "munge.socket", "key-file": "munge.key", "seed-file": "munge.seed"}
    files |= {"pid-file": "munged.pid", "log-file": "munged.log"}
    try:
      # By force, since Munge wants other users, of which there are none, to reach its socket too.
      self._daemon("munged", "--force", *(f"--{option}={directory / name}" for option, name in files.items()))
      self._daemon("slurmctld")
      for name in self._nodes:
        self._daemon("slurmd", "-N", name)
      self._wait_for_nodes()
    except RuntimeError:
      self.stop()
      raise

  def stop(self) -> None:
    """Ends all jobs, then the daemons, those that listen to others last."""
    if (self._directory / "slurmctld.pid").exists():
      with contextlib.suppress(RuntimeError):
        self._end_jobs()
    for name in [*(f"slurmd.{node}" for node in self._nodes), "slurmctld", "munged"]:
      _end(self._directory / f"{name}.pid")

  def run(self, *command: str, **options) -> str:
    """Runs a command with the cluster's environment and returns its output.

    Raises:
      RuntimeError: where it fails, with its errors.
    """
    done = subprocess.run(command, env=self.environment, text=True, capture_output=True, **options)
    if done.returncode:
      raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return done.stdout.strip()

  def show(self, job: str) -> dict[str, str]:
    """What the controller knows of a job, such as its JobState."""
    return dict(part.partition("=")[::2] for part in self.run("scontrol", "show", "job", job).split())

  def _end_jobs(self):
    self.run("scancel", f"--user={getpass.getuser()}")
    deadline = time.monotonic() + END_SECONDS
    while self.run("squeue", "--noheader") and time.monotonic() < deadline:
      time.sleep(0.5)

  def _daemon(self, *command):
    # What a daemon inherits stays open, so that no pipe may be among it.
    log = (self._directory / "start.log").open("a")
    done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode:
      raise RuntimeError(f"{command[0]} did not start: {(self._directory / 'start.log').read_text()}")

  def _wait_for_nodes(self):
    deadline = time.monotonic() + READY_SECONDS
    while set(states := self.run("sinfo", "--noheader", "--Node", "--format=%T").split()) != {"idle"}:
      if time.monotonic() > deadline:
        raise RuntimeError(f"the nodes are {', '.join(states)}; see the logs in {self._directory}")
      time.sleep(0.5)


def _free_ports(count):
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
      each.bind(("127.0.0.1", 0))
    return [each.getsockname()[1] for each in sockets]


def _end(pid_file):
  """Ends the daemon of a pid file, which removes that file itself."""
  if not pid_file.exists():
    return
  # A file may be left of a daemon that died, and its number be another's by now.
  pid, program = int(pid_file.read_text()), pid_file.name.partition(".")[0]
  command = pathlib.Path(f"/proc/{pid}/cmdline")
  running = lambda: command.exists() and program in command.read_text()
  for number, seconds in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
    if running():
      os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while running() and time.monotonic() < deadline:
      time.sleep(0.1)
