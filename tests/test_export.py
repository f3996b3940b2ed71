"""What other programs get: the same probabilities, from plain operations, in files that are all there or none."""

import json
import re
import subprocess
import sys

import jax
from jax import export as jax_export
import jax.numpy as jnp
import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax import export
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.models.layers import pooling
from lfr_darts_jax.runtime import target
from lfr_darts_jax.search_space import genotype as genotypes
from lfr_darts_jax.search_space.operation_names import NONE, OPERATION_NAMES
from lfr_darts_jax.training import predictor
from lfr_darts_jax.training.predictor import Predictor
from tests import predictors
from tests.test_chain import small
from tests.test_main import call

OPERATIONS = [name for name in OPERATION_NAMES if name != NONE]
ODD = {"edges": "star", "depthwise": "shifts", "remat": True}


@pytest.fixture
def images():
  return predictors.images(5)


def calls(content):
  """The custom calls of serialized StableHLO; JAX's own check of the batch's size is one."""
  text = jax_export.deserialize(bytearray(content)).mlir_module()
  return set(re.findall(r"custom_call @?\"?(\w+)", text)) - {"shape_assertion"}


def check(trained, images, tolerance=1e-5):
  """That its StableHLO has plain operations alone, and says what it says."""
  content = export.stablehlo(trained)
  again = jax_export.deserialize(bytearray(content))
  assert calls(content) == set() and again.platforms == ("cpu", "cuda", "tpu")
  for some in (images, images[:1]):
    expected = trained.predict(some).probabilities
    np.testing.assert_allclose(again.call(some), expected, atol=tolerance)
  assert np.ptp(trained.predict(images).probabilities, axis=0).max() > 0.01  # Of other images others.


def test_a_chain_for_any_batch_and_platform(images):
  check(predictors.of_chain(), images)


@pytest.mark.parametrize("network", [{}, ODD])
def test_cells_whatever_their_form(images, network):
  # Max pools, average pools and depthwise convolutions have forms of our own on CPUs.
  check(predictors.of_cells(("max_pool_3x3", "avg_pool_3x3", "dil_conv_3x3"), **network), images)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation(images, operation):
  check(predictors.of_cells((operation,)), images)


@pytest.mark.slow
@pytest.mark.parametrize(
  "network,tolerance",
  [({"activation": "lif", "time_steps": 3}, 1e-5), ({"cell_attention": True}, 1e-5), ({"dtype": "bfloat16"}, 0.05)],
)
def test_other_kinds_of_networks(images, network, tolerance):
  check(predictors.of_cells(("sep_conv_3x3",), **network), images, tolerance)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_plain_pools_are_the_pools(size, stride):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, size, 3)), jnp.float32)
  expected = pooling.max_pool(x, stride), pooling.avg_pool(x, stride)
  with target.compiling_for(target.ANY):
    plain = pooling.max_pool(x, stride), pooling.avg_pool(x, stride)
  np.testing.assert_array_equal(plain[0], expected[0])
  np.testing.assert_allclose(plain[1], expected[1], rtol=1e-6, atol=1e-6)


@pytest.fixture
def written(monkeypatch, tmp_path):
  """A directory with a chain's network, exported without ONNX; what was exported, and the network."""
  trained = predictors.of_chain()
  monkeypatch.setattr(predictor, "load", lambda workdir: trained)
  monkeypatch.setattr(export, "_optional_onnx", lambda trained: None)
  return export.export(tmp_path / "run"), trained


def test_the_files_beside_it(written, tmp_path):
  import safetensors.numpy

  files, trained = written
  assert [path.name for path in files] == ["network.stablehlo", "parameters.safetensors", "preprocessing.json"]
  assert {path.parent for path in files} == {tmp_path / "run" / "export"}
  arrays = safetensors.numpy.load_file(files[1])
  np.testing.assert_array_equal(
    arrays["params/layer_2/mb2_k5/Dense_0/kernel"],
    trained.variables["params"]["layer_2"]["mb2_k5"]["Dense_0"]["kernel"],
  )
  assert len(arrays) == len(jax.tree.leaves(trained.variables))
  told = json.loads(files[2].read_text())
  assert (told["format"], told["version"]) == ("lfr-darts-export", 1)
  assert told["input"] == {
    "name": "images",
    "dtype": "uint8",
    "layout": "NHWC",
    "size": [8, 8],
    "channels": 1,
    "colours": "grey",
  }
  assert told["class_names"] == list("abcdefghij") and told["output"]["classes"] == 10
  assert told["normalise"] == {"inside": True, "scale": 1 / 255, "mean": [0.3], "std": [0.4]}
  assert told["resize"]["view"] == "whole" and told["resize"]["by"].startswith("Pillow")


def test_a_streamed_run_tells_its_own_rule():
  pytest.importorskip("cv2")
  config = small()
  config.data.update(loading="stream", test_view="centre")
  rule = export.preprocessing(predictors.make(config, genotypes.chain(("identity",) * 3)))["resize"]
  assert rule["view"] == "centre" and rule["keeps_aspect"] and "0.875 of the shorter side" in rule["centre"]
  assert rule["by"].startswith("OpenCV")


