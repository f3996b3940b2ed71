import dataclasses
import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
  claims,
  compare,
  comparisons,
  figures,
  lines,
  methods,
  noise,
  pages,
  plots,
  ranking,
  study as studies,
  tables,
  watched,
)
from experiments.study import Group, Ranking, Study
from lfr_darts_jax import pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search.objective import Batch, Objective, supernet_loss
from lfr_darts_jax.search.state import Alphas, SearchState
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.formats import DARTS_V2

FOLDER = pathlib.Path(__file__).parents[1] / "experiments"
STUDIES = [path for path in FOLDER.glob("*.py") if "def get_study" in path.read_text()]


@pytest.fixture
def study(config):
  config.search.operations = ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3")
  groups = {
    "pilot": Group({"darts_v2": 2}, {"data.validation_fraction": 0.2}),
    "main": Group({"lfr_darts": 1, "random_layered": 2}),
    "matched": Group({"lfr_darts": 1, "random_layered": 2}, match="main"),
  }
  held_out = {"data.validation_fraction": 0.2}
  return Study("tiny", config, 15, groups, Ranking("r0", 2, held_out), Group({"all_at_once": 1}, held_out))


def line(method, seed, error=10.0, parameters=1000, genotype=DARTS_V2, **more):
  common = {"search_seconds": 100.0, "update_seconds": 60.0, "multiply_adds": 5, "device": "cpu"}
  found = {"method": method, "seed": seed, "test_error": error, "parameters": parameters}
  return common | found | {"genotype": json.loads(genotype.to_json())} | more


def test_every_search_has_the_same_epochs(study):
  epochs = {name: studies.method_config(study, name, 3, {}).search.epochs for name in methods.METHODS}
  plan = lambda name: methods.METHODS[name].overrides.get("plan.name", "lfr_darts")
  by_plan = {"lfr_darts": 3, "pdarts": 5, "darts": 15, "joint": 15, "per_layer": 15}
  assert epochs == {name: by_plan[plan(name)] for name in methods.METHODS}
  pdarts = studies.method_config(study, "pdarts", 0, {}).search
  assert (pdarts.min_learning_rate, pdarts.alpha_gradient_clip, pdarts.alpha_learning_rate) == (0.0, 5.0, None)
  config = studies.method_config(study, "lfr_darts_order2", 3, {"train.epochs": 7})
  assert (config.seed, config.search.order, config.train.epochs) == (3, 2, 7)
  assert study.config.seed == 0 and study.config.search.order == 1
  with pytest.raises(UsageError, match="search_epochs: 16; pdarts allows multiples of 3"):
    studies.method_config(Study("s", study.config, 16, {}), "pdarts", 0, {})


def test_random_genotypes_are_drawn_evenly(config):
  config.search.operations = ("none", "skip_connect", "sep_conv_3x3")
  config.search.nodes = 2
  drawn = [methods.random_genotype(config, seed) for seed in range(300)]
  assert drawn[0] == methods.random_genotype(config, 0) and [c.name for c in drawn[0].cells][:2] == ["n0", "r0"]
  # Node 3 has three pairs of sources; each connection one of two operations.
  pairs = [tuple(s for s, target, _ in genotype.cells[0].connections if target == 3) for genotype in drawn]
  assert all(70 <= pairs.count(pair) <= 130 for pair in ((0, 1), (0, 2), (1, 2)))
  assert 0.45 < np.mean([genotype.cells[1].count("skip_connect") / 4 for genotype in drawn]) < 0.55


def test_jobs_go_seed_by_seed(study):
  made = list(studies.jobs(study, "main", {}))
  assert [job.place for job in made] == ["main/lfr_darts/0", "main/random_layered/0", "main/random_layered/1"]
  assert made[0].genotype is None and made[1].genotype != made[2].genotype
  (first, second) = studies.jobs(study, "pilot", {})
  assert first.genotype == second.genotype == DARTS_V2 and second.config.seed == 1
  assert first.config.data.validation_fraction == 0.2


