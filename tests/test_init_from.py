import dataclasses
import shutil

import jax
import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax import pipeline
from lfr_darts_jax.data import datasets, input_pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.preemption import Interrupted
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.training import init_from, predictor, train
from tests import damage
from tests.conftest import tiny_config
from tests.test_search import StopAfter
from tests.test_train import GENOTYPE


@pytest.fixture(scope="module")
def before(tmp_path_factory):
  """A training that is done, of whose network an average was tested."""
  workdir, config = tmp_path_factory.mktemp("before"), tiny_config()
  config.train.ema = 0.5
  return workdir, lfr_darts_jax.train(config, GENOTYPE, workdir)


def continued(before, **fields):
  config = tiny_config()
  config.train.update(init_from=str(before[0]), steps_per_chunk=11, **fields)
  config.checkpoint.update(interval=0.0, keep=1000)
  # Would draw another sample of a stream, and other augmentation.
  config.seed = 3
  return config


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_more_epochs_start_where_the_others_ended(before, tmp_path, ema):
  workdir, result = before
  config = continued(before, ema=ema)
  found = lfr_darts_jax.train(config, None, tmp_path)
  base, variables = predictor.load(workdir), train.load_variables(config, final_network(config, GENOTYPE), tmp_path, 0)
  jax.tree.map(np.testing.assert_array_equal, variables, base.variables)
  assert (found["mean"], found["deviation"]) == (result["mean"], result["deviation"])
  devices = distributed.first_device()
  at_first = predictor.Predictor(config, GENOTYPE, base.class_names, base.statistics, variables)
  test = input_pipeline.InMemorySplit(datasets.open_dataset(config).test(), devices)
  assert at_first.test(test, devices).error == result["test_error"]
  assert found["test_error"] < result["test_error"]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [0, 2])
def test_a_run_that_was_killed_ends_with_the_same_bits_though_the_other_directory_is_gone(
  before, tmp_path, monkeypatch, capsys, chunks
):
  other = tmp_path / "other"
  shutil.copytree(before[0], other)
  config = continued((other,))
  whole = lfr_darts_jax.train(config, None, tmp_path / "whole")
  if chunks:
    monkeypatch.setattr(pipeline, "Preemption", lambda: StopAfter(chunks))
    with pytest.raises(Interrupted):
      lfr_darts_jax.train(config, None, tmp_path / "parts")
  else:

    def killed(*unused):
      raise SystemExit

    monkeypatch.setattr(Session, "run_chunk", killed)
    with pytest.raises(SystemExit):
      lfr_darts_jax.train(config, None, tmp_path / "parts")
  monkeypatch.undo()
  shutil.rmtree(other)
  parts = lfr_darts_jax.train(config, None, tmp_path / "parts")
  moving = {"train_seconds", "finished"}
  assert {k: v for k, v in parts.items() if k not in moving} == {k: v for k, v in whole.items() if k not in moving}
  assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
  ends = [predictor.load(tmp_path / name).variables for name in ("parts", "whole")]
  jax.tree.map(np.testing.assert_array_equal, *ends)
  assert "the head starts anew" not in capsys.readouterr().out


def test_heads_of_other_classes_are_fresh_and_all_else_is_taken(before, config):
  trained, said = predictor.load(before[0]), []
  names = (*trained.class_names[:-1], "ten", "eleven")
  config.data.num_classes = len(names)
  steps = train.TrainSteps(config, final_network(config, GENOTYPE), 32, ((), ()))
  # Another resolution fits too.
  fresh = steps.initial_state((16, 24, 1))
  state = steps.initial_state((16, 24, 1), init_from.base(trained, "runs/a", names, said.append).take)
  assert len(said) == 1 and said[0].startswith(
    "runs/a knows other classes ('0', '1', '2', '3', '4' and 5 more): the head"
  )
  for module, values in state.params.items():
    expected = dict((fresh.params if module == "classifier" else trained.variables["params"])[module])
    if module == "auxiliary":
      expected["Dense_0"] = fresh.params["auxiliary"]["Dense_0"]
    jax.tree.map(np.testing.assert_array_equal, values, expected)
  np.testing.assert_array_equal(jax.tree.leaves(state.opt_state)[0], 0)


def test_an_auxiliary_head_that_was_not_there_is_fresh(before, config):
  trained = predictor.load(before[0])
  trained.variables = jax.tree.map(np.asarray, trained.variables)
  del trained.variables["params"]["auxiliary"]
  steps = train.TrainSteps(config, final_network(config, GENOTYPE), 32, ((), ()))
  state = steps.initial_state((8, 8, 1), init_from.base(trained, "runs/a", trained.class_names, print).take)
  for module, source in (("auxiliary", steps.initial_state((8, 8, 1)).params), ("stem", trained.variables["params"])):
    jax.tree.map(np.testing.assert_array_equal, state.params[module], source[module])


def test_classes_in_another_order_keep_their_columns(before, config):
  trained, said = predictor.load(before[0]), []
  steps = train.TrainSteps(config, final_network(config, GENOTYPE), 32, ((), ()))
  base = init_from.base(trained, "runs/a", trained.class_names[::-1], said.append)
  head = steps.initial_state((8, 8, 1), base.take).params["classifier"]
  was = trained.variables["params"]["classifier"]
  np.testing.assert_array_equal(head["kernel"], was["kernel"][:, ::-1])
  np.testing.assert_array_equal(head["bias"], was["bias"][::-1])
  assert not said and base.statistics == trained.statistics


@pytest.mark.parametrize(
  "fields,words",
  [
    (
      {"network.channels": 8, "network.layers": 6},
      r"layers: 6, there 5; config.network.channels: 8, there 4\); allowed",
    ),
    ({"genotype": True}, r"is of another network \(genotype: another\)"),
    ({"train.init_from": "nowhere"}, "^config.train.init_from: nowhere has no config.json; allowed is the directory"),
    ({"train.init_from": "~nobody_of_this_name/a"}, "^config.train.init_from: ~nobody_of_this_name/a: this home"),
    ({"unfinished": True}, "^config.train.init_from: .* has no result.json; allowed is the directory of a finished"),
    ({"broken": True}, "^config.train.init_from: the checkpoint .* is not whole: "),
  ],
)
def test_what_does_not_fit_is_refused_with_nothing_written(before, tmp_path, fields, words):
  config, genotype, other = continued(before), None, tmp_path / "other"
  for name, value in fields.items():
    if "." in name:
      config.update_from_flattened_dict({name: value})
    elif name == "genotype":
      genotype = dataclasses.replace(
        GENOTYPE, cells=(GENOTYPE.cells[0], dataclasses.replace(GENOTYPE.cells[1], candidates=(("max_pool_3x3",),) * 2))
      )
    else:
      shutil.copytree(before[0], other)
      config.train.init_from = str(other)
      if name == "unfinished":
        (other / "result.json").unlink()
      else:
        damage.flip(damage.largest(max((other / "checkpoints").iterdir(), key=lambda path: int(path.name))))
  with pytest.raises(UsageError, match=words):
    lfr_darts_jax.train(config, genotype, tmp_path / "run")
  assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_search_has_no_use_for_it(before, config, tmp_path):
  config.train.init_from = str(before[0])
  with pytest.raises(
    UsageError, match="config.train.init_from: .*; allowed is None, where a search chooses the network"
  ):
    pipeline.run(config, tmp_path)
  with pytest.raises(UsageError, match="genotype: not given; allowed is"):
    config.train.init_from = None
    lfr_darts_jax.train(config, None, tmp_path)
