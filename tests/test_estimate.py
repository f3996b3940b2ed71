import json
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import mobile
from lfr_darts_jax import estimate
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.search import plans
from tests.test_deviceless import skip_without

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
  "--config.search.epochs=1",
  "--config.search.channels=4",
  "--config.search.nodes=1",
  "--config.search.operations=('none','skip_connect','max_pool_3x3','sep_conv_3x3')",
  "--config.network.channels=4",
  "--config.train.epochs=1",
)


def call(*flags):
  command = [sys.executable, "-m", "lfr_darts_jax.main", *flags]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_programs_are_those_of_the_job(config):
  found = list(estimate.steps(config, distributed.first_device(), None))
  assert [step.name for step in found] == ["n0", "r0", "n1", "r1", "n2", "training"]
  assert found[0].runs == plans.steps_per_stage(config, 1437) and found[-1].runs == 1437 // config.train.batch_size
  # Each begins where the alphas move.
  carry, batches = jax.eval_shape(lambda: found[0].arguments(3))
  assert carry.state.step.shape == () and batches.dataset.images.shape == (1437, 8, 8, 1)


def test_stages_of_a_section_whose_alphas_never_move_are_one_program():
  config = mobile.get_config("macro,laptop")
  found, total = list(estimate.steps(config, distributed.first_device(), None)), plans.steps_per_stage(config, 50_000)
  assert [step.name for step in found] == ["l0, l1", "l2, l3, l4", "l5, l6, l7", "training"]
  assert [(step.runs, step.warmup) for step in found[:-1]] == [(count * total, count * total) for count in (2, 3, 3)]
  config.search.gate, config.search.warmup_fraction = "softmax", 0.3
  assert len(list(estimate.steps(config, distributed.first_device(), None))) == 9


def test_cells_before_a_stage_are_derived_or_pruned(config):
  plan = plans.make(config)
  cells = estimate.cells_at(config, plan, 2)
  assert [cell.derived for cell in cells] == [True, True, False, False, False]
  config.plan.name = "pdarts"
  plan = plans.make(config)
  assert {len(left) for cell in estimate.cells_at(config, plan, 1) for left in cell.candidates} == {5}


@pytest.mark.slow
def test_on_this_cpu_steps_are_timed():
  done = call("--mode=estimate", *TINY, "--device=cpu")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["device"] == "cpu" and found["fits"] and len(found["programs"]) == 6
  total = sum(p["steps"] * p["plausible_seconds_per_step"] for p in found["programs"])
  assert found["seconds"]["plausible"] == pytest.approx(total, abs=0.06)
  assert found["search_seconds"]["lower"] <= found["search_seconds"]["plausible"]
  assert done.stdout.splitlines()[0].split()[:3] == ["program", "steps", "kernels"]


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--mode=estimate", "--device=z80"], "device: z80; allowed are h100, h200, a100, v5e, v6e, here, cpu"),
    (["--device=cpu", "--mode=report", "--workdir=none"], "device: --mode=report does not use it"),
  ],
)
def test_what_cannot_be_estimated_is_one_line(flags, words):
  done = call(*flags)
  assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_for_a_gpu_kernels_are_counted():
  skip_without("h100")
  done = call("--mode=estimate", *TINY, "--device=h100")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  for program in found["programs"]:
    assert program["kernels"] > 50
    launches = estimate.LAUNCH_SECONDS * program["kernels"]
    assert program["plausible_seconds_per_step"] - program["lower_seconds_per_step"] == pytest.approx(launches)