def test_networks_of_another_size_are_matched(study):
  small = methods.random_genotype(study.config, 0)

  def size(channels):
    study.config.network.channels = channels
    return pipeline.describe(study.config, small)["parameters"]

  wanted, base = size(9), size(4)
  main = [
    line("lfr_darts", 0, parameters=wanted),
    line("random_layered", 0, parameters=base, genotype=small),
    line("random_layered", 1, parameters=round(wanted * 1.04)),
  ]
  (job,) = studies.jobs(study, "matched", {"main": main})
  assert (job.place, job.config.network.channels, job.genotype) == ("matched/random_layered/0", 9, small)
  assert job.line is None
  near = line("random_layered", 0, parameters=round(size(4) * 1.06), genotype=small)
  (job,) = studies.jobs(study, "matched", {"main": [line("lfr_darts", 0, parameters=base), near]})
  assert (job.config.network.channels, job.line) == (4, near)  # No other number of channels comes closer.
  table = comparisons.matched([line("random_layered", 0, 12.0, parameters=wanted)], main)
  assert [row[:3] for row in table.rows] == [("lfr_darts", "1", "10.00"), ("random_layered", "2", "11.00 ± 1.41")]
  searched = [line("lfr_darts", 0, search_seconds=8.0), line("lfr_darts", 1, parameters=2000, search_seconds=40.0)]
  (row,) = comparisons.matched([line("lfr_darts", 1, search_seconds=0.0)], searched).rows
  assert row[5] == "24"  # Of the searches, though none came before the second training.
  with pytest.raises(UsageError, match="there is no lfr_darts yet"):
    list(studies.jobs(study, "matched", {"main": []}))


def test_lines_are_read_back_and_checked(tmp_path):
  path = tmp_path / "some" / "main.jsonl"
  assert lines.read(path) == []
  lines.add(path, [line("darts", 0)])
  lines.add(path, [line("darts", 1), line("joint", 0)])
  assert [(entry["method"], entry["seed"]) for entry in lines.read(path)] == [("darts", 0), ("darts", 1), ("joint", 0)]
  for text in ("[]", '{"seed": 1}', '{"method": "darts", "seed": -1}', '{"method": "darts", "seed": 0, "genotype": 5}'):
    path.write_text(text + "\n")
    with pytest.raises(UsageError, match=r"main.jsonl, line 1|genotype"):
      lines.read(path)


def test_differences_and_their_intervals():
  assert figures.deviation([1.0]) is None and figures.deviation([1.0, 3.0]) == pytest.approx(2**0.5)
  gap = figures.difference([11.0, 13.0], [8.0, 8.0])
  # Means of two out of two: 11, 12, 12, 13.
  assert tuple(gap) == pytest.approx((4.0, 3.0, 5.0))
  assert figures.difference([11.0], [8.0, 9.0]) is None
  # 2 (1.96 + 0.84)^2 = 15.7 per side where the gap is one deviation.
  assert figures.seeds_needed(1.0, 1.0) == 16 and figures.seeds_needed(1.0, 0.5) == 63


def test_rank_correlation():
  tau = figures.kendall([1, 2, 3, 4], [1, 2, 4, 3])
  assert tau.value == pytest.approx(4 / 6) and -1 <= tau.low <= tau.value <= tau.high <= 1  # Five pairs of six agree.
  assert tuple(figures.kendall(range(12), range(12))) == pytest.approx((1, 1, 1))
  only = line("n1", 0, supernet_accuracy=0.25)
  table = tables.ranking([only])
  assert "tau none yet" in table.note and table.rows == [("0", "25.00", "90.00", "1,000")]


