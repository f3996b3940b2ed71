"""The work directory: what lies where, and whether a run may go on in it."""

import json
import pathlib
import tempfile
from typing import Any

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.files import write_atomically

CONFIG, GENOTYPE, RESULT, COMMANDS = "config.json", "genotype.json", "result.json", "commands.txt"
SEARCH, SEARCH_SUMMARY, CHECKPOINTS = "search", "search/summary.json", "checkpoints"

# Fields that do not change what a run computes, so that a continued run may have others.
FREE_FIELDS = ("data.dir", "checkpoint.interval", "checkpoint.keep")
# Those of the final network, which may change as long as only the search is done; the stem is the supernet's too.
FINAL_FIELDS = ("train.", "network.channels", "network.layers")


def check(workdir: pathlib.Path, flat: dict[str, Any]) -> None:
  """Makes the work directory, and checks that it can be written and belongs to this config.

  Args:
    workdir: the directory.
    flat: the config, see `config.flatten`.

  Raises:
    UsageError: where it can't be written, or was begun with a config that differs in more than the free fields.
  """
  path = workdir / CONFIG
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
    before = json.loads(path.read_text()) if path.exists() else flat
  except OSError as error:
    raise UsageError(
      f"workdir: {workdir} can't be written ({error.strerror}); allowed is a directory that can"
    ) from None
  free = FINAL_FIELDS if not (workdir / CHECKPOINTS).exists() else ()
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


def claim(workdir: pathlib.Path, flat: dict[str, Any], command: str) -> None:
  """Writes the config, and the command where it is a new one.

  Args:
    workdir: the directory.
    flat: the config, see `config.flatten`.
    command: what a user typed.
  """
  write_atomically(workdir / CONFIG, json.dumps(flat, indent=1) + "\n")
  path = workdir / COMMANDS
  commands = path.read_text().splitlines() if path.exists() else []
  line = " ".join(command.split())
  if line not in commands:
    write_atomically(path, "\n".join([*commands, line]) + "\n")
