import json

import numpy as np
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import record
from tests import runs


def test_a_finished_run(tmp_path):
  read = record.read(runs.write(tmp_path / "run"))
  assert read.status == "done" and read.search_seconds == 185.0
  assert read.commands == ("python -m lfr_darts_jax.main --workdir='<b>runs</b>'",)
  assert [cell.name for cell in read.cells] == ["n0", "r0", "n1", "r1", "n2"] and all(c.derived for c in read.cells)
  assert list(read.training.steps) == [10, 20, 30]
  np.testing.assert_allclose(read.training.values["train_loss"], [1 / 10, 1 / 20, 1 / 30])
  assert np.all(np.isnan(read.training.values["validation_loss"]))
  assert len(read.search) == len(read.outcomes) == 5
  assert list(read.search[0].steps) == [10, 20, 30, 40]
  course = read.courses[1]["r0"]
  assert list(course.steps) == [10, 20, 30, 40] and course.prunings == ((runs.ROUND, 5),)
  assert list((course.weights > 0).sum(2).max(1)) == [8, 8, 5, 5]
  outcome = read.outcomes[1]["r0"]
  assert outcome.cell == read.cells[1] and outcome.entropy == 1.25 and outcome.validation_accuracy == 0.875
  assert outcome.skip_connects == read.cells[1].count("skip_connect")


def test_a_run_under_way(tmp_path):
  path = runs.write(tmp_path / "run", iterations=2)
  with (path / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "search", "itera')
  read = record.read(path)
  assert read.status == "in the search, iteration 3 of 5 (n1), after 40 updates"
  assert [cell.name for cell in read.cells] == ["n0", "r0"] and len(read.courses) == 3
  assert read.genotype is None and read.result is None and read.mistakes is None


@pytest.mark.parametrize(
  "stage,status",
  [
    ({"train": False, "result": False}, "a genotype, not trained yet"),
    ({"result": False}, "in the final training, after 30 updates"),
  ],
)
def test_between_search_and_test(tmp_path, stage, status):
  assert record.read(runs.write(tmp_path / "run", **stage)).status == status


def test_signs_of_collapse(tmp_path):
  assert record.read(runs.write(tmp_path / "healthy")).findings == ()
  assert record.read(runs.write(tmp_path / "collapsed", findings=runs.FINDINGS)).findings == runs.FINDINGS
  assert record.read(runs.write(tmp_path / "begun", iterations=1, findings=runs.FINDINGS)).findings == runs.FINDINGS[:1]


def test_two_cells_in_one_iteration(tmp_path):
  read = record.read(runs.write(tmp_path / "run", iterations=1, plan="darts"))
  assert set(read.courses[0]) == set(read.outcomes[0]) == {"normal", "reduction"}


def test_before_the_first_update(tmp_path):
  path = runs.write(tmp_path / "run")
  for name in ("metrics.jsonl", "genotype.json", "result.json", "mistakes.npz"):
    (path / name).unlink()
  read = record.read(path)
  assert read.status == "begun, nothing measured yet" and read.cells == ()


def test_entropy_and_leaders_by_hand():
  weights = np.array([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]])
  course = record.Course(np.array([1]), weights, ())
  np.testing.assert_allclose(course.entropy, [np.log(2) / 2])
  assert [int(course.strongest(i)[0]) for i in range(3)] == [1, 1, 0]


def test_no_run(tmp_path):
  with pytest.raises(UsageError, match=r"has no config.json; allowed is the directory of a run"):
    record.read(tmp_path)
  (tmp_path / "config.json").write_text(json.dumps({"no.such": 1}))
  with pytest.raises(UsageError, match=r"config.no.such: unknown field"):
    record.read(tmp_path)
