"""What a run has left in its work directory, read back: bounded, checked, refused in one line."""

from typing import Any

import ml_collections

from lfr_darts_jax import collapse
from lfr_darts_jax import config as schema
from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import reading
from lfr_darts_jax import workdir as places
from lfr_darts_jax.data import identity
from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.storage import Path


def config(workdir: Path) -> ml_collections.ConfigDict:
  """The config of a work directory.

  Raises:
    UsageError: where no run was begun in it, or its file can't be read as a config.
  """
  flat = places.config(workdir)
  if flat is None:
    raise UsageError(f"workdir: {workdir} has no {places.CONFIG}; allowed is the directory of a run")
  try:
    return schema.unflatten(flat)
  except UsageError as error:
    raise UsageError(f"{workdir / places.CONFIG}: {error}") from None


def genotype(workdir: Path) -> genotypes.Genotype | None:
  """The genotype of a work directory, None where there is none yet.

  Raises:
    UsageError: where its file can't be read as one.
  """
  path = workdir / places.GENOTYPE
  if not path.exists():
    return None
  text = reading.read_text(path, genotypes.MAX_CHARACTERS)
  try:
    return genotypes.parse(text)
  except UsageError as error:
    raise UsageError(f"{path}: {error}") from None


def data(workdir: Path) -> Identity | None:
  """What the data are told by that a work directory was begun with; None where an earlier version began it.

  Raises:
    UsageError: where its file can't be read.
  """
  path = workdir / places.DATA
  return identity.parse(reading.read_json(path, 100 * places.MAX_BYTES), str(path)) if path.exists() else None


def search_seconds(workdir: Path) -> float | None:
  """How long the search of a work directory took, None before its end and where there was none.

  Raises:
    UsageError: where its file can't be read.
  """
  path = workdir / places.SEARCH_SUMMARY
  if not path.exists():
    return None
  return _summary_number(path, "search_seconds")


def update_seconds(workdir: Path) -> float:
  """Of these, the seconds of updates alone, of a search that is done.

  Raises:
    UsageError: where its file can't be read.
  """
  return _summary_number(workdir / places.SEARCH_SUMMARY, "update_seconds")


def validation_accuracy(workdir: Path) -> float:
  """Of the last supernet of a search that is done, from 0 to 1.

  Raises:
    UsageError: where its file can't be read.
  """
  return _summary_number(workdir / places.SEARCH_SUMMARY, "validation_accuracy")


def _summary_number(path, key):
  value = reading.read_json(path, places.MAX_BYTES).get(key)
  return float(reading.numbers(value, f"{path}: {key}", low=0))


def findings(workdir: Path) -> list[collapse.Finding]:
  """The signs of collapse in the search of a work directory; none before its end and where there was none.

  Raises:
    UsageError: where its file can't be read.
  """
  path = workdir / places.SEARCH_SUMMARY
  if not path.exists():
    return []
  try:
    return collapse.parse(reading.read_json(path, places.MAX_BYTES).get("collapse"))
  except UsageError as error:
    raise UsageError(f"{path}: {error}") from None


def result(workdir: Path, config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """What the `result.json` of a work directory holds, None before the test.

  Args:
    workdir: the directory.
    config: its config, by which classes and channels are counted.

  Raises:
    UsageError: where the file can't be read, or lacks what others need of it.
  """
  path = workdir / places.RESULT
  if not path.exists():
    return None
  classes, channels = config.data.num_classes, config.data.channels
  # A confusion matrix of so many classes has that many lines.
  found = reading.read_json(path, 10 * places.MAX_BYTES + 40 * classes**2)
  where = lambda name: f"{path}: {name}"

  def need(name, allowed, right):
    if not right(found.get(name)):
      raise UsageError(f"{where(name)}: {short(found.get(name))}; allowed is {allowed}")

  shapes = {"mean": (channels,), "deviation": (channels,), "confusion": (classes, classes)}
  for name in ("test_error", "top5_error", "train_seconds", "mean", "deviation"):
    reading.numbers(found.get(name), where(name), shapes.get(name, ()), low=0)
  for name in ("parameters", "multiply_adds", "updates", "devices", "confusion"):
    reading.numbers(found.get(name), where(name), shapes.get(name, ()), integers=True, low=0)
  for name in ("search_seconds", "skipped_files"):
    if found.get(name) is not None:
      reading.numbers(found[name], where(name), low=0)
  if found.get("data") is not None:
    identity.parse(found["data"], where("data"))
  try:
    collapse.parse(found.get("collapse"))
  except UsageError as error:
    raise UsageError(f"{path}: {error}") from None
  for name in ("device", "finished"):
    need(name, "text", lambda value: isinstance(value, str))
  several = lambda value: isinstance(value, list) and len(value) == classes
  need("class_names", f"a list of {classes} texts", lambda v: several(v) and all(isinstance(n, str) for n in v))
  need("class_errors", f"a list of {classes} numbers, or null where a class has no image", several)
  errors = [0 if error is None else error for error in found["class_errors"]]
  reading.numbers(errors, where("class_errors"), (classes,), low=0)
  return found
