import dataclasses
from importlib import metadata
import json
import threading

import jax
import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax import pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import page
from lfr_darts_jax.runtime import tensorboard
from lfr_darts_jax.search import diagnostics
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.darts_format import to_darts
from lfr_darts_jax.search_space.genotype import Genotype
from tests.conftest import tiny_config
from tests.test_train import GENOTYPE


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  return lfr_darts_jax.train(two_epochs(), GENOTYPE, workdir), workdir


def two_epochs():
  config = tiny_config()
  config.train.epochs = 2
  return config


def test_train_and_evaluate(trained):
  result, workdir = trained
  on_disk = json.loads((workdir / "result.json").read_text())
  assert on_disk["test_error"] == result["test_error"] and on_disk["seed"] == 0
  assert {
    "parameters",
    "multiply_adds",
    "search_seconds",
    "train_seconds",
    "top5_error",
    "device",
    "devices",
    "packages",
    "confusion",
    "class_errors",
  } <= set(on_disk)
  assert on_disk["collapse"] == [] and on_disk["search_seconds"] is None  # There was no search.
  confusion = np.array(on_disk["confusion"])
  assert confusion.sum() == 360
  np.testing.assert_allclose(result["test_error"], 100 * (1 - np.trace(confusion) / 360))
  np.testing.assert_allclose(result["balanced_accuracy"], 100 * np.mean(np.diag(confusion) / confusion.sum(axis=1)))
  assert f"{result['balanced_accuracy']:.2f} %" in (workdir / "report" / "index.html").read_text()
  assert pipeline.evaluate(workdir) == {
    "test_error": result["test_error"],
    "top5_error": result["top5_error"],
    "balanced_accuracy": result["balanced_accuracy"],
    "images": 360,
  }


def test_a_finished_directory_is_not_trained_again(trained):
  result, workdir = trained
  config = two_epochs()
  before = (workdir / "metrics.jsonl").read_text()
  assert lfr_darts_jax.train(config, GENOTYPE, workdir)["test_error"] == result["test_error"]
  assert (workdir / "metrics.jsonl").read_text() == before


def test_another_config_or_genotype_is_refused(trained):
  _, workdir = trained
  config = two_epochs()
  with pytest.raises(UsageError, match="genotype: .* holds another"):
    lfr_darts_jax.train(config, formats.DARTS_V2, workdir)
  config.train.epochs = 3
  with pytest.raises(UsageError, match=r"config.train.epochs: 3, before 2"):
    lfr_darts_jax.train(config, GENOTYPE, workdir)


def test_cells_with_two_operations_on_one_edge_are_trained_from_a_text(config, tmp_path):
  config.train.epochs, config.network.layers = 1, 3
  text = "Genotype([('avg_pool_3x3', 0), ('avg_pool_3x3', 0)], [2], [('max_pool_3x3', 1), ('skip_connect', 1)], [2])"
  result = lfr_darts_jax.train(config, text, tmp_path)
  assert result["layers"] == 3 and lfr_darts_jax.train(config, text, tmp_path) == result
  assert "2 = avg_pool_3x3(0) + avg_pool_3x3(0)" in (tmp_path / "report" / "index.html").read_text()
  assert pipeline.evaluate(tmp_path)["test_error"] == result["test_error"]


def test_search_writes_the_genotype_once(config, tmp_path, monkeypatch):
  config.plan.name = "darts"
  config.search.update(layers=3, operations=("none", "skip_connect", "avg_pool_3x3"))
  found = lfr_darts_jax.search(config, tmp_path)
  assert formats.parse((tmp_path / "genotype.json").read_text()) == found
  monkeypatch.setattr(pipeline, "Search", None)
  assert lfr_darts_jax.search(config, tmp_path) == found
  config.train.epochs = 7  # The search is done, the training not begun: its fields may change.
  assert lfr_darts_jax.search(config, tmp_path) == found


def test_a_genotype_that_could_not_be_read_again_is_not_kept(config, tmp_path):
  cells = [dataclasses.replace(GENOTYPE.cells[0], concat=(9,)), *GENOTYPE.cells[1:]]
  with pytest.raises(UsageError, match=r"concat: \[9\]; allowed are"):
    lfr_darts_jax.train(config, Genotype(tuple(cells)), tmp_path / "run")
  assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_search_that_ends_collapsed_is_kept_and_not_trained_unless_told_to(config, tmp_path, monkeypatch, capsys):
  config.plan.name = "darts"
  # Four steps leave the alphas uniform, which is known only at the end.
  config.search.update(layers=3, operations=("none", "skip_connect"), alpha_learning_rate=6e-3, stop_on_collapse=True)
  config.network.layers = 3
  for _ in range(2):
    with pytest.raises(diagnostics.Collapsed, match="normal: 4 of 4 connections are skip_connects.*and 2 more"):
      pipeline.run(config, tmp_path)
    monkeypatch.setattr(pipeline, "Search", None)  # The second time there is nothing left to search.
  found = json.loads((tmp_path / "search" / "summary.json").read_text())["collapse"]
  assert [(f["cell"], f["criterion"]) for f in found] == [
    ("normal", "skip_connects"),
    ("normal", "uniform_alphas"),
    ("reduction", "uniform_alphas"),
  ]
  assert "Signs that the search collapsed" in (tmp_path / "report" / "index.html").read_text()
  assert not (tmp_path / "checkpoints").exists()
  config.search.stop_on_collapse = False
  assert pipeline.run(config, tmp_path)["collapse"] == found
  said = capsys.readouterr().out
  # While searching, in the summary of the search, and in that of the run.
  assert all(said.count(finding["text"]) == 3 for finding in found)