def test_agreement_of_two_seeds():
  first = CellSpec(
    "n0", "normal", (("skip_connect",), ("max_pool_3x3",), ("skip_connect",), ("skip_connect",), ()), (2, 3)
  )
  other = CellSpec(
    "n0", "normal", (("skip_connect",), ("skip_connect",), (), ("skip_connect",), ("skip_connect",)), (2, 3)
  )
  results = [
    {"method": "m", "seed": seed, "genotype": json.loads(methods.Genotype((cell,)).to_json())}
    for seed, cell in enumerate((first, other))
  ]
  # Three of four connections are in both, and two of these with the same operation.
  assert tuple(figures.agreement(results, "m")) == pytest.approx((3 / 4, 2 / 3))
  assert figures.agreement(results[:1], "m") is None
  assert figures.operations(results, "m") == {"n0": {"skip_connect": 3.5, "max_pool_3x3": 0.5}}
  assert figures.dominated(results[0]) == ["n0"]
  # Where a connection has two operations: three connections in both, two of them with the same ones.
  two = (("skip_connect", "max_pool_3x3"), ("max_pool_3x3",), ("skip_connect",), (), ())
  both = methods.Genotype((CellSpec("n0", "normal", two, (2, 3), parallel=True),))
  results[1]["genotype"] = json.loads(both.to_json())
  assert tuple(figures.agreement(results, "m")) == pytest.approx((3 / 4, 2 / 3))
  assert figures.operations(results, "m") == {"n0": {"skip_connect": 2.5, "max_pool_3x3": 1.5}}


def test_agreement_of_two_seeds_mixtures():
  end = lambda seed, cell, mixtures: {"method": "m", "seed": seed, "cell": cell, "mixtures": mixtures}
  first, other = [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]], [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]]
  courses = [end(0, "n0", first), end(0, "r0", other), end(0, "r0", first), end(1, "n0", first)]
  assert figures.mixtures(courses[:3], "m") is None
  assert figures.mixtures(courses, "m") == pytest.approx(1)  # Only `n0` has two seeds.
  alike = figures.mixtures([*courses, end(1, "r0", first)], "m")
  assert alike == pytest.approx(1)  # The last of seed 0's two iterations counts.
  # (1 + -0.7948) / 2
  assert figures.mixtures([*courses, end(1, "r0", other)], "m") == pytest.approx(0.1026, abs=1e-4)


def test_tables_name_every_seed_and_the_difference():
  results = [line("lfr_darts", 0, 8.0), line("lfr_darts", 1, 8.0), line("darts", 1, 13.0), line("darts", 0, 11.0)]
  results.append(line("darts_v2", 0, 9.0, search_seconds=0.0, update_seconds=0.0, device="NVIDIA H200"))
  table = comparisons.comparison("main", results)
  assert table.rows == [
    ("lfr_darts", "2", "8.00 ± 0.00", "", "1,000", "100", "60", "8.00 8.00"),
    ("darts", "2", "12.00 ± 1.41", "+4.00 [+3.00, +5.00]", "1,000", "100", "60", "11.00 13.00"),
    ("darts_v2", "1", "9.00", "", "1,000", "none", "none", "9.00"),
  ]
  assert table.note.endswith("Trained on NVIDIA H200 (1), cpu (4).")


def test_all_searches_against_chance():
  main = [
    line("lfr_darts", 0, 10.0),
    line("darts", 0, 11.0, parameters=2000),
    line("random_layered", 0, 13.0),
    line("random_repeated", 0, 16.0),
    line("darts_v2", 0, 90.0),
  ]
  table = comparisons.chance(main, [line("darts", 0, 14.0)])
  alike, equal = table.rows
  assert alike[:5] == ("as they are", "2", "10.50 ± 0.71", "2", "14.50 ± 2.12")
  assert alike[5].startswith("-4.00 [-6.00, ")
  assert equal[:5] == ("at equal parameters", "2", "12.00 ± 2.83", "2", "14.50 ± 2.12")
  assert comparisons.chance(main[:2], []).rows == [("as they are", "2", "10.50 ± 0.71", "0", "", "none yet")]


def test_searches_under_a_budget_against_chance_under_the_same():
  results = [
    line("darts_60", 0, 10.0, multiply_adds=2e6),
    line("random_darts_60", 0, 13.0, multiply_adds=1e6),
    line("darts_60", 1, 12.0, multiply_adds=4e6),
    line("random_darts_60", 1, 13.0, multiply_adds=3e6),
    line("darts_60", 2, 90.0),  # Its chance is not done yet.
    line("lfr_darts_80", 0, 20.0, multiply_adds=1e6),
    line("random_lfr_darts_80", 0, 19.0, multiply_adds=1e6),
  ]
  few, several, both = comparisons.within(results).rows
  assert few == ("lfr_darts_80", "1", "1.00", "1.00", "20.00", "19.00", "none yet")
  assert several == ("darts_60", "2", "3.00", "2.00", "11.00", "13.00", "-2.00 [-3.00, -1.00]")
  assert both[:6] == ("all", "3", "2.33", "1.67", "14.00", "15.00") and both[6].startswith("-1.00 [-3.00, ")


