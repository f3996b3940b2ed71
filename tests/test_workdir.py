import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax import workdir as places
from lfr_darts_jax.errors import UsageError


def test_the_same_config_may_go_on_and_another_may_not(config, tmp_path):
  flat = schema.flatten(config)
  places.check(tmp_path / "run", flat)
  places.claim(tmp_path / "run", flat, "first")
  places.check(tmp_path / "run", flat | {"checkpoint.interval": 1.0})
  with pytest.raises(UsageError, match=r"config.search.epochs: 9, before 1"):
    places.check(tmp_path / "run", flat | {"search.epochs": 9})


def test_the_final_network_may_change_until_its_training_begins(config, tmp_path):
  flat = schema.flatten(config)
  places.claim(tmp_path, flat, "first")
  other = flat | {"train.epochs": 9, "network.layers": 8}
  places.check(tmp_path, other)
  (tmp_path / places.CHECKPOINTS).mkdir()
  with pytest.raises(UsageError, match=r"config.network.layers: 8, before 5, config.train.epochs: 9, before 1"):
    places.check(tmp_path, other)


def test_every_command_is_kept_once_and_on_one_line(config, tmp_path):
  for command in ("one", "two\nlines", "one"):
    places.claim(tmp_path, schema.flatten(config), command)
  assert (tmp_path / places.COMMANDS).read_text() == "one\ntwo lines\n"


def test_a_directory_that_cannot_be_made(config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UsageError, match="can't be written"):
    places.check(tmp_path / "file" / "run", schema.flatten(config))
