import json

import numpy as np
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import run_data
from tests import runs


def test_a_finished_run(tmp_path):
  read = run_data.read(runs.write(tmp_path / "run"))
  assert read.status == "done" and read.search_seconds == 185.0
  assert read.commands == ("python -m lfr_darts_jax.main --workdir='<b>runs</b>'",)
  assert [cell.name for cell in read.cells] == ["n0", "r0", "n1", "r1", "n2"] and all(c.derived for c in read.cells)
  assert list(read.training.steps) == [10, 20, 30]
  np.testing.assert_allclose(read.training.values["train_loss"], [1 / 10, 1 / 20, 1 / 30])
  assert np.all(np.isnan(read.training.values["validation_loss"]))
  assert len(read.search) == len(read.stage_results) == 5
  assert list(read.search[0].steps) == [10, 20, 30, 40]
  history = read.histories[1]["r0"]
  assert list(history.steps) == [10, 20, 30, 40] and history.prunings == ((runs.ROUND, 5),)
  assert list((history.mixtures > 0).sum(2).max(1)) == [8, 8, 5, 5]
  outcome = read.stage_results[1]["r0"]
  assert outcome.cell == read.cells[1] and outcome.entropy == 1.25 and outcome.validation_accuracy == 0.875
  assert outcome.skip_connects == read.cells[1].count("skip_connect")


def test_a_run_under_way(tmp_path):
  path = runs.write(tmp_path / "run", iterations=2)
  with (path / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "search", "itera')
  read = run_data.read(path)
  assert read.status == "in the search, iteration 3 of 5 (n1), after 40 updates"
  assert [cell.name for cell in read.cells] == ["n0", "r0"] and len(read.histories) == 3
  assert read.genotype is None and read.result is None and read.misclassified is None


@pytest.mark.parametrize(
  "stage,status",
  [
    ({"train": False, "result": False}, "a genotype, not trained yet"),
    ({"result": False}, "in the final training, after 30 updates"),
  ],
)
def test_between_search_and_test(tmp_path, stage, status):
  assert run_data.read(runs.write(tmp_path / "run", **stage)).status == status


def test_signs_of_collapse(tmp_path):
  assert run_data.read(runs.write(tmp_path / "healthy")).findings == ()
  assert run_data.read(runs.write(tmp_path / "collapsed", findings=runs.FINDINGS)).findings == runs.FINDINGS
  assert (
    run_data.read(runs.write(tmp_path / "begun", iterations=1, findings=runs.FINDINGS)).findings == runs.FINDINGS[:1]
  )


def test_two_cells_in_one_stage(tmp_path):
  read = run_data.read(runs.write(tmp_path / "run", iterations=1, plan="darts"))
  assert set(read.histories[0]) == set(read.stage_results[0]) == {"normal", "reduction"}


def test_before_the_first_step(tmp_path):
  path = runs.write(tmp_path / "run")
  for name in ("metrics.jsonl", "genotype.json", "result.json", "mistakes.npz"):
    (path / name).unlink()
  read = run_data.read(path)
  assert read.status == "begun, nothing measured yet" and read.cells == ()


def test_entropy_and_leaders_by_hand():
  mixtures = np.array([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]])
  history = run_data.AlphaHistory(np.array([1]), mixtures, ())
  np.testing.assert_allclose(history.entropy, [np.log(2) / 2])
  assert [int(history.strongest(i)[0]) for i in range(3)] == [1, 1, 0]


def test_no_run(tmp_path):
  with pytest.raises(UsageError, match=r"has no config.json; allowed is the directory of a run"):
    run_data.read(tmp_path)
  (tmp_path / "config.json").write_text(json.dumps({"no.such": 1}))
  with pytest.raises(UsageError, match=r"config.no.such: unknown field"):
    run_data.read(tmp_path)


@pytest.mark.parametrize(
  "change,message",
  [
    ({"alphas/n0": [[1.0]]}, "alphas/n0: of another shape"),
    ({"alphas/n0": 3}, "alphas/n0: Expected `array`"),
    ({"candidates/n0": [["no_such"]] * 5}, "candidates/n0: .*; allowed are lists of operations of the config"),
    ({"candidates/n0": [["none"]]}, "one for each of 5 edges"),
    ({"entropy/n0": "low"}, "entropy/n0: Expected `float`"),
    ({"collapse": [{"cell": "n0"}]}, "collapse: Object missing required field"),
    ({"iteration": 7}, "search of iterations"),
  ],
)
def test_lines_that_no_run_writes_are_refused(tmp_path, change, message):
  path = runs.write(tmp_path / "run", iterations=0)
  (path / "metrics.jsonl").unlink()
  outcome = runs.first_outcome(path) | change
  (path / "metrics.jsonl").write_text(json.dumps(outcome) + "\n")
  with pytest.raises(UsageError, match=message):
    run_data.read(path)


@pytest.mark.parametrize(
  "name,change",
  [
    ("test_error", "low"),
    ("test_error", -1),
    ("parameters", 1.5),
    ("confusion", [[1]]),
    ("confusion", [[1, 2], [3]]),
    ("class_names", ["a"]),
    ("class_errors", [None]),
    ("mean", [0.1, 0.2]),
    ("device", None),
    ("collapse", 3),
    ("data", {"source": "digits"}),
  ],
)
def test_results_that_no_run_writes_are_refused(tmp_path, name, change):
  path = runs.write(tmp_path / "run")
  result = json.loads((path / "result.json").read_text())
  (path / "result.json").write_text(json.dumps(result | {name: change}))
  with pytest.raises(UsageError, match=f"result.json: .*{name}"):
    run_data.read(path)


def test_a_result_of_an_earlier_version_is_read(tmp_path):
  path = runs.write(tmp_path / "run")
  result = json.loads((path / "result.json").read_text())
  for name in ("layers", "skipped_files", "data", "seed", "packages", "parameters_with_auxiliary"):
    result.pop(name, None)
  (path / "result.json").write_text(json.dumps(result))
  assert run_data.read(path).result.skipped_files is None