def test_a_budget_is_a_share_of_what_was_chosen_freely(study):
  group = Group({"lfr_darts_60": 1, "random_lfr_darts_60": 1})
  study = dataclasses.replace(study, groups={"main": Group({"lfr_darts": 1}), "within": group})
  assert not list(studies.jobs(study, "within", {}))
  free = methods.random_genotype(study.config, 0)
  cost = pipeline.describe(study.config, free)["multiply_adds"]
  found = {"main": [line("lfr_darts", 0, genotype=free, multiply_adds=1.8 * cost)]}
  searched, drawn = studies.jobs(study, "within", found)
  for job in (searched, drawn):
    assert job.config.search.budget == (("multiply_adds", pytest.approx(0.6 * 1.8 * cost)),)
  assert searched.genotype is None
  assert pipeline.describe(study.config, drawn.genotype)["multiply_adds"] <= 0.6 * 1.8 * cost


@pytest.mark.slow
def test_a_budget_needs_no_search_of_its_own(study, tmp_path):
  groups = {"main": Group({"darts": 1}), "within": Group({"darts_80": 1})}
  study = dataclasses.replace(study, groups=groups)
  (job,) = studies.jobs(study, "main", {})
  free, _ = compare.runner.run(job, tmp_path / "runs")
  (job,) = studies.jobs(study, "within", {"main": [free]})
  taken, course = compare.runner.run(job, tmp_path / "runs")
  assert course == [] and taken["search_seconds"] == free["search_seconds"] and taken["updates"] == free["updates"]
  assert taken["multiply_adds"] <= 0.8 * free["multiply_adds"]
  searched, course = compare.runner.run(job, tmp_path / "elsewhere")  # Where the other's search is not.
  assert course and all(searched[key] == taken[key] for key in ("genotype", "test_error", "multiply_adds"))


def test_the_mechanisms_of_methods():
  more = {"updates": 30, "search_peak_bytes": 2**21}
  course = {"method": "gdas", "entropy": [1.0, 0.5]}
  table = tables.mechanisms(
    [line("gdas", 0, **more), line("gdas", 1, 20.0, **more)], [course, course | {"entropy": [0.7]}]
  )
  # DARTS_V2 has two skip_connects in its normal cell of eight, and three in the other.
  assert table.rows == [
    ("gdas", methods.METHODS["gdas"].meaning, "2.000", "2", "0.600", "0.31", "100 %, 100 %", "0.00", "15.00")
  ]


def test_a_method_looks_alike_in_every_study():
  def looks(*shown):
    drawn = plots.errors([line(method, 0) for method in shown], "parameters", "parameters").axes[0].lines
    return {one.get_label(): (one.get_color(), one.get_marker()) for one in drawn}

  assert looks("darts")["darts"] == looks("lfr_darts", "joint", "darts")["darts"]
  assert len(set(looks(*methods.METHODS).values()) - {looks("darts")["darts"]}) > 6


def test_traits_of_random_formats():
  results = [line("random_layered", seed, 10.0 - seed, 1000 + 100 * seed, multiply_adds=9 - seed) for seed in range(4)]
  rows = dict(tables.traits(results).rows)
  assert rows["parameters"].startswith("1.00") and rows["multiply-adds"].startswith("-1.00")
  assert rows["skip_connect"].startswith("0.00")  # All of them have as many.


def test_a_derived_cell_is_drawn_once(config):
  cell = CellSpec.full("n0", "normal", 1, ("none", "skip_connect", "max_pool_3x3"))
  drawn = ranking.draw(cell, 4, np.random.default_rng(0))  # Two operations on each of two edges: all there are.
  assert len(set(drawn)) == 4 and all(c.derived for c in drawn)


