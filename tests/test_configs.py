import importlib.util
import pathlib

import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.models.spaces import supernet
from lfr_darts_jax.pipeline import describe
from lfr_darts_jax.search import plans
from lfr_darts_jax.search_space import formats

FILES = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


def load(path, *arguments):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module, module.get_config(*arguments)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_config_is_valid_and_explains_itself(path):
  module, config = load(path)
  schema.validate(config)
  assert f"configs/{path.name}" in module.__doc__ or path.stem == "digits"


def test_digits_is_the_preset_of_that_name():
  _, config = load(FILES[0].with_name("digits.py"))
  assert schema.flatten(config) == schema.flatten(schema.get_config("digits"))


def test_laptop_has_a_sibling_for_fashion_mnist():
  _, config = load(FILES[0].with_name("laptop.py"), "fashion_mnist")
  schema.validate(config)
  assert (config.data.image_size, config.data.channels) == (28, 1)


def test_a_quarter_of_an_hour_on_cifar10():
  _, config = load(FILES[0].with_name("cifar10.py"), "quarter_hour")
  schema.validate(config)
  assert plans.steps_per_stage(config, 50_000) == 20 * 97
  assert plans.make(config).stages[-1].layout == ("n0", "r0", "n1", "r1", "n2")


def test_imagenet_is_the_mobile_setting():
  _, config = load(FILES[0].with_name("imagenet.py"))
  costs = describe(config, formats.DARTS_V2)
  assert costs["layers"] == 14 and costs["multiply_adds"] < 600e6 and costs["parameters"] == 4718752


def test_imagenet_has_a_small_variant():
  module, config = load(FILES[0].with_name("imagenet.py"), "small")
  schema.validate(config)
  assert config.data.loading == "stream" and describe(config, formats.DARTS_V2)["multiply_adds"] < 5e6
  for iteration in plans.make(config).stages:
    supernet(config, iteration.layout, plans.make(config).cells)
  with pytest.raises(ValueError, match=r"imagenet:large; allowed are full, small"):
    module.get_config("large")
