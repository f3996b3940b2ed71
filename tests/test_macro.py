"""The study on NAS-Bench-Macro: networks that are the same, chance, scores; a search of toy size to its tables."""

import json
import re

import numpy as np
import pytest

from experiments import macro_space, macro_study, macro_tables
from experiments.macro_space import Table
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search_space import formats

CODES = macro_space.codes()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A benchmark whose accuracy is 80 and a tenth of the sum of the digits, in two trainings."""
  path = tmp_path_factory.mktemp("table") / "table.json"
  sums = {code: sum(map(int, code)) for code in CODES}
  rows = {
    code: {
      "test_acc": [80.0, 80 + total / 5],
      "params": 400_000 + 80_000 * total,
      "flops": 7_000_000 + 5_000_000 * total,
    }
    for code, total in sums.items()
  }
  path.write_text(json.dumps(rows))
  return Table.read(path)


def test_codes():
  assert len(CODES) == len(set(CODES)) == 6561
  assert CODES[:4] == ["00000000", "00000001", "00000002", "00000010"]
  assert macro_space.code(formats.parse("22212220")) == "22212220"


def test_codes_of_one_network():
  # Sections of 2, 3 and 3: behind the first of each, identities may stand anywhere.
  assert macro_space.canonical("01002012") == "01020012"
  assert macro_space.canonical("00102021") == "00120021"
  assert macro_space.canonical("22101202") == "22110220"
  assert len({macro_space.canonical(code) for code in CODES}) == 3969


def test_scores_and_ranking(table):
  strengths = np.array([[1, 2, 4]] * 8) / 7
  scores = macro_space.scores(strengths)
  assert scores[CODES.index("00000012")] - scores[0] == pytest.approx(np.log(2) + np.log(4))
  assert [round(macro_space.tau(scores, table, name), 6) for name in macro_space.SUBSETS] == [1, 1, 1]
  assert macro_space.tau(-scores, table, "all") == pytest.approx(-1)
  assert [int(of().sum()) for of in macro_space.SUBSETS.values()] == [6561, 1280, 256]


def test_what_the_table_says(table):
  assert table.runs == 2
  assert table.of("22222222") == pytest.approx(81.6)
  # 60 M allow a sum of ten.
  assert table.best("60M") == pytest.approx(81.0)
  everywhere = np.isin(CODES, macro_tables.REPEATED)
  assert table.best("60M", everywhere) == pytest.approx(80.8)
  mean, deviation, ten = table.chance("60M")
  # Of sums of ten alone, from 55 to 60 M.
  assert (mean, ten) == (pytest.approx(81.0), pytest.approx(81.0))
  assert deviation == pytest.approx(0, abs=1e-9)


def test_the_best_of_ten_by_drawing(table):
  allowed = table.accuracy[table.within("60M") & (table.costs["multiply_adds"] > 20e6)]
  rng = np.random.default_rng(0)
  drawn = np.mean([rng.choice(allowed, 10, replace=False).max() for _ in range(20_000)])
  assert table.chance("60M", 40 / 60)[2] == pytest.approx(drawn, abs=0.01)


def test_other_tables_are_refused(tmp_path):
  path = tmp_path / "table.json"
  path.write_text('{"00000000": {"test_acc": [50.0], "params": 1, "flops": 1}}')
  with pytest.raises(UsageError, match="holds 1 networks"):
    Table.read(path)


def test_configs_of_the_jobs():
  for job in (job for group in macro_study.GROUPS.values() for job in group):
    config = macro_study.config_of(job, None)
    stages = len(macro_study.plans.make(config).stages)
    assert config.search.epochs * stages == macro_study.EPOCHS, job
    assert (config.search.channels, config.network.channels) == (8, 32)
    assert bool(config.search.price_rate) == bool(job.priced)
  jobs = macro_study.GROUPS["main"]
  assert len({(job.method, job.seed) for job in jobs}) == len(jobs) == 24
  assert len(macro_study.GROUPS["priced"]) == 20


def line(plan, seed, code, strengths):
  method = f"{plan}, sampled"
  return {
    "method": method,
    "relaxation": "sampled",
    "seed": seed,
    "search_seconds": 10.0 + seed,
    "found": dict.fromkeys(macro_space.BUDGETS, code),
    "found_by_alphas": dict.fromkeys(macro_space.BUDGETS, "00000000"),
    "strengths": strengths,
    "alphas": [[4 / 7, 2 / 7, 1 / 7]] * 8,
    "supernet_accuracy": [float(sum(map(int, c))) for c in macro_study.CODES],
    "scores": f"scores/{plan}_{seed}.npy",
  }


def test_tables_and_plots(tmp_path, table):
  strengths = [[1 / 7, 2 / 7, 4 / 7]] * 8
  own = [line("lfr_darts", s, "11111111" if s else "21111111", strengths) for s in range(3)]
  own += [line("joint", s, "01111111", strengths) for s in range(3)]
  (tmp_path / "main.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
  for one in own:
    macro_study.save_scores(tmp_path / one["scores"], macro_space.scores(strengths))
  assert [path.name for path in macro_tables.write(tmp_path, table)] == ["README.md", "spending.png"]
  text = (tmp_path / "README.md").read_text()
  assert "| weights | 1.000 | 1.000 | 1.000 |" in text
  assert "| fitted to the accuracies | 1.000 | 1.000 | 1.000 |" in text
  # All that have no identity have eight blocks.
  assert re.search(r"\| number of blocks \| 0.[0-9]{3} \| 0.[0-9]{3} \|  \|", text)
  assert "| lfr_darts, sampled, measured | 3 | 11 ± 1 | 1.000 ± 0.000 |" in text
  assert "| lfr_darts, sampled, alphas | 3 | 11 ± 1 | -" in text
  # 80.8 and once 80.9, less 80.7.
  assert "| joint | +0.13 [+0.10, +0.20] |" in text
  assert "| repeated | +0.03 [+0.00, +0.10] |" in text
