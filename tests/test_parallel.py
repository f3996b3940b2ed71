import json
import pathlib
import subprocess
import sys

import jax
import pytest

from lfr_darts_jax import parallel
from lfr_darts_jax.errors import UsageError

ROOT = pathlib.Path(__file__).parents[1]


def compare(task):
  """What `tests.spmd` finds on eight simulated devices against one."""
  done = subprocess.run([sys.executable, "-m", "tests.spmd", task], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
  ("task", "tolerance"),
  [
    ("order_1", 1e-9),
    pytest.param("order_2", 1e-9, marks=pytest.mark.long),
    pytest.param("unrolled", 1e-9, marks=pytest.mark.long),
    pytest.param("float32", 1e-5, marks=pytest.mark.long),
    ("group_of_one_device", 1e-9),
    pytest.param("group_of_two_devices", 1e-9, marks=pytest.mark.long),
  ],
)
def test_eight_devices_update_as_one_does(task, tolerance):
  found = compare(task)
  assert found["losses"] < tolerance
  assert found["alphas"] < tolerance
  # Gradients, losses and statistics are summed; activations never travel.
  assert set(found["collectives"]) == {"all-reduce"}


@pytest.mark.long
def test_a_whole_run_on_eight_devices_is_that_on_one():
  found = compare("run")
  assert found["genotype"]
  assert found["losses"] < 1e-9 and found["count"] > 20
  assert found["test_error"] == 0 and found["images"] == 360  # Eleven batches of 32, and eight images.


def test_a_batch_must_be_shared_evenly():
  three = parallel.Devices(tuple(jax.devices()[:1]) * 3)
  with pytest.raises(UsageError, match=r"config.search.batch_size: 32; allowed are multiples of 3"):
    three.check("search.batch_size", 32, None)
  three.check("search.batch_size", 30, 5)
  three.check("search.batch_size", 30, 10)
  three.check("search.batch_size", 30, 30)
  with pytest.raises(UsageError, match=r"batch_norm_group: 15; allowed are divisors and multiples of 10"):
    three.check("search.batch_size", 30, 15)
