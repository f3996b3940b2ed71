import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import distributed, workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.preemption import Interrupted, Preemption
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search import bilevel, diagnostics, growth, measured, plans
from lfr_darts_jax.search.search import Search
from lfr_darts_jax.search.stages import Stages
from lfr_darts_jax.search.state import SearchPosition
from tests import damage
from tests.conftest import tiny_config


class StopAfter(Preemption):
  """Asks the run to stop at its n-th safe point."""

  def __init__(self, checks):
    super().__init__()
    self._left = checks

  def maybe_stop(self, save, preempted=False):
    self._left -= 1
    save(self._left <= 0)
    if self._left <= 0:
      raise Interrupted(2)

  def run_interruptible(self, work, save):
    return work()


class StopDuring(Preemption):
  """Asks the run to stop during its n-th wait, whose work is thrown away."""

  def __init__(self, waits):
    super().__init__()
    self._left = waits

  def run_interruptible(self, work, save):
    self._left -= 1
    if self._left == 0:
      work()
      save(True)
      raise Interrupted(15)
    return work()


def search(config, workdir, interrupt=None, watch=None):
  workdir.mkdir(exist_ok=True)
  dataset = datasets.open_dataset(config)
  metrics = Metrics(workdir, schema.flatten(config))
  session = Session(config, workdir, workdirs.SEARCH, metrics, preemption=interrupt)
  job = Search(config, dataset, session, watch=watch)
  try:
    found = job.run()
    session.stop_clock()
    assert 0 < session.clock.step_seconds < session.clock.seconds
    return found
  finally:
    metrics.close()


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def tiny_search():
  config = tiny_config()
  # Few operations keep the compilations short.
  config.search.update(operations=("none", "skip_connect", "dil_conv_3x3"), alpha_learning_rate=6e-3)
  config.prune.rounds = ((0.5, 2),)
  # What a search without it does, this does too.
  config.plan.inherit_weights = True
  return config


@pytest.fixture
def tiny():
  return tiny_search()


@pytest.fixture(scope="module")
def watched():
  """What `whole` showed: of every iteration the cells searched, whether any was derived yet, and the updates done."""
  return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, watched):
  """An undisturbed search: its genotype and its work directory."""

  def watch(stage, network, state):
    derived = any(cell.derived for cell in network.cells if cell.name in stage.searched)
    watched.append((stage.searched, derived, int(state.step)))
    # What the rounds of pruning have left, and nothing else.
    searched = [cell for cell in network.cells if cell.name in stage.searched]
    assert all(0 < len(left) <= 2 for cell in searched for left in cell.candidates)
    for cell in searched:
      np.testing.assert_array_equal(state.mask[cell.name].operations, cell.mask(network.operations))
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    mixtures = {name: alphas.operations for name, alphas in state.alphas.items()}
    fresh = jax.eval_shape(network.init, jax.random.PRNGKey(0), image, mixtures)
    assert jax.tree.structure(fresh["params"]) == jax.tree.structure(state.params)

  workdir = tmp_path_factory.mktemp("whole")
  return search(tiny_search(), workdir, watch=watch), workdir


def test_a_watcher_sees_every_stage_before_its_cell_is_derived(whole, watched):
  updates = plans.steps_per_stage(tiny_search(), 1437)
  assert watched == [((name,), False, updates) for name in ("n0", "r0", "n1", "r1", "n2")]


def test_lfr_darts_searches_five_cells_and_logs_each_stage(whole):
  genotype, workdir = whole
  assert [c.name for c in genotype.cells] == ["n0", "r0", "n1", "r1", "n2"]
  assert all(c.derived and sum(map(len, c.candidates)) == 4 for c in genotype.cells)
  for i, cell in enumerate(genotype.cells):
    entries = [e for e in lines(workdir) if e["iteration"] == i and f"alphas/{cell.name}" in e]
    course = np.array([e[f"alphas/{cell.name}"] for e in entries])
    # Three operations at first, two after the pruning; the last entry is the outcome.
    assert (course[0] > 0).all() and len(course) == 3
    entry, weights = entries[-1], course[-1]
    assert [tuple(ops) for ops in entry[f"candidates/{cell.name}"]] == list(cell.candidates)
    assert weights.shape == (5, 3) and np.all((weights > 0).sum(1) == 2)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert entry[f"skip_connects/{cell.name}"] == cell.count("skip_connect")
    assert 0 <= entry[f"entropy/{cell.name}"] <= np.log(2) + 1e-6 and 0 <= entry["validation_accuracy"] <= 1


