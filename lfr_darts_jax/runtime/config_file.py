"""Where a config comes from: a preset's name, a Python file, or JSON such as a run leaves in its work directory."""

import pathlib
from typing import Any

import ml_collections

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.fields import FIELDS
from lfr_darts_jax.runtime import json_io, paths

MAX_BYTES = 1_000_000


def get_config(name: str | None = None) -> ml_collections.ConfigDict:
  """The config of that name.

  Args:
    name: a preset such as "digits", or "cifar10:quarter_hour" for one that has variants; "FILE.py" or
      "FILE.py:VARIANT", whose `get_config()` returns a config; or "FILE.json", whose fields, under dotted names or in
      nested objects, override the defaults. None for the defaults, which are those of "cifar10".

  Raises:
    UsageError: where there is no such preset, variant or file, or a file holds no config.
  """
  if name is None or name.partition(":")[0] in schema.presets():
    return schema.get_config(name)
  if name.endswith(".json"):
    path = paths.path(name)
    try:
      return _from_fields(_flat(json_io.read_json(path, dict[str, Any], MAX_BYTES)))
    except UsageError as error:
      raise UsageError(f"config: {error}" if str(path) in str(error) else f"config: {path}: {error}") from None
  file, colon, variant = name.partition(":")
  path = pathlib.Path(paths.expanded(file))
  if path.suffix != ".py" or not path.is_file():
    allowed = f"{', '.join(schema.presets())}, a Python file with get_config(), and a JSON file of fields"
    raise UsageError(f"config: {name} is not there or no config; allowed are {allowed}")
  return schema.of_file(path, variant if colon else None)


def _flat(fields: dict[str, Any], group: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in fields.items():
    nested = isinstance(value, dict) and value
    flat |= _flat(value, f"{group}{name}.") if nested else {f"{group}{name}": value}
  return flat


def _from_fields(flat: dict[str, Any]) -> ml_collections.ConfigDict:
  # What is whole was written by a run, perhaps one of an earlier version; a part of the fields was not.
  whole = schema.complete(flat)
  return schema.unflatten(whole if whole.keys() >= FIELDS.keys() else flat)
