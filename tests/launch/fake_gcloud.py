"""Stands in for gcloud: a slice of two machines that are folders here. Its own folder is the first argument.

Records its arguments in calls.jsonl. The states that the slice goes through are the lines of states.txt; who created it
stands in creator.txt. What is run over there finds a python3 that records its arguments too.
"""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys

WORKERS = 2

# Makes a virtual environment whose python is the program that the test has left.
PYTHON3 = """#!/usr/bin/env bash
echo "$*" >> "$HOME/python3.log"
if [[ $* == *"uv venv"* ]]; then
  mkdir -p .venv/bin
  ln -sf "$PROGRAM" .venv/bin/python
fi
"""


def main() -> int:
  """Returns the exit status."""
  folder, arguments = pathlib.Path(sys.argv[1]), sys.argv[2:]
  with (folder / "calls.jsonl").open("a") as calls:
    fcntl.flock(calls, fcntl.LOCK_EX)
    calls.write(json.dumps(arguments) + "\n")
  words = [argument for argument in arguments if not argument.startswith("--")]
  flags = dict(argument.partition("=")[::2] for argument in arguments if argument.startswith("--"))
  if words[:3] == ["compute", "tpus", "queued-resources"]:
    return queued(folder, words[3], flags)
  if words[:3] == ["compute", "tpus", "tpu-vm"]:
    workers = range(WORKERS) if flags["--worker"] == "all" else [int(flags["--worker"])]
    homes = [folder / f"worker{worker}" for worker in workers]
    if words[3] == "ssh":
      return max([remote(folder, home, flags["--command"]) for home in homes])
    for home in homes:
      copy(home, *words[4:])
    return 0
  assert words[:2] == ["storage", "rsync"] and "--recursive" in flags
  shutil.copytree(folder / words[2].removeprefix("gs://"), words[3], dirs_exist_ok=True)
  return 0


def queued(folder, verb, flags):
  states, creator = folder / "states.txt", folder / "creator.txt"
  if verb == "create":
    creator.write_text(flags["--labels"].removeprefix("creator="))
    states.write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
  elif not creator.exists():
    print("NOT_FOUND: there is no such queued resource", file=sys.stderr)
    return 1
  elif verb == "delete":
    assert "--force" in flags and "--quiet" in flags
    creator.unlink()
  else:
    assert flags["--format"] == "value(state.state,tpu.nodeSpec[0].node.labels.creator)"
    first, *rest = states.read_text().split()
    print(f"{first}\t{creator.read_text()}")
    states.write_text("\n".join(rest or [first]))
  return 0


def remote(folder, home, command):
  tools = folder / "over_there"
  if not tools.exists():
    tools.mkdir()
    (tools / "python3").write_text(PYTHON3)
    (tools / "python3").chmod(0o755)
  home.mkdir(exist_ok=True)
  environment = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}", "PROGRAM": str(folder / "program")}
  # As sshd does it: the user's shell, in the home directory.
  return subprocess.run(["bash", "-c", command], cwd=home, env=environment).returncode


def copy(home, source, target):
  there = lambda path: home / path.partition(":")[2] if ":" in path else pathlib.Path(path)
  home.mkdir(exist_ok=True)
  if there(source).is_dir():
    shutil.copytree(there(source), there(target) / there(source).name, dirs_exist_ok=True)
  else:
    shutil.copy(there(source), there(target))


if __name__ == "__main__":
  sys.exit(main())