def test_where_it_goes(written, tmp_path, monkeypatch):
  files, _ = written
  before = {path: path.read_bytes() for path in files}
  assert export.export(tmp_path / "run") == files  # Anew.
  assert {path: path.read_bytes() for path in files}.keys() == before.keys()
  (tmp_path / "mine").mkdir()
  assert export.export(tmp_path / "run", tmp_path / "mine")[0] == tmp_path / "mine" / "network.stablehlo"
  (tmp_path / "mine" / "thesis.tex").write_text("")
  with pytest.raises(UsageError, match=r"output: .*mine holds 'thesis.tex'; allowed is a folder that is new, empty"):
    export.export(tmp_path / "run", tmp_path / "mine")
  with pytest.raises(UsageError, match=r"output: .*tex is a file"):
    export.export(tmp_path / "run", tmp_path / "mine" / "thesis.tex")
  # A killed export left something half written; one that fails leaves nothing, and what was there.
  (tmp_path / "run" / ".export.partial").mkdir()
  export.export(tmp_path / "run")
  kept = {path: path.read_bytes() for path in files}
  monkeypatch.setattr(export, "TOLERANCES", {"float32": -1.0})
  with pytest.raises(RunError, match=r"network.stablehlo: its probabilities are .* from those of predict; allowed"):
    export.export(tmp_path / "run")
  assert {path: path.read_bytes() for path in files} == kept
  assert [path.name for path in (tmp_path / "run").iterdir()] == ["export"]


def test_without_a_converter_a_line_says_so(monkeypatch, capsys):
  monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
  assert export._optional_onnx(None) is None
  assert capsys.readouterr().err == ("without network.onnx (jax2onnx is missing; pip install 'lfr-darts-jax[onnx]')\n")


OUTSIDE = """
import sys
for name in ("lfr_darts_jax", "flax", "optax", "orbax"):
  sys.modules[name] = None  # An import of it fails.
import jax.export
import numpy as np
with open(sys.argv[1], "rb") as file:
  network = jax.export.deserialize(bytearray(file.read()))
np.save(sys.argv[3], network.call(np.load(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("space", ["cells", "mobile"])
def test_a_trained_run_as_a_user_exports_it(tmp_path, space):
  from PIL import Image

  from tests.conftest import tiny_config
  from tests.test_train import GENOTYPE

  config, genotype = tiny_config(), GENOTYPE
  if space == "mobile":
    config, genotype = small(), genotypes.chain(("mb1_k3", "identity", "mb2_k5"))
  run = tmp_path / "run"
  lfr_darts_jax.train(config, genotype, run)
  images = predictors.images(40)
  (tmp_path / "in").mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image[..., 0]).save(tmp_path / "in" / f"{i:02}.png")
  done = call("--mode=predict", f"--workdir={run}", f"--images={tmp_path / 'in'}")
  assert done.returncode == 0 and done.stderr == "", done.stderr
  expected = [list(json.loads(line)["probabilities"].values()) for line in done.stdout.splitlines()]
  np.testing.assert_allclose(lfr_darts_jax.load(run).predict(images).probabilities, expected, atol=1e-6)
  done = call("--mode=export", f"--workdir={run}", f"--output={tmp_path / 'out'}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.split()[0] == str(tmp_path / "out" / "network.stablehlo")
  np.save(tmp_path / "images.npy", images)
  places = [tmp_path / name for name in ("out/network.stablehlo", "images.npy", "found.npy")]
  subprocess.run([sys.executable, "-c", OUTSIDE, *places], check=True, cwd=tmp_path)
  np.testing.assert_allclose(np.load(places[2]), expected, atol=1e-5)
  if (tmp_path / "out" / "network.onnx").exists():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "network.onnx")
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, atol=1e-4)
  else:
    assert "jax2onnx is missing" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("operation", [*OPERATIONS, "chain", "attention", "bfloat16"])
def test_onnx(images, operation):
  pytest.importorskip("jax2onnx")
  onnxruntime = pytest.importorskip("onnxruntime")
  network = {"attention": {"cell_attention": True}, "bfloat16": {"dtype": "bfloat16"}}.get(operation, {})
  one = "sep_conv_3x3" if network else operation
  trained = predictors.of_chain() if operation == "chain" else predictors.of_cells((one,), **network)
  session = onnxruntime.InferenceSession(export.onnx(trained))
  trained.config.network.dtype = "float32"  # As ONNX computes.
  reference = Predictor(trained.config, trained.genotype, trained.class_names, trained.statistics, trained.variables)
  for some in (images, images[:1]):
    found = session.run(None, {"images": some})[0]
    np.testing.assert_allclose(found, reference.predict(some).probabilities, atol=1e-4)


@pytest.mark.slow
def test_a_network_that_the_converter_does_not_take_is_told(capsys):
  pytest.importorskip("jax2onnx")
  trained = predictors.of_cells(("sep_conv_3x3",), activation="lif", time_steps=3)
  assert export._optional_onnx(trained) is None
  assert re.fullmatch(r"without network\.onnx \(InconclusiveDimensionOperation: .*\)\n", capsys.readouterr().err)
