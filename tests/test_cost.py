import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.models import cost, network as networks, spaces
from lfr_darts_jax.pipeline import describe
from lfr_darts_jax.search import plans
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec
from tests.parallel_cells import NASNET

DARTS_V1 = """Genotype(
normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0),
        ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5],
reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0),
        ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"""


def cifar10():
  config = schema.get_config("digits")
  config.data.update(image_size=32, channels=3)
  config.network.update(channels=36, layers=20)
  return config


def test_darts_networks_have_the_published_parameters():
  costs = describe(cifar10(), formats.DARTS_V2)
  assert costs["parameters"] == 3349342 and costs["layers"] == 20
  # The head: 1x1 and 2x2 convolutions over 4 * 144 features, two affine norms, a dense layer.
  head = 576 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 768 * 10 + 10
  assert costs["parameters_with_auxiliary"] == 3349342 + head
  # DARTS reports 3.2 M for its first-order cells, and 4.7 M for the second-order ones on ImageNet.
  assert abs(describe(cifar10(), formats.parse(DARTS_V1))["parameters"] / 1e6 - 3.2) < 0.05
  config = cifar10()
  config.data.update(image_size=224, num_classes=1000)
  config.network.update(channels=48, layers=14, stem="imagenet")
  assert describe(config, formats.DARTS_V2)["parameters"] == 4718752


def test_nasnet_has_the_parameters_that_others_count():
  # FairDARTS lists it, in a network of DARTS's size, with 3.83 million.
  assert abs(describe(cifar10(), NASNET)["parameters"] / 1e6 - 3.83) < 0.005


def test_the_darts_supernet_has_the_published_weights():
  config = cifar10()
  config.plan.name = "darts"
  config.search.update(channels=16, layers=8, nodes=4)
  plan = plans.make(config)
  net = networks.supernet(config, plan.stages[0].layout, plan.cells)
  assert cost.describe(net, (32, 32, 3))["parameters"] == 1930618


@pytest.mark.parametrize(
  "operation,own",
  [
    ("sep_conv_3x3", 2 * (9 * 4 + 4 * 4)),
    ("dil_conv_5x5", 25 * 4 + 4 * 4),
    ("max_pool_3x3", 0),
    ("conv_7x1_1x7", 2 * 7 * 16),
  ],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_multiply_adds_by_hand(operation, own, parallel):
  candidates = ((), (operation, operation)) if parallel else ((operation,), (operation,))
  cell = CellSpec("n", "normal", candidates, (2,), parallel)
  net = networks.Network(("n",), (cell,), (operation,), 4, 10)
  stem, preprocessing, head = 9 * 3 * 12, 2 * 12 * 4, 4 * 10
  assert cost.describe(net, (8, 8, 3))["multiply_adds"] == 64 * (stem + preprocessing + 2 * own) + head


def test_parts_sum_to_the_whole():
  config = schema.get_config("digits")
  config.train.auxiliary_weight = 0.4
  config.data.image_size = 16
  net = spaces.final_network(config, formats.DARTS_V2)
  whole, parts = cost.describe(net, (16, 16, 1)), cost.by_part(net, (16, 16, 1))
  assert list(parts["parameters"]) == ["stem", *(f"layer_{i}" for i in range(5)), "head"]
  assert {unit: sum(values.values()) for unit, values in parts.items()} == {
    unit: whole[unit] for unit in ("multiply_adds", "parameters")
  }
  # A 3x3 convolution to 48 features with a batch norm, and a classifier of four times 64 features.
  assert parts["parameters"]["stem"] == 9 * 48 + 2 * 48
  assert parts["parameters"]["head"] == 256 * 10 + 10
  assert parts["multiply_adds"]["stem"] == 9 * 48 * 256