def test_gradients_by_every_batch(x64, supernet):
  net = supernet(layout=("n0",), nodes=1, channels=2)
  key = jax.random.PRNGKey(0)
  state = SearchState(jnp.int32(3), net.params, net.batch_stats, net.alphas, net.mask, (), (), key)
  images, labels = jnp.stack([net.images, net.images[:, ::-1] + 0.5]), jnp.stack([net.labels, net.labels[::-1]])
  found = noise.gradients(net.network, state, (images, labels))["n0"]
  direction = np.random.default_rng(1).normal(size=net.alphas["n0"].operations.shape)
  loss = jax.jit(functools.partial(supernet_loss, net.network, Objective(), net.mask))
  for by_batch, *batch in zip(found, images, labels, strict=True):
    moved = lambda e: {"n0": Alphas(net.alphas["n0"].operations + e * direction)}
    at = lambda e: loss(net.params, moved(e), net.batch_stats, Batch(*batch, key))[0]
    assert np.sum(by_batch * direction) == pytest.approx(float(at(1e-4) - at(-1e-4)) / 2e-4, rel=1e-4)


def test_held_out_images_in_whole_batches():
  images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4, 1)
  dataset = types.SimpleNamespace(train=(images, None), test=lambda: (images, np.arange(5)))
  normal, labels = watched.batches(dataset, 2)
  assert normal.shape == (2, 2, 4, 4, 1) and labels.tolist() == [[0, 1], [2, 3]]
  np.testing.assert_allclose(normal.ravel(), (np.arange(64) - 39.5) / np.arange(80).std(), atol=1e-5)


def test_noise_is_set_beside_the_updates():
  measured = {"method": "darts", "seed": 0, "layers": 5, "batches": 9, "alpha_updates": 48}
  results = [measured | {"cell": "normal", "noise_scale": 16.71}, measured | {"cell": "reduction", "noise_scale": None}]
  table = tables.noise(results)
  assert [row[3:] for row in table.rows] == [("normal", "16.7", "48"), ("reduction", "hidden", "48")]


def test_noise_scale():
  rng = np.random.default_rng(0)
  around = lambda *mean: rng.normal(mean, 2.0, (100_000, 2))
  # Two variances of four against a squared norm of 0.25.
  assert noise.scale(around(0.3, 0.4)) == pytest.approx(32, rel=0.1)
  assert noise.scale(np.array([[1.0], [-1.0]])) is None


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_tables_of_the_results_here_are_made_of_their_lines(path, tmp_path):
  made = compare.load(path)
  kept = FOLDER / "results" / made.name
  if not kept.exists():
    pytest.skip("has no results yet")
  (tmp_path / made.name).mkdir()
  for file in kept.glob("*.jsonl"):
    shutil.copy(file, tmp_path / made.name)
  found = compare.found(made, tmp_path)
  markdown, _ = pages.write(made, found, tmp_path / made.name)
  assert markdown.read_text() == (kept / "README.md").read_text()
  for results in found.values():
    names = ("method", "seed", "group", "iteration", "cell")
    keys = [tuple(entry.get(name) for name in names) for entry in results]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
  "flags,message",
  [
    (["--study=nowhere.py"], "study: nowhere.py is not there"),
    (["--study=configs/laptop.py"], "has no get_study"),
    (["--study=experiments/cifar10_laptop.py", "--groups=mian"], "groups: mian; allowed are pilot, main"),
    (["--study=experiments/cifar10_laptop.py", "--repeat=x/y/0"], "repeat: x/y/0; allowed is GROUP/METHOD/SEED"),
    (["--study=experiments/cifar10_laptop.py", "--repeat=main/no/0"], "repeat: main/no/0 has no result yet"),
  ],
)
def test_wrong_flags(flags, message, monkeypatch, capsys):
  monkeypatch.chdir(FOLDER.parent)
  monkeypatch.setattr("sys.argv", ["compare", *flags])
  with pytest.raises(SystemExit, match="2"):
    compare.run()
  assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(FOLDER.parent)
  (tmp_path / "file").touch()
  study = "experiments/cifar10_laptop.py"
  monkeypatch.setattr("sys.argv", ["compare", f"--study={study}", "--tables", f"--results={tmp_path / 'file'}"])
  with pytest.raises(SystemExit, match="1"):
    compare.run()
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("compare: NotADirectoryError") and str(tmp_path / "file") in line


