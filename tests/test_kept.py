"""Files of a work directory that somebody else has written, or half of them: one line, and nothing is changed."""

import json
import os
import re
import shutil

import pytest

import lfr_darts_jax
from lfr_darts_jax import kept
from lfr_darts_jax import pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import page
from tests import runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  return runs.write(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def workdir(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / "run")


def contents(workdir):
  return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"}


def changed(**changes):
  """Replaces values of an object in JSON."""
  return lambda text: json.dumps(json.loads(text) | changes)


def line(**changes):
  """Replaces values of every entry that has them all."""

  def change(text):
    entries = map(json.loads, text.splitlines())
    return "".join(json.dumps(e | changes if changes.keys() <= e.keys() else e) + "\n" for e in entries)

  return change


always = lambda content: lambda text: content
truncated = lambda text: text[: len(text) // 2]
CASES = [
  ("config.json", always(""), "Expecting value"),
  ("config.json", truncated, "allowed is JSON"),
  ("config.json", always("[" * 100_000), "nested too deeply"),
  ("config.json", always("[]"), "[]; allowed is a JSON object"),
  ("config.json", lambda text: text.replace("{", '{"seed": 1,', 1), "'seed' stands twice"),
  ("config.json", changed(seed=float("nan")), "NaN is no number"),
  ("config.json", changed(**{"checkpoint.keep": "2"}), "config.checkpoint.keep: '2'; allowed are integers"),
  ("config.json", changed(**{"data.dir": "\ud800"}), "surrogate"),
  ("config.json", changed(**{"data.dir": {}}), "config.data.dir: {}"),
  ("config.json", always(" " * 1_000_001), "more than 1000000 bytes"),
  ("genotype.json", truncated, "allowed is JSON"),
  ("genotype.json", always("Genotype(normal=open('x'))"), "not a literal"),
  ("genotype.json", lambda text: text.replace('"n0"', '"../../n0"'), "'../../n0'; allowed are 1 to 32 letters"),
  ("commands.txt", always("x" * 1_000_001), "more than 1000000 bytes"),
  ("search/summary.json", always("{}"), "search_seconds: None; allowed are numbers from 0"),
  ("search/summary.json", always('{"search_seconds": 1e999}'), "search_seconds: inf"),
  ("result.json", truncated, "allowed is JSON"),
  ("result.json", changed(test_error=float("nan")), "NaN is no number"),
  ("result.json", changed(test_error="<b>"), "test_error: '<b>'; allowed are numbers from 0"),
  ("result.json", changed(parameters=1.5), "parameters: 1.5; allowed are integers from 0"),
  ("result.json", changed(search_seconds=[]), "search_seconds: []"),
  ("result.json", changed(skipped_files={}), "skipped_files: {}"),
  ("result.json", changed(mean=[1, 2]), "mean: [1, 2]; allowed are numbers from 0 in lists of shape [1]"),
  ("result.json", changed(confusion=[[1]]), "confusion: [[1]]; allowed are integers from 0 in lists of shape [6, 6]"),
  ("result.json", changed(class_names=["a"] * 5), "class_names: ['a', 'a', 'a', 'a', 'a']; allowed is a list of 6"),
  ("result.json", changed(class_names=["a"] * 5 + [3]), "class_names"),
  ("result.json", changed(class_errors=3), "class_errors: 3; allowed is a list of 6 numbers"),
  ("result.json", changed(class_errors=["a"] * 6), "class_errors: ['a', 'a', 'a', 'a', 'a', 'a']; allowed are numbers"),
  ("result.json", changed(device=None), "device: None; allowed is text"),
  ("metrics.jsonl", lambda text: "garbage\n" + text, ", line 1: Expecting value"),
  ("metrics.jsonl", lambda text: text + "null\n", "None; allowed is an object whose phase is search, train, test"),
  ("metrics.jsonl", lambda text: text + '{"phase": "x"}\n', "allowed is an object whose phase is"),
  ("metrics.jsonl", lambda text: text + " " * 1_000_001 + "\n", "1000001 characters"),
  ("metrics.jsonl", line(step=-1), "step: -1; allowed are integers from 0"),
  ("metrics.jsonl", line(step=1 << 63), "step: 9223372036854775808"),
  ("metrics.jsonl", line(iteration="0"), "iteration: '0'"),
  ("metrics.jsonl", line(iteration=7), "search of iterations [7]; allowed are those from 0 to 4"),
  ("metrics.jsonl", line(train_loss=[1]), "search, iteration 0, step 10: train_loss: [1]; allowed are numbers"),
  ("metrics.jsonl", line(**{"alphas/n0": [[0.5]]}), "alphas/n0: [[0.5]]; allowed are numbers in lists of shape [5, 8]"),
  ("metrics.jsonl", line(pruned_to="5"), "pruned_to: '5'"),
  ("metrics.jsonl", line(**{"candidates/n0": [["<script>"]] * 5}), "candidates/n0: [['<script>'],"),
  ("metrics.jsonl", line(**{"candidates/n0": [["none"]]}), "one for each of 5 edges"),
  ("metrics.jsonl", line(**{"candidates/n0": None}), "candidates/n0: None"),
  ("metrics.jsonl", line(**{"entropy/n0": None}), "entropy/n0: None"),
  ("metrics.jsonl", line(**{"skip_connects/n0": 0.5}), "skip_connects/n0: 0.5; allowed are integers"),
]


def refused(workdir, message):
  before = contents(workdir)
  config = runs.config()
  for read in (lambda: page.write(workdir), lambda: pipeline.run(config, workdir)):
    with pytest.raises(UsageError, match=message) as error:
      read()
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000
  assert contents(workdir) == before


@pytest.mark.parametrize("name,spoil,message", CASES)
def test_what_is_refused(workdir, name, spoil, message):
  path = workdir / name
  text = spoil(path.read_text())
  assert text != path.read_text()
  path.write_text(text)
  refused(workdir, f"{path.name}.*{re.escape(message)}")


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES} | {"mistakes.npz"}))
def test_bytes_that_are_no_text_and_things_that_are_no_file(workdir, name):
  path = workdir / name
  path.write_bytes(b"\xff\xfe\x00")
  refused(workdir, path.name)
  path.unlink()
  os.mkfifo(path)
  refused(workdir, f"{path.name}.*is no file")


def test_a_predictor_reads_the_same_files(workdir):
  (workdir / "result.json").write_text("{}")
  with pytest.raises(UsageError, match="result.json: test_error: None"):
    lfr_darts_jax.load(workdir)


def test_what_is_read(workdir):
  config = kept.config(workdir)
  assert config == runs.config()
  assert [cell.name for cell in kept.genotype(workdir).cells] == ["n0", "r0", "n1", "r1", "n2"]
  assert kept.search_seconds(workdir) == 185.0 and kept.update_seconds(workdir) == 95.5
  assert kept.result(workdir, config)["class_names"] == list(runs.AWKWARD)


def test_before_anything_is_there(tmp_path, config):
  assert kept.genotype(tmp_path) is kept.search_seconds(tmp_path) is kept.result(tmp_path, config) is None
