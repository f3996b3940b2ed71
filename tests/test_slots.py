import threading

import numpy as np
import pytest

from lfr_darts_jax.data import slots
from lfr_darts_jax.data.slots import SLOTS
from lfr_darts_jax.data.slots import Slots
from lfr_darts_jax.errors import UsageError


@pytest.fixture
def pair():
  """The same slots, as the run and as a worker see them."""
  run = Slots((2, 3))
  yield run, Slots((2, 3), run.name)
  run.unlink()


def test_both_sides_see_the_same(pair):
  run, worker = pair
  slot = worker.take()
  worker.array(slot)[:] = 7
  np.testing.assert_array_equal(run.array(slot), np.full((2, 3), 7, np.uint8))


def test_taken_slots_differ_until_they_are_given_back(pair):
  run, worker = pair
  assert sorted(worker.take() for _ in range(SLOTS)) == list(range(SLOTS))
  run.free(5)
  assert worker.take() == 5


def test_a_worker_waits_for_a_slot(pair):
  run, worker = pair
  taken = [worker.take() for _ in range(SLOTS)]
  thread = threading.Thread(target=lambda: taken.append(worker.take()), daemon=True)
  thread.start()
  thread.join(0.1)
  assert thread.is_alive()
  run.free(3)
  thread.join(10)
  assert taken[SLOTS:] == [3]


def test_too_little_shared_memory_is_told_at_once(monkeypatch):
  usage = slots.shutil.disk_usage("/")
  monkeypatch.setattr(slots.shutil, "disk_usage", lambda path: usage._replace(free=3 * SLOTS * 10**6 - 1))
  monkeypatch.setattr(slots.os.path, "isdir", lambda path: True)
  with pytest.raises(UsageError, match="config.data.workers: 3; .* 24 MB free of the 24 .* allowed are fewer, 0"):
    slots.make_slots(3, (10, 100, 1000))