def test_layers_are_for_the_cells_that_are_used(config, tmp_path):
  config.plan.name = "lfr_darts"  # It derives five cells, where three layers are enough for a genotype of two.
  config.network.layers = 3
  assert pipeline.describe(config, to_darts(GENOTYPE))["layers"] == 3
  for seeds in (1, 2):
    config.search.num_seeds = seeds
    with pytest.raises(UsageError, match="config.network.layers: 3; allowed are 5 or more"):
      pipeline.run(config, tmp_path)
  assert not list(tmp_path.rglob("*.json"))


def test_a_refused_run_leaves_no_claim_on_the_directory(config, tmp_path):
  config.train.batch_size = 2000
  with pytest.raises(UsageError, match="config.train.batch_size: 2000"):
    pipeline.run(config, tmp_path / "a")
  config.train.batch_size = 32
  config.search.batch_size = 2000
  with pytest.raises(UsageError, match="config.search.batch_size: 2000"):
    lfr_darts_jax.search(config, tmp_path / "b")
  assert not list(tmp_path.rglob("*.json"))


class Stopped(Exception):
  """A run that is killed as soon as it has begun."""


@pytest.fixture
def killed(monkeypatch):
  def stop(*unused):
    raise Stopped

  monkeypatch.setattr(pipeline.Search, "run", stop)
  monkeypatch.setattr(pipeline.Training, "run", stop)


def test_a_run_that_was_killed_before_it_kept_anything_binds_no_directory(config, tmp_path, killed):
  for batch_size in (16, 8):
    config.search.batch_size = batch_size
    with pytest.raises(Stopped):
      lfr_darts_jax.search(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["search.batch_size"] == batch_size
    assert page.write(tmp_path).exists()


def test_a_phase_is_not_held_to_what_another_needs(config, tmp_path, killed):
  config.train.batch_size, config.network.layers = 2000, 3
  with pytest.raises(Stopped):
    lfr_darts_jax.search(config, tmp_path / "search")
  for words in ("config.network.layers: 3", "config.train.batch_size: 2000"):
    with pytest.raises(UsageError, match=words):
      pipeline.run(config, tmp_path / "run")
    config.network.layers = 5
  config.train.batch_size, config.search.batch_size = 32, 2000
  with pytest.raises(Stopped):
    lfr_darts_jax.train(config, GENOTYPE, tmp_path / "train")


def test_two_cells_are_trained_in_three_layers_whatever_the_plan(config, tmp_path):
  config.plan.name = "per_layer"
  config.search.layers = config.network.layers = 3
  trained = lfr_darts_jax.train(config, GENOTYPE, str(tmp_path))
  assert trained["layers"] == 3 and page.write(tmp_path).exists()
  assert pipeline.run(config, tmp_path)["test_error"] == trained["test_error"]
  assert pipeline.evaluate(tmp_path)["images"] == 360


def test_what_a_run_can_do_without_ends_none(config, tmp_path, monkeypatch, capsys):
  def fail(*unused, **also_unused):
    raise ArithmeticError("it fails")

  def missing(name):
    raise metadata.PackageNotFoundError(name)

  for home, name in (
    (pipeline.page, "write"),
    (pipeline.drawing, "cell"),
    (pipeline.misclassified, "save"),
    (tensorboard, "EventFile"),
    (jax.profiler, "start_trace"),
  ):
    monkeypatch.setattr(home, name, fail)
  monkeypatch.setattr(pipeline.metadata, "version", missing)
  config.profile, config.train.epochs = True, 2
  found = []
  # In a thread, as a server would, which no signal reaches.
  thread = threading.Thread(target=lambda: found.append(lfr_darts_jax.train(config, GENOTYPE, tmp_path)))
  thread.start()
  thread.join()
  (result,) = found
  assert json.loads((tmp_path / "result.json").read_text())["test_error"] == result["test_error"]
  assert result["packages"] == {}
  said = capsys.readouterr().out.splitlines()
  for line in (
    "without the cells drawn in TensorBoard (ArithmeticError: it fails)",
    "without further events in tensorboard (ArithmeticError: it fails)",
    "without a trace (ArithmeticError: it fails)",
    "without a sample of wrong images on the page (ArithmeticError: it fails)",
    "page               can't be written (ArithmeticError: it fails)",
  ):
    assert said.count(line) == 1, said
  monkeypatch.undo()
  assert page.write(tmp_path).exists()
  assert lfr_darts_jax.load(tmp_path).class_names == tuple("0123456789")


@pytest.mark.slow
def test_several_searches_need_no_tensorboard(config, tmp_path, monkeypatch):
  monkeypatch.setattr(tensorboard, "installed", lambda: False)
  config.plan.name, config.search.num_seeds = "darts", 2
  config.search.update(layers=3, operations=("none", "skip_connect", "avg_pool_3x3"))
  assert lfr_darts_jax.search(config, tmp_path) and not list(tmp_path.rglob("tensorboard"))
