"""A run knows the data that it was begun with, by their names, and is tested on those that it is told."""

import json
import re
import shutil

import numpy as np
from PIL import Image
import pytest

import lfr_darts_jax
from lfr_darts_jax import pipeline
from lfr_darts_jax.data import decoding
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime.preemption import Interrupted
from tests.conftest import tiny_config
from tests.test_search import StopAfter
from tests.test_train import GENOTYPE

LEVELS = {"black": 0, "grey": 128, "white": 255}


def make(root, classes=LEVELS, count=20, split="train"):
  """A folder of noisy images whose classes differ by their brightness."""
  rng = np.random.default_rng(len(classes))
  for name in classes:
    (root / split / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
      image = np.clip(LEVELS.get(name, 0) + rng.normal(0, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
      Image.fromarray(image).save(root / split / name / f"{i}.png")
  return root


def folder_config(root):
  config = tiny_config()
  config.data.update(name="folder", dir=str(root), channels=3, num_classes=3)
  config.train.update(epochs=8, batch_size=16, steps_per_chunk=5, drop_path=0.0)
  return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The data and the work directory of a training."""
  home = tmp_path_factory.mktemp("trained")
  data = make(home / "data")
  result = lfr_darts_jax.train(folder_config(data), GENOTYPE, home / "run")
  assert result["test_error"] < 20
  return data, home / "run"


@pytest.fixture
def copied(trained, tmp_path):
  """Copies of both, which a test may change."""
  data, run = (shutil.copytree(path, tmp_path / path.name) for path in trained)
  flat = json.loads((run / "config.json").read_text()) | {"data.dir": str(data)}
  (run / "config.json").write_text(json.dumps(flat))
  return data, run


def test_the_result_tells_what_it_was_trained_with(trained):
  _, run = trained
  told = json.loads((run / "result.json").read_text())["data"]
  assert told == json.loads((run / "data.json").read_text())
  assert told["class_names"] == ["black", "grey", "white"] and told["shape"] == [8, 8, 3]
  assert told["images"] == {"train": {"black": 20, "grey": 20, "white": 20}} and len(told["digest"]) == 64


def test_a_renamed_class_is_not_taken_for_another(copied):
  data, run = copied
  (data / "train" / "black").rename(data / "train" / "zero")  # Its label would be the last.
  with pytest.raises(UsageError, match="has the classes 'zero', which the trained network does not know; allowed"):
    pipeline.evaluate(run)
  with pytest.raises(UsageError, match=r"other data; .* \(classes that are gone: 'black'; new classes: 'zero'\)"):
    lfr_darts_jax.train(folder_config(data), GENOTYPE, run)


def test_held_out_images_of_a_changed_folder_are_refused(copied, capsys):
  data, run = copied
  before = pipeline.evaluate(run)
  assert "are not those of the training" not in capsys.readouterr().err
  (data / "train" / "grey" / "3.png").unlink()
  with pytest.raises(UsageError, match=r"has changed since the training \('train/grey': 19 images, before 20\)"):
    pipeline.evaluate(run)
  make(data, split="test")
  assert pipeline.evaluate(run)["images"] == 60 > before["images"]
  assert capsys.readouterr().err.splitlines()[-1] == (
    "the data are not those of the training (held out: nothing, before a fifth of every class by data.split_seed 0; "
    "'test': 60 images, before 0; 'train/grey': 19 images, before 20)"
  )


def test_another_folder_is_tested_by_the_names_of_its_classes(copied, tmp_path, capsys):
  _, run = copied
  kept = {path: path.read_bytes() for path in run.rglob("*.json")}
  other = make(tmp_path / "other", ("grey", "white"), 4)
  make(other, ("grey", "white"), 10, "test")
  config = folder_config(other)
  tested = pipeline.evaluate(run, config)
  # Labels 0 and 1 there are 1 and 2 here: by number all would be wrong.
  assert tested["images"] == 20 and tested["test_error"] < 20
  assert "classes that are gone: 'black'" in capsys.readouterr().err
  config.data.update(loading="stream", workers=0)
  assert pipeline.evaluate(run, config) == tested
  config.data.dir = str(tmp_path / "nowhere")
  with pytest.raises(UsageError, match="nowhere' is no folder; allowed is one that holds train"):
    pipeline.evaluate(run, config)
  assert {path: path.read_bytes() for path in run.rglob("*.json")} == kept


def interrupted(config, run):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pipeline, "Preemption", lambda: StopAfter(1))
    with pytest.raises(Interrupted):
      lfr_darts_jax.train(config, GENOTYPE, run)


def test_a_run_goes_on_with_its_own_data_alone(tmp_path, capsys):
  data, run = make(tmp_path / "data"), tmp_path / "run"
  config = folder_config(data)
  interrupted(config, run)
  saved = sorted(path.name for path in (run / "checkpoints").iterdir())
  gone = data / "train" / "white" / "7.png"
  content = gone.read_bytes()
  gone.unlink()
  with pytest.raises(UsageError, match=r"was begun with other data; .* \('train/white': 19 images, before 20\)"):
    lfr_darts_jax.train(config, GENOTYPE, run)
  gone.write_bytes(content + b"\0")
  with pytest.raises(UsageError, match=r"\(files of other names or sizes\)"):
    lfr_darts_jax.train(config, GENOTYPE, run)
  assert sorted(path.name for path in (run / "checkpoints").iterdir()) == saved
  gone.write_bytes(content)
  config.data.dir = str(data.rename(tmp_path / "moved"))
  capsys.readouterr()
  lfr_darts_jax.train(config, GENOTYPE, run)
  assert f"the data were in {data} before, now in {config.data.dir}; they are the same\n" in capsys.readouterr().out


def test_what_an_earlier_version_began_goes_on_and_says_that_it_could_not_be_compared(tmp_path, capsys):
  data, run = make(tmp_path / "data"), tmp_path / "run"
  config = folder_config(data)
  interrupted(config, run)
  (run / "data.json").unlink()
  (data / "train" / "white" / "7.png").unlink()
  capsys.readouterr()
  lfr_darts_jax.train(config, GENOTYPE, run)
  assert "the data can't be compared with those that this directory was begun with" in capsys.readouterr().out
  assert json.loads((run / "result.json").read_text())["data"]["images"]["train"]["white"] == 19


def test_data_may_change_before_anything_was_computed_from_them(tmp_path):
  data, run = make(tmp_path / "data"), tmp_path / "run"
  config = folder_config(data)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pipeline.Training, "run", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      lfr_darts_jax.train(config, GENOTYPE, run)
  assert json.loads((run / "data.json").read_text())["images"]["train"]["white"] == 20
  (data / "train" / "white" / "7.png").unlink()
  lfr_darts_jax.train(config, GENOTYPE, run)
  assert json.loads((run / "data.json").read_text())["images"]["train"]["white"] == 19


def test_what_was_understood_is_said_when_a_run_begins_and_in_a_test(copied, capsys):
  data, run = copied
  (data / "notes").write_text("no image")
  lines = [
    "not used: 1 files that are no images ('notes')",
    "no test split: a fifth of every class by data.split_seed 0, 12 of 60 images, is held out for the test",
  ]
  lfr_darts_jax.train(folder_config(data), GENOTYPE, run)
  assert capsys.readouterr().out.splitlines()[:2] == lines
  pipeline.evaluate(run)
  assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"validation_fraction": 0.25}])
def test_other_images_held_out_could_have_been_trained_on(copied, change):
  _, run = copied
  config = pipeline.workdirs.load_config(run)
  config.data.update(change)
  with pytest.raises(
    UsageError, match="has changed since the training .held out: .*, before a fifth of every class by"
  ):
    pipeline.evaluate(run, config)


def test_a_test_on_a_folder_of_a_test_alone(copied, tmp_path, capsys):
  _, run = copied
  config = folder_config(make(tmp_path / "other", ("white", "black"), 5, "test"))
  tested = pipeline.evaluate(run, config)
  assert tested["images"] == 10 and tested["test_error"] < 50
  assert "held out: nothing, before a fifth of every class" in capsys.readouterr().err


def test_a_table_of_labels_may_move_with_its_images(tmp_path, capsys):
  data, run = tmp_path / "data", tmp_path / "run"
  make(data)
  rows = [f"train/{name}/{i}.png,{name}\n" for name in LEVELS for i in range(20)]
  (data / "labels.csv").write_text("".join(["file,label\n", *rows]))
  config = folder_config(data)
  config.data.labels = str(data / "labels.csv")
  interrupted(config, run)
  data.rename(tmp_path / "moved")
  config.data.update(dir=str(tmp_path / "moved"), labels=str(tmp_path / "moved" / "labels.csv"))
  (tmp_path / "moved" / "labels.csv").write_text("".join(["file,label\n", *rows]).replace(",white", ",grey", 1))
  with pytest.raises(UsageError, match="'train/grey': 21 images, before 20; 'train/white': 19 images, before 20"):
    lfr_darts_jax.train(config, GENOTYPE, run)
  (tmp_path / "moved" / "labels.csv").write_text("".join(["file,label\n", *rows[::-1]]))
  result = lfr_darts_jax.train(config, GENOTYPE, run)
  assert result["data"]["splits"] == {"train": "all rows"} and result["data"]["held_out"]


def spoiled_inside(path):
  """Breaks an image in its middle, so that its beginning and its end tell nothing."""
  content = path.read_bytes()
  at = content.index(b"IDAT") + 4
  path.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
  assert decoding.seems_whole(str(path))
  with pytest.raises(Exception, match=r"(?i)broken|decod"):
    decoding.decode(path.read_bytes(), 3)


def test_a_stream_goes_on_without_what_breaks_it(tmp_path, capsys):
  pytest.importorskip("grain")
  data = make(make(tmp_path / "data"), count=4, split="test")
  for path in ("train/white/7.png", "test/grey/1.png"):
    spoiled_inside(data / path)
  (data / "train" / "black" / "cut.png").write_bytes((data / "train" / "black" / "1.png").read_bytes()[:60])
  config = folder_config(data)
  config.data.update(loading="stream", workers=0)
  with pytest.raises(UsageError, match="1 of 73 images can't be read: 'train/black/cut.png'"):
    lfr_darts_jax.train(config, GENOTYPE, tmp_path / "run")
  (data / "train" / "black" / "cut.png").unlink()
  with pytest.raises(
    RunError, match="'train/white/7.png' can't be read .* --config.data.skip_bad_files=True continues"
  ):
    lfr_darts_jax.train(config, GENOTYPE, tmp_path / "run")
  config.data.skip_bad_files = True
  went_on = lfr_darts_jax.train(config, GENOTYPE, tmp_path / "run")
  told = capsys.readouterr().out
  assert "steps' images can't be read; others take their places\n" in told
  assert "1 images of the test can't be read and are left out of it\n" in told
  assert np.sum(went_on["confusion"]) == 11 and went_on["data"]["left_out"] == 0
  (data / "train" / "black" / "cut.png").write_bytes(b"")
  at_once = lfr_darts_jax.train(config, GENOTYPE, tmp_path / "again")
  assert at_once["skipped_files"] == at_once["data"]["left_out"] == 1
  for name in ("confusion", "mean", "deviation"):
    assert at_once[name] == went_on[name]
  losses = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("run", "again")]
  went, again = (re.findall(r'"train_loss":[^,]*', text) for text in losses)
  assert went and went == again
  assert pipeline.evaluate(tmp_path / "again")["images"] == 11
