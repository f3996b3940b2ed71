import json

import pytest

import lfr_darts_jax
from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime.config_file import get_config

DIGITS = schema.flatten(schema.get_config("digits"))


def nested(flat):
  tree = {}
  for name, value in flat.items():
    *groups, leaf = name.split(".")
    node = tree
    for group in groups:
      node = node.setdefault(group, {})
    node[leaf] = value
  return tree


@pytest.fixture
def file(tmp_path):
  def write(name, text):
    path = tmp_path / name
    path.write_text(text)
    return path

  return write


@pytest.mark.parametrize("fields", [DIGITS, nested(DIGITS)])
def test_what_a_run_leaves_is_a_config_flat_and_nested(file, fields):
  assert schema.flatten(get_config(str(file("config.json", json.dumps(fields))))) == DIGITS


def test_a_part_of_the_fields_overrides_the_defaults(file):
  path = file("mine.json", '{"seed": 3, "data": {"loading": "stream"}, "search.epochs": 2}')
  changes = {"seed": 3, "data.loading": "stream", "search.epochs": 2}
  assert schema.flatten(get_config(str(path))) == schema.flatten(schema.get_config()) | changes


def test_what_an_earlier_version_left_is_read_as_it_was_meant(file):
  later = ("data.augmentation", "data.test_view", "data.split_seed", "data.image_key", "data.label_key", "train.ema")
  earlier = {name: value for name, value in DIGITS.items() if name not in later} | {"data.flip": False}
  assert schema.flatten(get_config(str(file("config.json", json.dumps(earlier))))) == DIGITS


@pytest.mark.parametrize(
  "text,words",
  [
    ('{"searches": {"epochs": 2}}', "config.searches.epochs: unknown field; allowed are"),
    ('{"search": {"epoch": 2}}', "config.search.epoch: unknown field; allowed are search.epochs"),
    ('{"search": {"epochs": 0}}', "config.search.epochs: 0; allowed are integers from 1"),
    ('{"search": {}}', "config.search: unknown field"),
    ('{"seed": {"a": 1}}', "config.seed.a: unknown field"),
    ('{"seed": ', "truncated"),
    ("[1]", "allowed is what a run writes there"),
  ],
)
def test_json_that_is_no_config_is_one_line_that_names_it(file, text, words):
  path = file("bad.json", text)
  with pytest.raises(UsageError, match=words) as error:
    get_config(str(path))
  assert str(path) in str(error.value) and "\n" not in str(error.value)


PYTHON = """
from lfr_darts_jax import config as schema

def get_config(seed="7"):
  config = schema.get_config("digits")
  config.seed = int(seed)
  return config
"""


def test_a_python_file_with_and_without_a_variant(file):
  path = file("mine.py", PYTHON)
  assert [get_config(f"{path}{variant}").seed for variant in ("", ":5")] == [7, 5]


@pytest.mark.parametrize(
  "text,variant,words",
  [
    ("", "", "has no get_config"),
    ("get_config = lambda: 3", "", r"returns 3; allowed is a ConfigDict"),
    ("get_config = lambda: 3", ":a", "'mine:a'; allowed is mine alone"),
  ],
)
def test_a_python_file_without_a_config(file, text, variant, words):
  with pytest.raises(UsageError, match=words):
    get_config(f"{file('mine.py', text)}{variant}")


def test_the_home_directory_is_expanded(file, monkeypatch):
  monkeypatch.setenv("HOME", str(file("mine.py", PYTHON).parent))
  file("mine.json", '{"seed": 4}')
  assert get_config("~/mine.py:5").seed == 5 and get_config("~/mine.json").seed == 4


def test_presets_have_their_names_from_python_too():
  assert lfr_darts_jax.get_config("cifar10:quarter_hour").train.epochs == 80
  gdas = lfr_darts_jax.get_config("systems:gdas,laptop")
  assert gdas.search.gate == "gumbel" and gdas.network.layers == 5


@pytest.mark.parametrize(
  "name,allowed",
  [
    ("mars", "cifar10, darts, digits, fashion_mnist, imagenet, laptop, mobile, pdarts, systems, a Python file"),
    ("cifar10:mars", "darts, quarter_hour"),
    ("imagenet:mars", "full, small"),
    ("laptop:mars", "cifar10, fashion_mnist"),
    ("systems:mars", "gdas, pc_darts"),
    ("systems:gdas,mars", "gdas, pc_darts"),
    ("darts:mars", "darts alone"),
    ("configs/mars.py", "cifar10, darts"),
    (".", "cifar10, darts"),
    ("", "cifar10, darts"),
  ],
)
def test_a_wrong_name_is_told_with_those_that_are_allowed(name, allowed):
  with pytest.raises(UsageError, match=f"allowed (are|is) {allowed}") as error:
    lfr_darts_jax.get_config(name)
  assert name in str(error.value)
