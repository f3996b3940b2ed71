"""The work directory: what lies where, and whether a run may go on in it."""

from collections.abc import Iterator
import contextlib
import json
import pathlib
from typing import Any

import filelock

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.files import write_atomically

CONFIG, GENOTYPE, RESULT, COMMANDS = "config.json", "genotype.json", "result.json", "commands.txt"
LOCK, PROFILE = ".lock", "profile"
SEARCH, CHECKPOINTS = "search", "checkpoints"
SEARCH_SUMMARY = f"{SEARCH}/summary.json"

# Fields that do not change what a run computes, so that a continued run may have others.
FREE_FIELDS = ("data.dir", "checkpoint.interval", "checkpoint.keep", "recovery.retries", "profile")
# Those of the final network, which may change as long as only the search is done; the stem is the supernet's too.
FINAL_FIELDS = ("train.", "network.channels", "network.layers")


@contextlib.contextmanager
def alone(workdir: pathlib.Path) -> Iterator[None]:
  """Makes the work directory, and keeps other processes from running in it.

  The operating system drops the lock of a process that dies. Network file systems may not carry it from one machine to
  another, and object stores have none.

  Raises:
    UsageError: where the directory can't be written, or another process runs in it.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(workdir / LOCK)
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise UsageError(f"workdir: {workdir} is in use by another process; allowed is one at a time") from None
  except OSError as error:
    raise UsageError(
      f"workdir: {workdir} can't be written ({error.strerror}); allowed is a directory that can"
    ) from None
  try:
    yield
  finally:
    lock.release()


def check(workdir: pathlib.Path, flat: dict[str, Any]) -> None:
  """Checks that the work directory belongs to this config.

  Args:
    workdir: the directory.
    flat: the config, see `config.flatten`.

  Raises:
    UsageError: where it was begun with a config that differs in more than the free fields.
  """
  path = workdir / CONFIG
  before = json.loads(path.read_text()) if path.exists() else flat
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
