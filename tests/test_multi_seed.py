import json

import jax
import pytest

import lfr_darts_jax
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import metrics
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.search import multi_seed
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype
from tests.conftest import tiny_config

CELL = CellSpec("normal", "normal", (("skip_connect",), ("skip_connect",)), (2,))
GENOTYPE = Genotype((CELL, CellSpec("reduction", "reduction", CELL.candidates, (2,))))
ACCURACIES = {3: 0.25, 4: 0.75, 5: 0.75, 6: 0.5}


def searched(seed):
  return multi_seed.Searched(seed, ACCURACIES[seed], 10.0 * seed, GENOTYPE)


def several(count):
  return Devices(tuple(jax.devices()[:1]) * count)


@pytest.mark.parametrize(
  ("devices", "count", "sizes"), [(1, 4, [1]), (8, 4, [2, 2, 2, 2]), (8, 3, [2, 2, 2]), (2, 4, [1, 1]), (3, 1, [3])]
)
def test_devices_are_shared_among_searches(devices, count, sizes):
  assert [group.size for group in multi_seed.groups(several(devices), count)] == sizes


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_best_on_validation_data_is_chosen_and_the_first_of_equals(devices):
  asked = []

  def search(seed, team):
    asked.append((seed, team.size))
    return searched(seed)

  outcomes = multi_seed.run([3, 4, 5, 6], several(devices), search)
  assert [outcome.seed for outcome in outcomes] == [3, 4, 5, 6]
  assert [outcome.seed for outcome in outcomes if outcome.chosen] == [4]
  assert dict(asked) == dict.fromkeys(ACCURACIES, max(devices // 4, 1))


def test_one_that_fails_ends_all(tmp_path):
  def search(seed, team):
    if seed == 4:
      raise UsageError("a field: a value")
    return searched(seed)

  for devices in (1, 2):
    with pytest.raises(UsageError, match="a field"):
      multi_seed.run([3, 4, 5], several(devices), search)


def test_what_is_no_list_of_outcomes_is_refused(tmp_path):
  assert multi_seed.read(tmp_path) == []
  good = {"seed": 3, "validation_accuracy": 0.25, "search_seconds": 30.0, "chosen": True}
  good["genotype"] = json.loads(GENOTYPE.to_json())
  (tmp_path / "seeds.json").write_text(json.dumps([good]))
  assert multi_seed.read(tmp_path) == [multi_seed.Searched(3, 0.25, 30.0, GENOTYPE, True)]
  for bad in ({}, [1], [{**good, "seed": "3"}], [{**good, "genotype": {}}], [{**good, "chosen": 1}]):
    (tmp_path / "seeds.json").write_text(json.dumps(bad))
    with pytest.raises(UsageError, match=r"seeds.json"):
      multi_seed.read(tmp_path)


@pytest.mark.long
def test_every_seed_is_searched_as_by_itself(tmp_path):
  config = tiny_config()
  config.search.update(nodes=1, operations=("none", "skip_connect", "max_pool_3x3"), num_seeds=2)
  config.seed = 5
  found = lfr_darts_jax.search(config, tmp_path / "both")
  outcomes = multi_seed.read(tmp_path / "both")
  assert [outcome.seed for outcome in outcomes] == [5, 6]
  (best,) = (outcome for outcome in outcomes if outcome.chosen)
  assert best.genotype == found == formats.load(tmp_path / "both" / "genotype.json")
  assert best.validation_accuracy == max(outcome.validation_accuracy for outcome in outcomes)
  assert metrics.read(tmp_path / "both") == metrics.read(tmp_path / "both" / "seeds" / str(best.seed))
  config.search.num_seeds = 1
  for outcome in outcomes:
    config.seed = outcome.seed
    alone = tmp_path / f"alone_{outcome.seed}"
    assert lfr_darts_jax.search(config, alone) == outcome.genotype
    assert metrics.read(alone) == metrics.read(tmp_path / "both" / "seeds" / str(outcome.seed))
  page = (tmp_path / "both" / "report" / "index.html").read_text()
  assert f"{best.seed}, chosen" in page