@pytest.mark.parametrize("checks", [4, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3, 5, 7))])
def test_an_interrupted_search_continues_to_the_same_end(tiny, whole, tmp_path, checks):
  genotype, workdir = whole
  with pytest.raises(Interrupted):
    search(tiny, tmp_path, StopAfter(checks))
  assert search(tiny, tmp_path) == genotype
  assert (tmp_path / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()


# The waits of an iteration: building, compiling, testing.
@pytest.mark.parametrize(
  "waits",
  [4, pytest.param(3, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 5, 15))],
)
def test_a_search_that_was_stopped_while_it_waited_continues_to_the_same_end(tiny, whole, tmp_path, waits):
  genotype, workdir = whole
  tiny.checkpoint.interval = 1e6
  with pytest.raises(Interrupted):
    search(tiny, tmp_path, StopDuring(waits))
  assert search(tiny, tmp_path) == genotype
  assert (tmp_path / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()


def spoil(monkeypatch, times):
  """Makes a number of the weights infinite after the third chunk, so many times."""
  run, count = bilevel.SearchSteps.run, itertools.count(1)

  def spoiled(self, *arguments):
    state, sums = run(self, *arguments)
    if 3 <= next(count) < 3 + times:
      state = state.replace(params=jax.tree.map(lambda p: p.at[0].set(jnp.inf), state.params))
      sums = sums._replace(loss=sums.loss * jnp.nan)
    return state, sums

  monkeypatch.setattr(bilevel.SearchSteps, "run", spoiled)


@pytest.mark.slow
def test_numbers_that_go_wrong_once_are_left_behind(tiny, whole, tmp_path, monkeypatch, capsys):
  tiny.checkpoint.interval = 0.0
  spoil(monkeypatch, 1)
  assert len(search(tiny, tmp_path).cells) == 5
  said = capsys.readouterr().out
  assert "search, iteration 2, update" in said and "params/" in said and "(1 of 3)" in said
  # The iteration before is kept, what follows sees its data in another order.
  got, undisturbed = lines(tmp_path), lines(whole[1])
  first = [e for e in undisturbed if e["iteration"] == 0]
  assert got[: len(first)] == first and len(got) == len(undisturbed) and got != undisturbed
  assert all(np.isfinite(e.get("train_loss", 0)) for e in got)


@pytest.mark.slow
def test_numbers_that_stay_wrong_end_the_search_and_are_never_saved(tiny, tmp_path, monkeypatch):
  tiny.checkpoint.interval = 0.0
  tiny.recovery.retries = 1
  spoil(monkeypatch, 100)
  with pytest.raises(RunError, match=r"search, iteration 2, update \d+: params/.* is not finite, after 1 retries"):
    search(tiny, tmp_path)
  monkeypatch.undo()
  assert len(search(tiny, tmp_path).cells) == 5


@pytest.mark.long
@pytest.mark.parametrize("checks", [4, 5])
def test_a_search_whose_newest_checkpoint_broke_continues_to_the_same_end(tiny, whole, tmp_path, checks):
  genotype, workdir = whole
  tiny.checkpoint.interval = 0.0
  with pytest.raises(Interrupted):
    search(tiny, tmp_path, StopAfter(checks))
  newest = max((p for p in (tmp_path / "search").iterdir()), key=lambda p: int(p.name))
  damage.flip(damage.largest(newest))
  assert search(tiny, tmp_path) == genotype
  assert (tmp_path / "search" / f"{newest.name}.broken").is_dir()
  assert (tmp_path / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()


def test_the_metadata_of_a_checkpoint_tell_its_shapes(tiny, tmp_path):
  job = Search(tiny, datasets.open_dataset(tiny), Session(tiny, tmp_path, workdirs.SEARCH, None))
  cells = plans.make(tiny).cells
  position = json.loads(json.dumps(dataclasses.asdict(SearchPosition(0, cells, cells))))
  assert job._shapes({"position": position, "least_entropy": {"n0": 0.5}}).step.shape == ()
  stages = [{"stage": stage} for stage in (1, 5, -1, "1")]
  for change in (*stages, {"rounds": 2}, {"cells": position["cells"][:4]}, {"built": []}):
    with pytest.raises(ValueError):
      job._shapes({"position": position | change, "least_entropy": {}})
  for least in ([], {"n0": 2}, {"n0": "1"}):
    with pytest.raises(ValueError):
      job._shapes({"position": position, "least_entropy": least})


@pytest.mark.parametrize("edges", ["scan", *(pytest.param(e, marks=pytest.mark.slow) for e in ("star", "unroll"))])
def test_pruning_takes_no_other_program(tiny, tmp_path, monkeypatch, edges):
  tiny.network.edges = edges
  compile_one, compiled = bilevel.SearchSteps.compile, []

  def count(self, state, chunk):
    compiled.append(sum(int(mask.operations.sum()) for mask in state.mask.values()))
    compile_one(self, state, chunk)

  monkeypatch.setattr(bilevel.SearchSteps, "compile", count)
  assert all(cell.derived for cell in search(tiny, tmp_path).cells)
  assert len(compiled) == 5 and len(set(compiled)) == 1


def test_the_batches_of_the_alphas_begin_behind_the_warm_up(tiny, monkeypatch):
  stages = Stages(tiny, datasets.open_dataset(tiny), distributed.first_device())
  asked = []
  monkeypatch.setattr(stages._data, "batches", lambda *arguments: asked.append(arguments))
  position = SearchPosition(1, stages.plan.cells, stages.plan.cells)
  stages.batches(position, 2)
  ((splits, size, seed, first, _),) = asked
  assert len(splits) == 2 and size == tiny.search.batch_size and seed == (tiny.seed, 5, 1, 2)
  assert first == (0, round(0.3 * stages.total))


def test_a_search_weighs_classes_by_the_train_split(tiny, monkeypatch):
  tiny.train.class_weights, tiny.search.measured_batches = "balanced", 1
  dataset = datasets.open_dataset(tiny)
  expected = compute_class_weight("balanced", classes=np.arange(10), y=dataset.train[1])
  stages = Stages(tiny, dataset, distributed.first_device())
  position = SearchPosition(0, stages.plan.cells, stages.plan.cells)
  np.testing.assert_allclose(stages.steps(position)._objective.class_weights, expected)
  asked = []
  monkeypatch.setattr(measured, "strengths", lambda *arguments: asked.append(arguments) or {})
  stages.measure(position, stages.initial_state(position))
  np.testing.assert_allclose(asked[0][-1], expected)
  tiny.train.class_weights = (1.0,) * 11
  with pytest.raises(
    UsageError, match="config.train.class_weights: .*; allowed are balanced, None, or a tuple of 10 num"
  ):
    Stages(tiny, dataset, distributed.first_device())


@pytest.mark.slow
def test_two_copies_and_one_step_per_stage(tiny, tmp_path):
  tiny.plan.update(derived_copies=2, searched_copies=2)
  tiny.data.search_fraction = 32 / 1437 + 1e-6
  assert plans.steps_per_stage(tiny, 1437) == 1
  assert len(search(tiny, tmp_path).cells) == 5


def test_a_batch_larger_than_a_half(tiny, tmp_path):
  tiny.search.batch_size = 100
  with pytest.raises(UsageError, match="config.search.batch_size: 100"):
    search(tiny, tmp_path)


@pytest.mark.slow
def test_by_default_every_supernet_starts_fresh(tiny, tmp_path, monkeypatch):
  tiny.plan.inherit_weights = tiny_config().plan.inherit_weights
  monkeypatch.setattr(growth, "inherit", lambda *_: pytest.fail("weights are inherited"))
  search(tiny, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["darts", "pdarts", "joint"])
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_other_plans(tiny, tmp_path, plan, order):
  tiny.plan.name, tiny.search.order = plan, order
  tiny.plan.pdarts_layers = (3, 4, 5)
  if plan == "pdarts":
    tiny.prune.rounds = None
  tiny.search.layers = 5
  genotype = search(tiny, tmp_path)
  assert len(genotype.cells) == (5 if plan == "joint" else 2) and all(c.derived for c in genotype.cells)


def fast_search(operations):
  """One iteration of four updates, a dispatch each, whose alphas leave uniform with the second."""
  config = tiny_config()
  config.plan.name = "darts"
  config.search.update(layers=3, operations=operations, steps_per_chunk=1)
  config.search.update(warmup_fraction=0.3, alpha_learning_rate=1.0)
  return config


def test_a_search_that_collapses_stops_and_may_go_on(tmp_path):
  config = fast_search(("none", "skip_connect"))
  found = search(config, tmp_path / "whole")
  judged = [entry["collapse"] for entry in lines(tmp_path / "whole") if "collapse" in entry]
  # The first update is the warm-up; the last line is the outcome, which judges the last update again.
  assert len(judged) == 4 and judged[-1] == judged[-2]
  (finding,) = judged[-1]
  assert (finding["cell"], finding["criterion"], finding["figure"]) == ("normal", "skip_connects", 1.0)
  config.search.stop_on_collapse = True
  for _ in range(2):
    with pytest.raises(diagnostics.Collapsed, match="normal: 4 of 4 connections are skip_connects"):
      search(config, tmp_path / "parts")
    entries = lines(tmp_path / "parts")
    assert entries == lines(tmp_path / "whole")[: len(entries)] and 2 <= entries[-1]["step"] < 4
  config.search.stop_on_collapse = False
  assert search(config, tmp_path / "parts") == found
  assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_search_that_does_not_collapse_is_not_stopped(tmp_path):
  config = fast_search(("none", "avg_pool_3x3"))
  config.search.stop_on_collapse = True
  search(config, tmp_path)
  assert [entry["collapse"] for entry in lines(tmp_path) if "collapse" in entry] == [[]] * 4


def test_alphas_that_stay_uniform_stop_the_search_between_stages(tiny, whole, tmp_path):
  genotype, workdir = whole
  tiny.search.stop_on_collapse = True
  for _ in range(2):
    with pytest.raises(diagnostics.Collapsed, match="the search has collapsed: n0: "):
      search(tiny, tmp_path)
    assert {entry["iteration"] for entry in lines(tmp_path)} == {0}
  (finding,) = [f for f in lines(tmp_path)[-1]["collapse"] if f["criterion"] == "uniform_alphas"]
  # Four updates move an alpha by at most 0.024: among three operations that leaves over 0.999 of the entropy.
  assert finding["cell"] == "n0" and 0.999 < finding["figure"] <= 1
  tiny.search.stop_on_collapse = False
  assert search(tiny, tmp_path) == genotype
  assert (tmp_path / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()


def test_the_least_entropy_of_a_stage_outlives_a_pruning_and_an_interruption(tmp_path):
  config = fast_search(("none", "skip_connect", "avg_pool_3x3", "max_pool_3x3"))
  config.prune.rounds = ((0.75, 2),)
  config.search.update(collapse_entropy=0.0, alpha_learning_rate=0.3)  # The figure is always told.
  search(config, tmp_path / "whole")
  (*_, outcome) = lines(tmp_path / "whole")
  uniform = [f for f in outcome["collapse"] if f["criterion"] == "uniform_alphas"]
  # Of the two operations that are left at the end, nearer to uniform than the four before.
  ends = [outcome[f"entropy/{finding['cell']}"] / np.log(2) for finding in uniform]
  assert any(finding["figure"] < end - 0.01 for finding, end in zip(uniform, ends, strict=True))
  with pytest.raises(Interrupted):
    search(config, tmp_path / "parts", StopAfter(3))
  search(config, tmp_path / "parts")
  assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
