"""Runs whose work directory is a URL, each call in a process of its own; a Google Cloud Storage is emulated."""

import importlib.util
import json
import re
import signal
import subprocess
import time

import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax.runtime import paths
from tests.test_main import ROOT, TINY, call, command


@pytest.mark.parametrize(
  "url,words",
  [
    ("gs://no_bucket/run", "workdir: gs://no_bucket/run can't be written"),
    ("s3://bucket/run", "s3://bucket/run: needs the package s3fs, which is missing; pip install s3fs"),
  ],
)
def test_a_url_that_cannot_be_written_is_one_line_and_status_2(store, url, words):
  if url.startswith("s3") and importlib.util.find_spec("s3fs"):
    pytest.skip("s3fs is there")
  done = call(f"--workdir={url}", *TINY)
  assert done.returncode == 2, done.stderr
  assert len(done.stderr.splitlines()) == 1 and words in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["evaluate", "report", "train"])
def test_a_place_without_a_run_is_one_line_and_status_2(bucket, mode):
  done = call(f"--workdir={bucket}", f"--mode={mode}")
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
  assert paths.names(bucket) == []


def start_and_stop(number, phase, workdir, *arguments):
  """Starts a run, and sends a signal when the phase has a checkpoint; returns the exit status."""
  arguments = command(f"--workdir={workdir}", *arguments, "--config.checkpoint.interval=0")
  process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  while not any(name.isdecimal() for name in paths.whole(workdir / phase)):
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(number)
  return process.wait()


def contents(folder):
  """Names of what a run has left, without those that differ from run to run; the search saves only now and then."""
  with paths.fetched(folder) as here:
    names = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()} - {".lock"}
  names = {name for name in names if not re.match(r"search/\d", name)}
  return {re.sub(r"(state|events\.out)[./].*", r"\1", name) for name in names}


@pytest.mark.long
def test_killed_on_the_way_it_ends_like_a_run_in_a_directory(tmp_path, bucket):
  arguments = [*TINY, "--config.checkpoint.keep=1"]
  done = call(f"--workdir={tmp_path}", *arguments)
  assert done.returncode == 0, done.stderr
  assert start_and_stop(signal.SIGKILL, "search", bucket, *arguments) == -signal.SIGKILL
  done = call(f"--workdir={bucket}", "--mode=search", *arguments)
  assert done.returncode == 0 and "continuing the search at" in done.stdout, done.stderr
  assert start_and_stop(signal.SIGTERM, "checkpoints", bucket, *arguments) == 128 + signal.SIGTERM
  # As if it had been killed once more, while a checkpoint was on its way.
  paths.write_atomically(bucket / "checkpoints" / ".44.unfinished", b"")
  paths.write_atomically(bucket / "checkpoints" / "44" / "meta.json", b"{}")
  done = call(f"--workdir={bucket}", *arguments)
  assert done.returncode == 0 and done.stderr == "", done.stderr
  assert (
    done.stdout.splitlines()[0] == f"{bucket} has no lock: see to it that no other process runs there at the same time"
  )
  assert "continuing the training at update" in done.stdout and "passing over" not in done.stdout
  for name in ("genotype.json", "metrics.jsonl", "mistakes.npz", "report/cells/normal.svg"):
    assert (bucket / name).read_bytes() == (tmp_path / name).read_bytes(), name
  results = [json.loads((place / "result.json").read_text()) for place in (tmp_path, bucket)]
  for name in ("test_error", "confusion", "updates"):
    assert results[0][name] == results[1][name]
  assert contents(bucket) == contents(tmp_path)
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
  names, probabilities = zip(
    *(lfr_darts_jax.load(place).predict(images) for place in (tmp_path, str(bucket))), strict=True
  )
  assert names[0] == names[1]
  np.testing.assert_array_equal(*probabilities)


@pytest.mark.slow
def test_every_mode(bucket):
  short = [*TINY, "--config.search.epochs=2", "--config.profile=True"]
  modes = {"search": short, "train": short, "evaluate": [], "report": [], "draw": [], "describe": []}
  last = {}
  for mode, arguments in modes.items():
    done = call(f"--mode={mode}", f"--workdir={bucket}", *arguments)
    assert done.returncode == 0 and done.stderr == "", (mode, done.stderr)
    last[mode] = done.stdout.splitlines()[-1]
  result = json.loads((bucket / "result.json").read_text())
  assert json.loads(last["evaluate"])["test_error"] == result["test_error"]
  assert json.loads(last["describe"])["parameters"] == result["parameters"]
  assert (
    last["search"].split()
    == last["train"].split()
    == ["page", last["report"]]
    == ["page", f"{bucket}/report/index.html"]
  )
  found = contents(bucket)
  assert {"cells/reduction.png", "report/index.html", "search/summary.json", "tensorboard/pictures/events.out"} <= found
  traced = {name.split("/")[1] for name in found if name.startswith("profile/") and name.endswith(".xplane.pb")}
  assert traced == {"search_1", "train"}
  other = call("--mode=train", f"--workdir={bucket}/other", f"--genotype={bucket}/genotype.json", *TINY)
  assert other.returncode == 0, other.stderr
  assert (bucket / "other" / "genotype.json").read_bytes() == (bucket / "genotype.json").read_bytes()
