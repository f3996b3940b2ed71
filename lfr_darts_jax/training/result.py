"""What `result.json` holds: the schema by which it is read back."""

from typing import Annotated, Any

import ml_collections
import msgspec

from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io, workdir as workdirs
from lfr_darts_jax.runtime.paths import Path

Number = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Result(msgspec.Struct, kw_only=True):
  """The outcome of a run.

  Attributes:
    test_error, top5_error: in percent.
    balanced_accuracy: mean over the classes of the share recognised, in percent; None in results of earlier versions.
    spike_rate: spikes per neuron and time step on the test's first batch; None where no neuron spikes.
    class_errors: in percent, None for a class without images.
    confusion: images by true class, then by predicted class.
    parameters, parameters_with_auxiliary: of the network, without its auxiliary head and with it.
    multiply_adds: for one image; those of signs by signs apart, in binary_multiply_adds.
    layers: of the network.
    updates: steps of the training.
    search_seconds, train_seconds: over all processes; the first is None where there was no search.
    collapse: signs that the search collapsed, see `search.diagnostics`.
    mean, deviation: of the train split, per channel.
    class_names: by label.
    data: the identity of the data; None in results of earlier versions.
    seed, device, devices, finished, packages: what the run was made with.
    skipped_files: of an image folder, that could not be read.
  """

  test_error: Number
  top5_error: Number
  class_errors: list[Number | None]
  confusion: list[list[Count]]
  parameters: Count
  multiply_adds: Count
  updates: Count
  train_seconds: Number
  mean: list[Number]
  deviation: list[Number]
  class_names: list[str]
  device: str
  devices: Count
  finished: str
  parameters_with_auxiliary: Count | None = None
  binary_multiply_adds: Count = 0
  layers: Count | None = None
  balanced_accuracy: Number | None = None
  spike_rate: Number | None = None
  search_seconds: Number | None = None
  collapse: list[dict[str, Any]] = []
  data: Identity | None = None
  seed: int | None = None
  packages: dict[str, str] = {}
  skipped_files: Count | None = None


def load(workdir: Path, config: ml_collections.ConfigDict) -> Result | None:
  """What the `result.json` of a work directory holds, None before the test.

  Args:
    workdir: the directory.
    config: its config, by which classes and channels are counted.

  Raises:
    UsageError: where the file can't be read, or is none of this config.
  """
  path = workdir / workdirs.RESULT
  if not path.exists():
    return None
  classes, channels = config.data.num_classes, config.data.channels
  # A confusion matrix of so many classes has that many lines.
  found = json_io.read_json(path, Result, 10 * workdirs.MAX_BYTES + 40 * classes**2)
  sizes = {"mean": channels, "deviation": channels}
  sizes |= dict.fromkeys(("class_names", "class_errors", "confusion"), classes)
  for name, size in sizes.items():
    if len(getattr(found, name)) != size:
      raise UsageError(f"{path}: {name}: {len(getattr(found, name))} entries; the config allows {size}")
  if any(len(row) != classes for row in found.confusion):
    raise UsageError(f"{path}: confusion: rows of other sizes; the config allows {classes} entries")
  return found
