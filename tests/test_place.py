import dataclasses
import json

import pytest

from lfr_darts_jax import plans
from lfr_darts_jax.place import Place
from tests.conftest import tiny_config

PLAN = plans.make(tiny_config())
PRUNED = tuple(dataclasses.replace(cell, candidates=((), *cell.candidates[1:])) for cell in PLAN.cells)
PLACE = Place(1, PRUNED, PLAN.cells, 0, 2.5, 1.5, 1, {"n0": 0.5})


def kept():
  """As it comes back from a checkpoint."""
  return json.loads(json.dumps(PLACE.to_json()))


def test_a_place_comes_back():
  assert Place.from_json(kept(), PLAN) == PLACE


@pytest.mark.parametrize(
  "change",
  [
    lambda meta: meta.pop("pruned"),
    lambda meta: meta.update(seconds="long"),
    lambda meta: meta.update(updating=-1),
    lambda meta: meta.update(retries=-1),
    lambda meta: meta.update(least_entropy=[]),
    lambda meta: meta.update(least_entropy={"n0": 2}),
    lambda meta: meta.update(cells=5),
    lambda meta: meta["cells"][0].pop("kind"),
    lambda meta: meta.pop("built"),
    lambda meta: meta.update(built=meta["cells"], cells=meta["built"]),
    lambda meta: meta["cells"][1].update(candidates=[["exec"]] * 5),
  ],
)
def test_what_is_no_place_in_the_plan(change):
  meta = kept()
  change(meta)
  with pytest.raises((LookupError, TypeError, ValueError)):
    Place.from_json(meta, PLAN)
