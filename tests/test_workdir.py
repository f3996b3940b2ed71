import errno
import os
import pathlib
import subprocess
import sys

import pytest

import lfr_darts_jax
from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import paths, workdir as workdirs


def test_the_same_config_may_go_on_and_another_may_not(config, tmp_path):
  flat = schema.flatten(config)
  with workdirs.locked(tmp_path / "run"):
    workdirs.check(tmp_path / "run", flat)
  workdirs.claim(tmp_path / "run", flat, {}, "first")
  (tmp_path / "run" / "search" / "5").mkdir(parents=True)
  workdirs.check(tmp_path / "run", flat | {"checkpoint.interval": 1.0, "search.stop_on_collapse": True})
  with pytest.raises(UsageError, match=r"config.search.epochs: 9, before 1"):
    workdirs.check(tmp_path / "run", flat | {"search.epochs": 9})


def test_the_final_network_may_change_until_its_training_begins(config, tmp_path):
  flat = schema.flatten(config)
  workdirs.claim(tmp_path, flat, {}, "first")
  other = flat | {"train.epochs": 9, "network.layers": 8}
  (tmp_path / workdirs.GENOTYPE).write_text("")
  (tmp_path / workdirs.CHECKPOINTS / ".5.partial").mkdir(parents=True)
  workdirs.check(tmp_path, other)
  with pytest.raises(
    UsageError, match="config.train.class_weights: 'balanced', before None"
  ):  # The search has them too.
    workdirs.check(tmp_path, other | {"train.class_weights": "balanced"})
  (tmp_path / workdirs.CHECKPOINTS / "5").mkdir()
  with pytest.raises(UsageError, match=r"config.network.layers: 8, before 5, config.train.epochs: 9, before 1"):
    workdirs.check(tmp_path, other)


@pytest.mark.parametrize(
  "kept", ["search/5", "search/summary.json", "checkpoints/5", "genotype.json", "result.json", "seeds/3/search/5"]
)
def test_a_directory_is_bound_once_something_in_it_is_worth_keeping(config, tmp_path, kept):
  flat = schema.flatten(config)
  workdirs.claim(tmp_path, flat, {"digest": 1}, "first")
  (tmp_path / "metrics.jsonl").write_text("lines of a search that nothing is left of")
  for half in ("search/.5.partial", "seeds/3", "tensorboard", "report"):
    (tmp_path / half).mkdir(parents=True)
  workdirs.claim(tmp_path / "seeds" / "3", flat, {}, "first")
  other = flat | {"search.batch_size": 8}
  workdirs.check(tmp_path, other)
  workdirs.claim(tmp_path, other, {"digest": 2}, "second")
  assert workdirs.flat_config(tmp_path) == other and workdirs.commands(tmp_path) == ("second",)
  assert '"digest": 2' in (tmp_path / workdirs.DATA).read_text() and not (tmp_path / "metrics.jsonl").exists()
  (tmp_path / kept).mkdir(parents=True)
  (tmp_path / "metrics.jsonl").write_text("lines")
  with pytest.raises(UsageError, match=r"config.search.batch_size: 16, before 8"):
    workdirs.check(tmp_path, flat)
  workdirs.claim(tmp_path, other, {}, "third")
  assert workdirs.commands(tmp_path) == ("second", "third") and (tmp_path / "metrics.jsonl").exists()


def test_every_command_is_kept_once_and_on_one_line(config, tmp_path):
  (tmp_path / workdirs.GENOTYPE).write_text("")
  for command in ("one", "two\nlines", "one", "--config.data.dir=\udcff"):
    workdirs.claim(tmp_path, schema.flatten(config), {}, command)
  assert (tmp_path / workdirs.COMMANDS).read_text() == "one\ntwo lines\n--config.data.dir=\\udcff\n"


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UsageError, match="can't be written"), workdirs.locked(tmp_path / "file" / "run"):
    pass


def test_a_path_that_no_checkpoint_could_be_written_to(tmp_path):
  with pytest.raises(UsageError, match=r"x\\udcff; allowed are paths in UTF-8"), workdirs.locked(tmp_path / "x\udcff"):
    pass
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number,kind", [(errno.ENOSPC, OSError), (errno.EROFS, UsageError)])
def test_a_full_disk_is_no_wrong_input(tmp_path, monkeypatch, number, kind):
  def fail(path, **unused):
    raise OSError(number, os.strerror(number), str(path))

  monkeypatch.setattr(pathlib.Path, "mkdir", fail)
  with pytest.raises((OSError, UsageError)) as raised, workdirs.locked(tmp_path / "run"):
    pass
  assert type(raised.value) is kind


def test_what_dead_processes_left_goes(config, tmp_path):
  (tmp_path / ".result.json.partial").write_text("{")
  workdirs.claim(tmp_path, schema.flatten(config), {}, "first")
  assert sorted(os.listdir(tmp_path)) == ["commands.txt", "config.json", "data.json"]


HOLD = """
import pathlib, sys, time
from lfr_darts_jax.runtime import workdir
with workdir.locked(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_goes(tmp_path):
  with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=r"is in use by another process; allowed is one at a time"):
      with workdirs.locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
  with workdirs.locked(tmp_path):
    pass
  with workdirs.locked(tmp_path):
    pass


def test_a_store_has_no_lock_which_is_said(bucket, capsys):
  with workdirs.locked(bucket), workdirs.locked(bucket):
    assert capsys.readouterr().out == (
      2 * f"{bucket} has no lock: see to it that no other process runs there at the same time\n"
    )


def test_a_store_that_cannot_be_written(store):
  with pytest.raises(UsageError, match="workdir: gs://no_bucket/run can't be written"):
    with workdirs.locked(paths.path("gs://no_bucket/run")):
      pass


def test_a_config_in_a_store(config, bucket):
  flat = schema.flatten(config)
  workdirs.claim(bucket, flat, {}, "lost")
  paths.write_atomically(bucket / "metrics.jsonl", b"")
  workdirs.claim(bucket, flat, {}, "first")
  assert not (bucket / "metrics.jsonl").exists()
  paths.write_atomically(bucket / workdirs.GENOTYPE, b"")
  workdirs.claim(bucket, flat, {}, "second")
  workdirs.check(bucket, flat | {"train.epochs": 9})
  assert workdirs.commands(bucket) == ("first", "second")
  paths.write_atomically(bucket / workdirs.CHECKPOINTS / "5" / "meta.json", b"")
  with pytest.raises(UsageError, match=r"config.train.epochs: 9, before 1"):
    workdirs.check(bucket, flat | {"train.epochs": 9})


def test_a_pipeline_holds_it(config, tmp_path):
  with workdirs.locked(tmp_path), pytest.raises(UsageError, match="in use by another process"):
    lfr_darts_jax.search(config, tmp_path)
