"""One seed, one result, to the last bit; another seed, another result."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax import pipeline
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.training import result as results, train
from tests.conftest import tiny_config

ROOT = pathlib.Path(__file__).parents[1]


def run(workdir, seed, plan):
  """Searches, trains and tests; everything that draws at random is on."""
  config = tiny_config()
  config.seed = seed
  config.plan.name = plan
  config.search.update(layers=3, nodes=1, operations=("skip_connect", "max_pool_3x3"))
  config.prune.rule = "random"
  config.train.update(drop_path=0.2, cutout=2)
  config.data.flip = "random"
  config.network.layers = 3 if plan == "darts" else 5
  lfr_darts_jax.train(config, lfr_darts_jax.search(config, workdir), workdir)
  return workdir


def run_elsewhere(workdir, seed, plan, hash_seed):
  """The same in a process of its own, with its own order of sets, that compiles everything itself."""
  call = f"from tests.test_same_seed import run; run({str(workdir)!r}, {seed}, {plan!r})"
  environment = os.environ | {"PYTHONHASHSEED": str(hash_seed), "JAX_ENABLE_COMPILATION_CACHE": "0"}
  subprocess.run([sys.executable, "-c", call], cwd=ROOT, env=environment, capture_output=True, check=True, timeout=500)
  return workdir


def outcome(workdir):
  """The bytes of the genotype, of the metrics, and of parameters and batch statistics."""
  config = workdirs.load_config(workdir)
  network = final_network(config, formats.load(workdir / workdirs.GENOTYPE))
  variables = train.load_variables(config, network, workdir, results.load(workdir, config).updates)
  files = [(workdir / name).read_bytes() for name in ("genotype.json", "metrics.jsonl")]
  return *files, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(variables)]


@pytest.mark.slow
def test_the_seed_decides_everything(tmp_path, monkeypatch):
  monkeypatch.setattr(pipeline.page, "write", lambda workdir: None)  # It takes as long as the rest.
  first, again, other = (
    outcome(run(tmp_path / name, seed, "darts")) for name, seed in (("first", 7), ("again", 7), ("other", 8))
  )
  assert first == again
  _, metrics, parameters = other
  assert metrics != first[1] and parameters != first[2]


@pytest.mark.long
def test_processes_that_share_nothing(tmp_path):
  one, two = (outcome(run_elsewhere(tmp_path / str(i), 7, "lfr_darts", i)) for i in (1, 2))
  assert one == two
