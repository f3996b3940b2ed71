"""The main job in one working directory: search, train, evaluate. Each part continues where the directory stopped."""

from importlib import metadata
import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax import cost
from lfr_darts_jax import driver
from lfr_darts_jax import forecast
from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import trainer
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import batches
from lfr_darts_jax.data import sources
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.evaluate import evaluate as count_errors
from lfr_darts_jax.files import write_atomically
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.metrics import Metrics
from lfr_darts_jax.metrics import Progress
from lfr_darts_jax.network import final_network

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
# Fields that do not change what a run computes, so that a continued run may have others.
FREE_FIELDS = ("data.dir", "checkpoint.interval", "checkpoint.keep")


def search(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> Genotype:
  """Searches a layered genotype, or returns that of a directory whose search is done.

  Args:
    config: the config; see `config.get_config`.
    workdir: where the run is kept; made where it is not there.

  Returns:
    The derived cells, shallow to deep.

  Raises:
    UsageError: for wrong input.
    Interrupted: after SIGINT or SIGTERM; the same call continues.
  """
  return _Run(config, workdir).search()


def train(config: ml_collections.ConfigDict, genotype: Genotype, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Trains the network of a genotype from scratch and tests it.

  Args:
    config: the config.
    genotype: the derived cells.
    workdir: where the run is kept.

  Returns:
    What `result.json` holds: `test_error` and `top5_error` in percent, `parameters`, `multiply_adds`, and more.

  Raises:
    UsageError: for wrong input.
    Interrupted: after SIGINT or SIGTERM; the same call continues.
  """
  run = _Run(config, workdir)
  run.set_genotype(genotype)
  return run.train()


def run(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path, genotype: Genotype | None = None
) -> dict[str, Any]:
  """Searches, trains and tests; returns what `result.json` holds. A given genotype takes the place of the search."""
  job = _Run(config, workdir)
  if genotype is not None:
    job.set_genotype(genotype)
  job.search()
  return job.train()


def describe(config: ml_collections.ConfigDict, genotype: Genotype) -> dict[str, int]:
  """Cost of a genotype's final network, without data or training: see `cost.describe`, and its `layers`."""
  schema.validate(config)
  network = final_network(config, genotype)
  shape = (config.data.image_size, config.data.image_size, config.data.channels)
  return {**cost.describe(network, shape), "layers": len(network.layout)}


def evaluate(workdir: str | pathlib.Path) -> dict[str, Any]:
  """Tests the trained network of a directory again.

  Returns:
    `test_error` and `top5_error` in percent, and the number of `images`.

  Raises:
    UsageError: where the directory holds no trained network.
  """
  predictor = load(workdir)
  dataset = sources.load(predictor.config)
  result = predictor.count(dataset.test())
  return {"test_error": result.error, "top5_error": result.top5_error, "images": result.total}


class Predictor:
  """The trained network of a work directory.

  Attributes:
    config: the config it was trained with.
    genotype: its cells.
    class_names: by label.
  """

  def __init__(self, config: ml_collections.ConfigDict, genotype: Genotype, result: dict[str, Any], variables: Any):
    self.config, self.genotype = config, genotype
    self.class_names = tuple(result["class_names"])
    self._mean, self._deviation = tuple(result["mean"]), tuple(result["deviation"])
    self._variables, self._network = variables, final_network(config, genotype)

  def predict(self, images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Classifies images.

    Args:
      images: uint8 `[n, image_size, image_size, channels]`.

    Returns:
      The name of every image's most probable class, and the probabilities `[n, classes]`.

    Raises:
      UsageError: where the images have another shape or type.
    """
    size, channels = self.config.data.image_size, self.config.data.channels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, channels):
      raise UsageError(f"images: {images.dtype}{list(images.shape)}; allowed are uint8[n, {size}, {size}, {channels}]")
    normal = augment.normalize(jnp.asarray(images), self._mean, self._deviation)
    outputs: Any = self._network.apply(self._variables, normal)
    probabilities = np.asarray(jax.nn.softmax(outputs.logits))
    return [self.class_names[i] for i in probabilities.argmax(axis=-1)], probabilities

  def count(self, test: sources.Arrays) -> Evaluation:
    """Tests the network on images and labels."""
    images, labels = test
    split = batches.Split(jnp.asarray(images), jnp.asarray(labels))
    return count_errors(
      self._network,
      self._variables,
      split,
      jnp.arange(len(labels)),
      self.config.train.batch_size,
      self._mean,
      self._deviation,
    )


def load(workdir: str | pathlib.Path) -> Predictor:
  """Loads the trained network of a work directory.

  Raises:
    UsageError: where the directory holds none.
  """
  workdir = pathlib.Path(workdir)
  for name in ("config.json", "genotype.json", "result.json"):
    if not (workdir / name).is_file():
      raise UsageError(f"workdir: {workdir} has no {name}; allowed is the directory of a finished training")
  config = _config_from(json.loads((workdir / "config.json").read_text()))
  genotype = genotypes.parse((workdir / "genotype.json").read_text())
  variables = trainer.restore(config, final_network(config, genotype), workdir)
  if variables is None:
    raise UsageError(f"workdir: {workdir} has no checkpoint; allowed is the directory of a finished training")
  return Predictor(config, genotype, json.loads((workdir / "result.json").read_text()), variables)


def _config_from(flat):
  config = schema.get_config()
  for name, value in flat.items():
    node = config
    *groups, leaf = name.split(".")
    for group in groups:
      node = node[group]
    with node.ignore_type():
      node[leaf] = _tuples(value)
  schema.validate(config)
  return config


def _tuples(value):
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


class _Run:
  """A work directory and what its phases share: data, metrics, progress."""

  def __init__(self, config, workdir):
    schema.validate(config)
    self._config, self._workdir = config, pathlib.Path(workdir)
    self._genotype_path = self._workdir / "genotype.json"
    self._summary_path = self._workdir / "search" / "summary.json"
    _check_workdir(self._workdir, schema.flatten(config))
    self._dataset = sources.load(config)
    trainer.check_batch_size(config, len(self._dataset.train[0]))
    self._metrics, self._progress, self._interrupt = Metrics(self._workdir), None, Interrupt()

  def set_genotype(self, genotype):
    """Takes a given genotype in place of a search."""
    final_network(self._config, genotype)
    text = genotype.to_json()
    if self._genotype_path.exists() and self._genotype_path.read_text() != text:
      raise UsageError(f"genotype: {self._genotype_path} holds another; allowed is the same one, or a new workdir")
    self._begin()
    write_atomically(self._genotype_path, text)

  def _begin(self):
    """Claims the directory for this config, once nothing is left that could be refused."""
    write_atomically(self._workdir / "config.json", json.dumps(schema.flatten(self._config), indent=1) + "\n")

  def search(self):
    if self._genotype_path.exists():
      return genotypes.parse(self._genotype_path.read_text())
    final_network(self._config, forecast.guess_genotype(self._config))
    images = len(self._dataset.train[0])
    self._progress = self._progress or Progress(
      forecast.search_work(self._config, images) + forecast.training_work(self._config, images)
    )
    with self._interrupt:
      job = driver.Search(self._config, self._dataset, self._workdir, self._metrics, self._progress, self._interrupt)
      self._begin()
      found, seconds = job.run()
      write_atomically(self._summary_path, json.dumps({"search_seconds": seconds}) + "\n")
      write_atomically(self._genotype_path, found.to_json())
    return found

  def train(self):
    result_path = self._workdir / "result.json"
    if result_path.exists():
      result = json.loads(result_path.read_text())
      print(_summary(result, result_path))
      return result
    genotype = genotypes.parse(self._genotype_path.read_text())
    network = final_network(self._config, genotype)
    train_arrays = self._dataset.train
    self._progress = self._progress or Progress(forecast.training_work(self._config, len(train_arrays[0]), genotype))
    with self._interrupt:
      job = trainer.Training(
        self._config, network, train_arrays, self._workdir, self._metrics, self._progress, self._interrupt
      )
      self._begin()
      state, seconds = job.run()
    result = {
      **describe(self._config, genotype),
      "train_seconds": seconds,
      **self._circumstances(),
      "mean": job.mean,
      "deviation": job.deviation,
      "class_names": self._dataset.class_names,
    }
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    tested = Predictor(self._config, genotype, result, variables).count(self._dataset.test())
    result = {
      "test_error": tested.error,
      "top5_error": tested.top5_error,
      **result,
      "class_errors": tested.class_errors,
      "confusion": tested.confusion.tolist(),
    }
    self._metrics.write(
      "test", 0, int(state.step), {"test_error": tested.error, "top5_error": tested.top5_error}, int(state.step)
    )
    self._metrics.close()
    write_atomically(result_path, json.dumps(result, indent=1) + "\n")
    self._progress.say(_summary(result, result_path))
    return result

  def _circumstances(self):
    seconds = json.loads(self._summary_path.read_text())["search_seconds"] if self._summary_path.exists() else None
    return {
      "search_seconds": seconds,
      "seed": self._config.seed,
      "device": jax.devices()[0].device_kind,
      "devices": jax.device_count(),
      "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
      "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _summary(result, path):
  search = "" if result["search_seconds"] is None else f"search {result['search_seconds']:.0f} s | "
  return (
    f"test error {result['test_error']:.2f} % | top-5 {result['top5_error']:.2f} % | "
    f"{result['parameters']} parameters | {result['multiply_adds']} multiply-adds | "
    f"{search}training {result['train_seconds']:.0f} s | {path}"
  )


def _check_workdir(workdir, flat):
  """Makes the work directory, and checks that it can be written and belongs to this config."""
  path = workdir / "config.json"
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
    before = json.loads(path.read_text()) if path.exists() else flat
  except OSError as error:
    raise UsageError(
      f"workdir: {workdir} can't be written ({error.strerror}); allowed is a directory that can"
    ) from None
  # Fields of the final network may change as long as only the search is done; the stem is the supernet's too.
  free = ("train.", "network.channels", "network.layers") if not (workdir / "checkpoints").exists() else ()
  differing = [
    name
    for name in sorted(flat.keys() | before.keys())
    if flat.get(name) != before.get(name) and name not in FREE_FIELDS and not name.startswith(free)
  ]
  if differing:
    changes = ", ".join(f"config.{n}: {flat.get(n)!r}, before {before.get(n)!r}" for n in differing)
    raise UsageError(
      f"workdir: {workdir} was begun with another config; allowed is the same, or a new workdir ({changes})"
    )
