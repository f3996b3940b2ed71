import json
import pathlib
import subprocess
import sys

import pytest

from lfr_darts_jax import pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.search.derive import derive
from lfr_darts_jax.search_space import formats
from tests.conftest import tiny_config
from tests.test_chain import small

ROOT = pathlib.Path(__file__).parents[1]


def within(config, limit):
  """The config with a budget, None for none."""
  config = config.copy_and_resolve_references()
  config.search.budget = () if limit is None else (("multiply_adds", limit),)
  return config


@pytest.fixture(scope="module")
def free(tmp_path_factory):
  """A layered search without a budget: its config, its work directory and its genotype."""
  config, workdir = tiny_config(), tmp_path_factory.mktemp("free")
  config.prune.rounds = ((0.5, 4),)
  return config, workdir, pipeline.search(config, workdir)


def test_without_another_budget_it_is_the_searchs_own(free):
  _, workdir, genotype = free
  assert derive(workdir) == genotype


def test_a_budget_is_kept_by_the_strongest_network(free):
  config, workdir, genotype = free
  whole = pipeline.describe(config, genotype)["multiply_adds"]
  assert derive(workdir, within(config, whole)) == genotype
  tight = derive(workdir, within(config, 0.8 * whole))
  assert tight != genotype and pipeline.describe(config, tight)["multiply_adds"] <= 0.8 * whole
  with pytest.raises(UsageError, match="the smallest network of this space has"):
    derive(workdir, within(config, 1.0))
  wider = config.copy_and_resolve_references()
  wider.network.channels *= 2
  narrow = derive(workdir, within(wider, 2.5 * whole))
  assert pipeline.describe(wider, narrow)["multiply_adds"] <= 2.5 * whole


@pytest.mark.slow
@pytest.mark.parametrize("config", [tiny_config(), small(**{"search.measured_batches": 4})], ids=["cells", "chain"])
def test_it_is_what_a_search_under_that_budget_finds(tmp_path, config, capsys):
  limits = (8_000, 20_000) if config.space.name == "mobile" else (100_000, 150_000)
  found = [pipeline.search(within(config, limit), tmp_path / str(limit)) for limit in limits]
  assert [derive(tmp_path / str(limits[0]), within(config, limit)) for limit in limits] == found
  assert found[0] != found[1]
  said = capsys.readouterr().out
  if config.space.name == "mobile":
    assert "l0: weights trained\n" in said and "entropy" not in said  # Its alphas never move.
  else:
    assert formats.parse(said) == found[1]  # What the stages ended with is told too, and is not what was chosen.


def test_what_holds_no_strengths_is_refused(free, tmp_path):
  config, workdir, _ = free
  with pytest.raises(UsageError, match="has no config.json"):
    derive(tmp_path)
  with pytest.raises(UsageError, match="holds no finished search"):
    derive(tmp_path, config)
  other = config.copy_and_resolve_references()
  other.plan.name = "darts"
  with pytest.raises(UsageError, match="lacks strengths of the plan's cells"):
    derive(workdir, other)
  older = json.loads((workdir / workdirs.SEARCH_SUMMARY).read_text())
  del older["strengths"]
  (tmp_path / "search").mkdir()
  (tmp_path / workdirs.SEARCH_SUMMARY).write_text(json.dumps(older))
  with pytest.raises(UsageError, match="lacks strengths of the plan's cells"):
    derive(tmp_path, config)


def test_the_mode_prints_a_genotype_or_one_line(free, tmp_path):
  config, workdir, genotype = free
  call = lambda *flags: subprocess.run(
    [sys.executable, "-m", "lfr_darts_jax.main", "--mode=derive", *flags], capture_output=True, text=True, cwd=ROOT
  )
  before = sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*"))
  limit = 0.8 * pipeline.describe(config, genotype)["multiply_adds"]
  done = call(f"--workdir={workdir}", f"--config.search.budget=(('multiply_adds', {limit}),)")
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout == derive(workdir, within(config, limit)).to_json()
  done = call(f"--workdir={workdir}", f"--output={tmp_path / 'new' / 'genotype.json'}")
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
  assert (tmp_path / "new" / "genotype.json").read_text() == (workdir / "genotype.json").read_text()
  for flags, said in (
    ([f"--workdir={tmp_path}"], "holds no finished search"),
    ([f"--workdir={workdir}", "--config.search.epochs=2"], "config.search.epochs: --mode=derive does not use it"),
    ([f"--workdir={workdir}", "--config.search.budget=(('latency', 1.0),)"], "config.search.costs: None; allowed is"),
  ):
    done = call(*flags)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
  assert before == sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*"))
