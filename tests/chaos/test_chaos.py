"""The short version of `python -m tests.chaos`."""

import json
import os
import pathlib
import shutil

import pytest

from tests.chaos import compare, table, trial
from tests.chaos.campaign import Campaign
from tests.chaos.points import POINTS
from tests.chaos.process import BUDGET, Run
from tests.chaos.strike import AFTER, BEFORE, TORN, Kill

# One iteration, which spares the suite eight compilations; a pruning is in it.
SHORT = (*BUDGET, "--config.plan.name=darts", "--config.search.layers=3")


def whole_run(workdir, arguments):
  run = Run(workdir, arguments, pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))
  process = run.go_on()
  assert process.status == 0 and process.errors == ""
  return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing disturbed."""
  return whole_run(tmp_path_factory.mktemp("whole") / "run", (*SHORT, "--config.checkpoint.interval=0"))


@pytest.mark.slow
def test_a_run_killed_in_a_checkpoint_a_pruning_and_an_update_ends_the_same(whole, tmp_path):
  kills = (Kill("search checkpoint, rename", 1, BEFORE), Kill("pruning", 1, AFTER), Kill("training update", 3, 0.01))
  run = Run(tmp_path / "run", SHORT, whole.cache)
  outcome = trial.execute(trial.Plan(0.0, kills), run, whole.workdir)
  assert outcome["problems"] == [] and len(outcome["kills"]) == 3


@pytest.mark.slow
def test_what_differs_is_seen(whole, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(whole.workdir, other)
  assert compare.differences(other, whole.workdir) == []
  result = json.loads((other / "result.json").read_text())
  (other / "result.json").write_text(json.dumps(result | {"test_error": 99.0, "train_seconds": 0.0}))
  (other / "search" / ".summary.json.partial").write_text("")
  (other / "metrics.jsonl").write_text("")
  # Without the newest, the one before it counts.
  shutil.rmtree(max((other / "checkpoints").iterdir(), key=lambda path: int(path.name)))
  found = compare.differences(other, whole.workdir)
  assert found[:2] == ["metrics.jsonl differs", "test_error of the result differs"]
  assert "['params']['classifier']['kernel'] of the final state differs" in found
  assert found[-1] == "search/.summary.json.partial is left"


@pytest.mark.long
def test_every_point_is_one_at_which_a_run_can_be_killed(tmp_path):
  whole = whole_run(tmp_path / "whole", BUDGET)
  moment = lambda point: TORN if point.torn else AFTER if point.seconds is None else point.seconds / 2
  plan = trial.Plan(0.0, tuple(Kill(name, 1, moment(point)) for name, point in POINTS.items()))
  outcome = trial.execute(plan, Run(tmp_path / "run", BUDGET, whole.cache), whole.workdir)
  assert outcome["problems"] == [] and [kill["point"] for kill in outcome["kills"]] == list(POINTS)


def test_a_campaign_goes_on_where_its_log_ends(tmp_path, monkeypatch):
  def execute(plan, run, reference):
    kill = {"point": "page", "signal": plan.kills[0].signal, "lost": 1.5, "unsaved": 0.0}
    return {"interval": plan.interval, "kills": [kill, kill], "problems": ["genotype.json differs"] * (not told)}

  monkeypatch.setattr(trial, "execute", execute)
  (tmp_path / "log.jsonl").write_text(json.dumps({"seed": 3, "cold": 90.0, "warm": 30.0, "gap": 4.0}) + "\n")
  told = []
  for kills in (3, 5):
    campaign = Campaign(tmp_path, 3)
    campaign.measure()
    campaign.go_on(kills, 1, told.append)
  assert campaign.kills == 6 and len(told) == 3 and sorted(campaign.trials) == [0, 1, 2]
  *_, row, total = table.lines(campaign.reference, campaign.trials.values())
  assert row.startswith("| page | 6 | ") and row.endswith("| 4 | 1.5 s | 1.5 s | 0.0 s |")
  assert total.startswith("| all | 6 |")
  with pytest.raises(ValueError, match="of seed 3, not 4"):
    Campaign(tmp_path, 4)
