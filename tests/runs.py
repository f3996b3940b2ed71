"""Work directories as runs leave them, written without running one."""

import dataclasses
import json

import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.report import misclassified
from lfr_darts_jax.runtime import json_io, workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.search import plans, pruning
from lfr_darts_jax.search.diagnostics import Finding
from lfr_darts_jax.search.multi_seed import Summary
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training.evaluate import Evaluation
from tests.conftest import tiny_config

# What may stand in the name of an image folder.
AWKWARD = ('"quoted"', "<script>alert('x')</script>", "\U0001f408 cat", "a" * 60, "plain & simple", "$x^2$ {{ 1 }}")
UPDATES, ROUND = 40, 20
IDENTITY = Identity("digits", None, None, AWKWARD, (8, 8, 1), {}, "")
FINDINGS = (
  Finding(0, "n0", "skip_connects", 0.5, 0.25, "<i>its source</i>", "n0: 2 of 4 connections are skip_connects"),
  Finding(2, "n1", "uniform_alphas", 0.996, 0.99, "our choice", "n1: the alphas stayed uniform"),
)


def config(class_names=AWKWARD, plan="lfr_darts"):
  """The config of the runs that `write` leaves."""
  tiny = tiny_config()
  tiny.plan.name = plan
  tiny.data.num_classes = len(class_names)
  return tiny


def write(workdir, iterations=5, train=True, result=True, class_names=AWKWARD, plan="lfr_darts", findings=()):
  """Leaves a run of the tiny config that has ended so many iterations, and begun one more where there is one."""
  tiny = config(class_names, plan)
  workdir.mkdir(parents=True, exist_ok=True)
  workdirs.claim(workdir, schema.flatten(tiny), IDENTITY, "python -m lfr_darts_jax.main --workdir='<b>runs</b>'")
  metrics = Metrics(workdir, schema.flatten(tiny))
  made = plans.make(tiny)
  cells = {cell.name: cell for cell in made.cells}
  for index, stage in enumerate(made.stages[: iterations + 1]):
    searched, judged = [cells[name] for name in stage.searched], [f for f in findings if f.iteration == index]
    cells |= _search(metrics, tiny, index, searched, index < iterations, judged)
  if iterations == len(made.stages):
    (workdir / workdirs.SEARCH).mkdir(exist_ok=True)
    (workdir / workdirs.SEARCH_SUMMARY).write_text(json_io.dumps(Summary(185.0, 95.5, 0.875, list(findings))))
    (workdir / workdirs.GENOTYPE).write_text(Genotype(tuple(cells.values())).to_json())
    if train:
      for step in (10, 20, 30):
        metrics.write("train", 0, step, {"train_loss": 1 / step, "train_accuracy": 0.5 + step / 100}, step)
    if result:
      _test(workdir, class_names, findings)
  metrics.close()
  return workdir


def first_outcome(workdir):
  """The line that ends the first stage of a run, which has no lines yet."""
  metrics = Metrics(workdir, {})
  (cell,) = (cell for cell in plans.make(config()).cells if cell.name == "n0")
  _search(metrics, config(), 0, [cell], True, [])
  metrics.close()
  return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def _search(metrics, config, index, searched, ended, findings):
  rng = np.random.default_rng(index)
  operations = tuple(config.search.operations)
  for step in (10, ROUND, 30, UPDATES):
    weights = {c.name: _weights(rng, c, operations) for c in searched}
    values = {"train_loss": 2 / step, "train_accuracy": step / 50}
    if step > 10:
      values |= {"validation_loss": 2.1 / step, "validation_accuracy": step / 60}
    metrics.write("search", index, step, values | {f"alphas/{n}": w for n, w in weights.items()}, step)
    if step == ROUND:
      searched = [pruning.prune_operations(c, weights[c.name], operations, 5) for c in searched]
      metrics.write("search", index, step, {"pruned_to": 5}, step)
  if not ended:
    return {}
  derived = [pruning.derive(c, weights[c.name], operations) for c in searched]
  values = {"validation_accuracy": 0.875, "collapse": [dataclasses.asdict(finding) for finding in findings]}
  for cell in derived:
    values |= {
      f"alphas/{cell.name}": weights[cell.name],
      f"candidates/{cell.name}": [list(ops) for ops in cell.candidates],
      f"entropy/{cell.name}": 1.25,
      f"skip_connects/{cell.name}": cell.count("skip_connect"),
    }
  metrics.write("search", index, UPDATES, values, UPDATES)
  return {cell.name: cell for cell in derived}


def _weights(rng, cell, operations):
  odds = np.exp(rng.normal(size=(len(cell.candidates), len(operations)))) * cell.mask(operations)
  return odds / odds.sum(1, keepdims=True)


def _test(workdir, class_names, findings):
  rng = np.random.default_rng(9)
  labels = np.arange(60) % len(class_names)
  predicted = np.where(rng.random(60) < 0.3, (labels + 1) % len(class_names), labels)
  confusion = np.zeros((len(class_names),) * 2, int)
  np.add.at(confusion, (labels, predicted), 1)
  tested = Evaluation(confusion, 55, predicted, np.full(60, 0.625), labels)
  images = rng.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
  misclassified.save(workdir, lambda chosen: images[chosen], tested, 0)
  result = {
    "test_error": tested.error,
    "top5_error": tested.top5_error,
    "parameters": 91866,
    "multiply_adds": 1040256,
    "layers": 5,
    "updates": 30,
    "train_seconds": 29.0,
    "search_seconds": 185.0,
    "collapse": list(map(dataclasses.asdict, findings)),
    "device": "cpu",
    "devices": 1,
    "mean": [0.3],
    "deviation": [0.4],
    "finished": "2026-01-31 12:00:00 +0000",
    "class_names": list(class_names),
    "skipped_files": 3,
    "class_errors": tested.class_errors,
    "confusion": confusion.tolist(),
  }
  (workdir / workdirs.RESULT).write_text(json.dumps(result))
