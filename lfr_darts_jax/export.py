"""What `--mode=export` does: the trained network of a directory as files that other programs read."""

from collections.abc import Callable
import functools
from importlib import metadata
import importlib.util
import logging
import shutil
import sys
from typing import Any
import warnings

import flax
import jax
from jax import export as jax_export
import ml_collections
import numpy as np

from lfr_darts_jax.data import decoding
from lfr_darts_jax.errors import RunError, UsageError, listed, one_line
from lfr_darts_jax.runtime import jax_setup, json_io, paths, target
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.training import predictor
from lfr_darts_jax.training.predictor import Predictor

FOLDER = "export"
STABLEHLO, PARAMETERS, ONNX, PREPROCESSING = (
  "network.stablehlo",
  "parameters.safetensors",
  "network.onnx",
  "preprocessing.json",
)
FORMAT, VERSION = "lfr-darts-export", 1
PLATFORMS = ("cpu", "cuda", "tpu")  # That the StableHLO is lowered for.
IMAGES, PROBABILITIES = "images", "probabilities"  # The input, and the output.
# How far the probabilities of an exported form may be from those of `predict`, by `network.dtype`: bfloat16 has three
# digits, and rounds differently wherever operations are fused differently.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}
TRIED = 3  # Images that every form is compared on: neither one nor a batch of `predict`.


def export(workdir: str | Path, output: str | Path | None = None) -> list[Path]:
  """Writes the trained network of a directory for other programs; what it writes is compared with `predict` before.

  `network.stablehlo` is what `jax.export.deserialize` reads: from uint8 images of any number to probabilities, with
  the parameters, for CPUs, CUDA and TPUs. `network.onnx` is the same for ONNX, where the extra `onnx` is installed.
  `parameters.safetensors` has parameters and batch statistics, named by their path in the tree of variables.
  `preprocessing.json` tells how images are made of files.

  Args:
    workdir: the directory.
    output: a folder that is new, empty, or of an earlier export; None for `export` in the directory.

  Returns:
    The paths of the files, all of them there at once.

  Raises:
    UsageError: where the directory holds no trained network, the folder holds something else, or a package is missing.
    RunError: where a form does not predict what `predict` does.
  """
  workdir = paths.path(workdir)
  folder = workdir / FOLDER if output is None else paths.path(output)
  _check_place(folder)
  jax_setup.enable_cache()
  trained = predictor.load(workdir)
  files = {STABLEHLO: stablehlo(trained), PARAMETERS: parameters(trained)}
  converted = _optional_onnx(trained)
  files |= {ONNX: converted} if converted else {}
  files[PREPROCESSING] = json_io.dumps(preprocessing(trained)).encode()
  if paths.names(folder):
    paths.remove(folder)
  if paths.is_local(folder):  # Of an export that was killed.
    shutil.rmtree(paths.partial(folder), ignore_errors=True)
  with paths.new_folder(folder) as here:
    for name, content in files.items():
      (here / name).write_bytes(content)
      paths.sync(here / name)
  return [folder / name for name in files]


def stablehlo(trained: Predictor) -> bytes:
  """The network as `jax.export.deserialize` reads it, in plain operations; errors as of `export`."""
  with target.compiling_for(target.ANY):
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.image_shape), np.uint8)
    exported = jax_export.export(jax.jit(_classifier(trained)), platforms=PLATFORMS)(images)
  content = bytes(exported.serialize())
  _compare(STABLEHLO, trained, lambda images: jax_export.deserialize(bytearray(content)).call(images))
  return content


def parameters(trained: Predictor) -> bytes:
  """Parameters and batch statistics as safetensors."""
  try:
    import safetensors.numpy
  except ImportError:
    raise UsageError("export: needs the package safetensors, which is missing; pip install safetensors") from None
  flat = flax.traverse_util.flatten_dict(trained.variables, sep="/")
  arrays = {name: np.ascontiguousarray(value) for name, value in flat.items()}
  return safetensors.numpy.save(arrays, metadata={"format": FORMAT, "version": str(VERSION)})


