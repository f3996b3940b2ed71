import numpy as np
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search import plans
from tests.test_configs import FILES, load

MODULE, _ = load(FILES[0].with_name("systems.py"))


@pytest.mark.parametrize("name", MODULE.SYSTEMS)
@pytest.mark.parametrize("size", ["", ",laptop"])
def test_every_system_is_valid_and_has_a_line_in_the_docs(name, size):
  _, config = load(FILES[0].with_name("systems.py"), name + size)
  schema.validate(config)
  flat = schema.flatten(config)
  assert flat != schema.flatten(load(FILES[0].with_name("laptop.py" if size else "cifar10.py"))[1])
  assert f"| `{name}` |" in (FILES[0].parents[1] / "docs" / "systems.md").read_text()
  plans.make(config)


def test_an_unknown_system_is_refused():
  with pytest.raises(ValueError, match=r"systems:none; allowed are gdas, pc_darts"):
    MODULE.get_config("none")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"search.partial_channels": 3}, r"search.partial_channels: 3; allowed are divisors of config.search.channels, 8"),
    ({"search.partial_channels": 2, "search.gate": "sigmoid"}, "search.partial_channels: 2; allowed is 1, as config"),
    ({"search.channel_choice": "attention"}, "search.channel_choice: 'attention'; allowed is first, as config"),
    ({"search.layer_alignment": 0.1}, "search.layer_alignment: 0.1; allowed is 0, as config.plan.searched_copies is 1"),
    ({"network.activation": "lif", "network.batch_norm_group": 8}, "network.batch_norm_group: 8; allowed is None"),
    ({"search.penalties": (("beta", 1.0),)}, "search.penalties: .*; allowed are .*names beta, zero_one"),
  ],
)
def test_what_does_not_go_together_is_one_line(changes, message):
  with pytest.raises(UsageError, match=message) as error:
    schema.validate(schema.unflatten({**schema.flatten(schema.get_config("digits")), **changes}))
  assert "\n" not in str(error.value)


def test_a_cell_per_layer(config):
  config.plan.name = "per_layer"
  plan = plans.make(config)
  (stage,) = plan.stages
  assert (
    stage.layout
    == stage.searched
    == tuple(c.name for c in plan.cells)
    == ("n0", "n1", "r2", "n3", "n4", "r5", "n6", "n7")
  )


def test_a_window_makes_cells_deep(config):
  config.plan.window, config.search.nodes = 2, 4
  for cell in plans.make(config).cells:
    assert np.sum(cell.mask(config.search.operations).any(axis=1)) == 8
    path = {0: 0, 1: 0}
    for source, target, _ in cell.connections:
      path[target] = max(path.get(target, 0), path[source] + 1)
    assert max(path.values()) == 4