def test_several_processes_share_the_jobs(study, tmp_path, monkeypatch, capsys):
  results = tmp_path / "results"
  path = results / "tiny" / "main.jsonl"
  began = []

  def run(job, workdir):
    began.append(job.place)
    with claims.claim(workdir / job.place) as mine:
      assert not mine
    if job.place == "main/lfr_darts/0":  # Another process ends one meanwhile.
      lines.add(path, [line("random_layered", 0, more=True)])
    return line(job.method, job.seed), []

  monkeypatch.setattr(compare.runner, "run", run)
  with claims.claim(tmp_path / "main/random_layered/1") as mine:
    assert mine
    compare.run_group(study, "matched", tmp_path, results)
    assert not began and "matched waits for lfr_darts of main" in capsys.readouterr().out
    compare.run_group(study, "main", tmp_path, results)
  assert began == ["main/lfr_darts/0"]
  compare.run_group(study, "main", tmp_path, results)
  assert began[1:] == ["main/random_layered/1"]
  assert [(found["method"], found["seed"], "more" in found) for found in lines.read(path)] == [
    ("random_layered", 0, True),
    ("lfr_darts", 0, False),
    ("random_layered", 1, False),
  ]


STUDY = """
import lfr_darts_jax
from experiments.study import Group, Study

def get_study():
  config = lfr_darts_jax.get_config("digits")
  config.search.layers = 4
  return Study("tiny", config, 15, {"main": Group({"darts": 1})})
"""


@pytest.mark.slow
def test_a_signal_during_a_compile_ends_a_study_with_its_status(tmp_path):
  (tmp_path / "study.py").write_text(STUDY)
  folders = f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"
  command = [sys.executable, "-u", "-m", "experiments.compare", f"--study={tmp_path / 'study.py'}", *folders]
  process = subprocess.Popen(command, cwd=FOLDER.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  assert any(shown.startswith("compiling a supernet of 4 layers") for shown in process.stdout)
  time.sleep(5)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 143
  assert errors.splitlines()[-1] == "compare: stopped by SIGTERM; the same command continues"


@pytest.mark.long
def test_a_whole_study_that_is_stopped_and_goes_on(study, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(compare, "load", lambda path: study)
  flags = ["--study=tiny.py", f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
  assert compare.main([*flags, "--groups=pilot,main"]) == 0
  folder = tmp_path / "results" / "tiny"
  before = (folder / "main.jsonl").read_text()
  _, last = before.splitlines(), before.splitlines()[-1]
  (folder / "main.jsonl").write_text(before.removesuffix(last + "\n"))
  run = compare.runner.run
  began = []
  monkeypatch.setattr(compare.runner, "run", lambda job, workdir: (began.append(job.place), run(job, workdir))[1])
  assert compare.main(flags) == 0
  assert began[0] == "main/random_layered/1" and all(place.startswith("matched/") for place in began[1:])
  assert (folder / "main.jsonl").read_text() == before  # Its run had ended, and was only read.
  text = (folder / "README.md").read_text()
  titles = (
    "pilot: spread",
    "main",
    "at equal parameters",
    "ranking",
    "noise of the gradients",
    "course of the searches",
  )
  assert all(f"## {title}\n" in text for title in titles)
  courses = lines.read(folder / "diagnostics.jsonl")
  assert [entry["cell"] for entry in courses] == ["n0", "r0", "n1", "r1", "n2"]
  # So short a search writes no line between the end of the warm-up and half-way.
  *before_moving, pruned, again, end = courses[0]["alpha_gradient"]
  assert before_moving == [None, None] and min(pruned, again, end) > 0
  assert {entry["method"] for entry in lines.read(folder / "ranking.jsonl")} == {"r0"}
  seen = [(entry["layers"], entry["cell"], entry["alpha_updates"] > 0) for entry in lines.read(folder / "noise.jsonl")]
  assert seen == [(1, "n0", True), (2, "r0", True), (3, "n1", True), (4, "r1", True), (5, "n2", True)]
  assert compare.main([*flags, "--repeat=main/lfr_darts/0"]) == 0
  assert '"same": true' in capsys.readouterr().out