def onnx(trained: Predictor) -> bytes:
  """The network as ONNX. One that computes in bfloat16 computes in float32 there: few runtimes know bfloat16.

  Raises:
    Exception: of any type, where the converter does not take the network.
    RunError: as of `export`.
  """
  import jax2onnx
  import onnxruntime

  with target.compiling_for(target.ANY), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # Shapes that it does not know are of no harm.
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.image_shape), np.uint8)
    names = {"input_names": [IMAGES], "output_names": [PROBABILITIES]}
    model = jax2onnx.to_onnx(_classifier(trained, "float32"), [images], model_name="lfr_darts", **names)
  # The converter's shapes of what lies between are wrong where it swaps layouts, which runtimes warn of.
  del model.graph.value_info[:]
  content: bytes = model.SerializeToString()
  session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
  _compare(ONNX, trained, lambda images: session.run(None, {IMAGES: images})[0])
  return content


def preprocessing(trained: Predictor) -> dict[str, Any]:
  """What stands in `preprocessing.json`."""
  height, width, channels = trained.image_shape
  mean, deviation = trained.statistics
  return {
    "format": FORMAT,
    "version": VERSION,
    "input": {
      "name": IMAGES,
      "dtype": "uint8",
      "layout": "NHWC",
      "size": [height, width],
      "channels": channels,
      "colours": "RGB" if channels == 3 else "grey",
    },
    "output": {"name": PROBABILITIES, "dtype": "float32", "classes": len(trained.class_names)},
    "class_names": trained.class_names,
    "decode": {
      "formats": decoding.FORMATS,
      "frame": "first",
      "orientation": "upright, by EXIF",
      "transparency": "over white",
      "bits": "16-bit channels to 8 by their high byte",
    },
    "resize": _resizing(trained.config),
    # The network does it; said for those that build it anew from the parameters.
    "normalise": {"inside": True, "scale": 1 / 255, "mean": mean, "std": deviation},
    "packages": {name: metadata.version(name) for name in ("jax", "flax")},
  }


def _resizing(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The rule of what the test sees, see `data.view`."""
  rule: dict[str, Any] = {"view": config.data.test_view, "keeps_aspect": config.data.test_view == "centre"}
  if config.data.loading != "stream":
    return {**rule, "by": "Pillow's Image.resize, bilinear"}
  from lfr_darts_jax.data.streaming import transforms

  by = "OpenCV's resize, INTER_LINEAR; of a JPEG after decoding it at 1/2, 1/4 or 1/8, where that is no smaller"
  if config.data.test_view == "centre":
    rule["centre"] = f"the square in the middle whose side is {transforms.CENTRE} of the shorter side"
  return {**rule, "by": by}


def _classifier(trained: Predictor, dtype: str | None = None) -> Callable[[jax.Array], jax.Array]:
  network = trained.network if dtype is None else trained.network.clone(dtype=dtype)
  return functools.partial(predictor.probabilities, network, trained.statistics, trained.variables)


def _optional_onnx(trained: Predictor) -> bytes | None:
  """The network as ONNX; None, and a line that says why, without a converter or where it does not take the network."""
  try:
    if importlib.util.find_spec("jax2onnx") is None:
      raise UsageError("jax2onnx is missing; pip install 'lfr-darts-jax[onnx]'")
    return onnx(trained)
  except RunError:
    raise
  except Exception as error:  # Converters raise all sorts of errors.
    why = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
    print(one_line(f"without {ONNX} ({why})"), file=sys.stderr, flush=True)
    return None


def _compare(name: str, trained: Predictor, call: Callable[[np.ndarray], Any]) -> None:
  """Refuses a form whose probabilities are not those of `predict`."""
  # Noise from dark to bright, since networks average noise of one kind away.
  noise = np.random.default_rng(0).random((TRIED, *trained.image_shape))
  images = (noise * np.linspace(0, 255, TRIED).reshape(-1, 1, 1, 1)).astype(np.uint8)
  found, expected = np.asarray(call(images), np.float32), trained.predict(images).probabilities
  apart = float(np.max(np.abs(found - expected))) if found.shape == expected.shape else float("inf")
  allowed = TOLERANCES[trained.config.network.dtype]
  if not apart <= allowed:
    raise RunError(f"{name}: its probabilities are {apart:.2g} from those of predict; allowed are {allowed:g}")


def _check_place(folder: Path) -> None:
  if paths.is_file(folder):
    raise UsageError(f"output: {folder} is a file; allowed is a folder")
  known = (STABLEHLO, PARAMETERS, ONNX, PREPROCESSING)
  if others := [name for name in paths.names(folder) if name not in known]:
    raise UsageError(
      f"output: {folder} holds {listed(others)}; allowed is a folder that is new, empty, or of an earlier export"
    )
