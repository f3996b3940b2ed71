"""Workers of a stream and the signals that reach a run: scripts of their own, killed in all ways."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Its handler is the way of `preemption.py`.
SCRIPT = """
import signal
import sys
import time
import psutil
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.data.streaming.transforms import Transform
from tests.photographs import Album

if __name__ == "__main__":
  stopped = []
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopped.append(number))
  transform = Transform((16, 16), 3, "random", True, 0.4, 0.2)
  batches = loader.train_batches(Album(26), None, 8, 0, transform, loader.Host(workers=2))
  if "early" not in sys.argv:
    next(batches)
  while len(psutil.Process().children()) < 3:
    time.sleep(0.01)
  print(*(child.pid for child in psutil.Process().children()), flush=True)
  while not stopped:
    next(batches)
    time.sleep(0.01)
  for _ in range(20):
    next(batches)
  if "close" in sys.argv:
    batches.close()
  print("ended", flush=True)
"""


def started(folder, *arguments):
  """The script in a process group of its own, and its children: two workers and Python's tracker of resources."""
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  path = folder / "script.py"
  path.write_text(SCRIPT)
  command = [sys.executable, path, *arguments]
  pipe = subprocess.PIPE
  script = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
  line = script.stdout.readline()
  assert line, script.stderr.read()
  children = [psutil.Process(int(pid)) for pid in line.split()]
  assert len(children) == 3
  return script, children


def shared_memory(pid):
  """Files of the shared memory of one process: tests that run beside this one have files of their own."""
  maps = psutil.Process(pid).memory_maps() if os.path.isdir("/dev/shm") else ()
  return {pathlib.Path(mapped.path) for mapped in maps if "/psm_" in mapped.path}


@pytest.mark.parametrize(
  "number,arguments",
  [
    (signal.SIGINT, ("close",)),
    (signal.SIGTERM, ("early",)),
    pytest.param(signal.SIGTERM, ("close",), marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, ("early",), marks=pytest.mark.slow),
  ],
)
def test_a_signal_to_all_processes_leaves_batches_until_the_run_ends(tmp_path, number, arguments):
  script, children = started(tmp_path, *arguments)
  os.killpg(script.pid, number)
  out, error = script.communicate(timeout=60)
  assert (script.returncode, out, error) == (0, "ended\n", "")
  _, alive = psutil.wait_procs(children, timeout=10)
  assert not alive


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path):
  script, children = started(tmp_path)
  shared = shared_memory(script.pid)
  assert all(path.exists() for path in shared) and (shared or not os.path.isdir("/dev/shm"))
  workers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
  script.kill()
  killed = time.monotonic()
  script.communicate(timeout=60)
  _, alive = psutil.wait_procs(workers, timeout=10)
  assert len(workers) == 2 and not alive and time.monotonic() - killed < 10
  # Python's tracker, which only then ends, gives the memory back.
  psutil.wait_procs(children, timeout=10)
  assert not any(path.exists() for path in shared)
