"""The work directory: what lies where, who may write in it, and whether a run may continue there."""

from collections.abc import Callable, Iterator
import contextlib
from typing import Any

import filelock
import ml_collections

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import NO_SPACE, UsageError, short
from lfr_darts_jax.runtime import distributed, json_io, metrics, paths
from lfr_darts_jax.runtime.paths import Path

CONFIG, DATA, GENOTYPE, RESULT, COMMANDS = "config.json", "data.json", "genotype.json", "result.json", "commands.txt"
LOCK, PROFILE = ".lock", "profile"
SEEDS, ALL_SEEDS = "seeds", "seeds.json"
SEARCH, CHECKPOINTS = "search", "checkpoints"
SEARCH_SUMMARY = f"{SEARCH}/summary.json"
MAX_BYTES = 1_000_000  # Of a file that does not grow with data or epochs; what runs write has a hundredth of it.

# Fields that do not change what a run computes, so that a continued run may have others. The data are compared apart,
# wherever they lie and however many of them are bad.
FREE_FIELDS = (
  "data.dir",
  "data.labels",
  "data.skip_bad_files",
  "search.stop_on_collapse",
  "checkpoint.interval",
  "checkpoint.keep",
  "recovery.retries",
  "profile",
)
# Those of the final network, which may change as long as only the search is done; the stem is the supernet's too, and
# so are the weights of classes.
FINAL_FIELDS = ("train.", "network.channels", "network.layers")
SEARCHED_FIELDS = ("train.class_weights",)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Makes the work directory and keeps other runs out of it; of several processes of a run, the first one does.

  The operating system drops the lock of a process that dies. Network file systems may not carry it from one machine to
  another. A bucket has none, which is said on the terminal.

  Raises:
    UsageError: where the directory can't be written, or another run is in it.
    OSError: where there is no space left.
  """
  with contextlib.ExitStack() as held:

    def hold() -> None:
      held.callback(_lock(workdir))

    distributed.broadcast_from_primary(hold)
    yield


def _lock(workdir: Path) -> Callable[[], None]:
  """Takes the lock; returns what gives it back."""
  try:
    str(workdir).encode()
  except UnicodeEncodeError:  # Tensorstore would fail at the first checkpoint.
    raise UsageError(f"workdir: {workdir}; allowed are paths in UTF-8") from None
  if not paths.is_local(workdir):
    paths.check_writable(workdir)
    print(f"{workdir} has no lock: see to it that no other process runs there at the same time", flush=True)
    return lambda: None
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(workdir / LOCK)
    lock.acquire(timeout=0)
    return lock.release
  except filelock.Timeout:
    raise UsageError(f"workdir: {workdir} is in use by another process; allowed is one at a time") from None
  except OSError as error:
    if error.errno in NO_SPACE:
      raise
    raise UsageError(
      f"workdir: {workdir} can't be written ({error.strerror}); allowed is a directory that can"
    ) from None


def flat_config(workdir: Path) -> dict[str, Any] | None:
  """The config that the work directory was begun with, as of `config.complete` but not validated, or None.

  Raises:
    UsageError: where its file holds no JSON object.
  """
  path = workdir / CONFIG
  return schema.complete(json_io.read_json(path, dict[str, Any], MAX_BYTES)) if path.exists() else None


def load_config(workdir: Path) -> ml_collections.ConfigDict:
  """The config of a work directory.

  Raises:
    UsageError: where no run was begun in it, or its file can't be read as a config.
  """
  flat = flat_config(workdir)
  if flat is None:
    raise UsageError(f"workdir: {workdir} has no {CONFIG}; allowed is the directory of a run")
  try:
    return schema.unflatten(flat)
  except UsageError as error:
    raise UsageError(f"{workdir / CONFIG}: {error}") from None


def commands(workdir: Path) -> tuple[str, ...]:
  """The command lines that made the work directory.

  Raises:
    UsageError: where their file can't be read.
  """
  path = workdir / COMMANDS
  return tuple(json_io.read_text(path, MAX_BYTES).splitlines()) if path.exists() else ()


def begun(workdir: Path) -> bool:
  """Whether something in the work directory was computed from its data: a checkpoint, a search, a result."""
  seeds = workdir / SEEDS
  return (
    (workdir / RESULT).exists()
    or any(_whole(workdir / name) for name in (SEARCH, CHECKPOINTS))
    or any(begun(seeds / name) for name in paths.names(seeds))
  )


def bound(workdir: Path) -> bool:
  """Whether the work directory belongs to its config, since it holds something worth keeping."""
  return begun(workdir) or (workdir / GENOTYPE).exists()


def _whole(folder: Path) -> list[str]:
  """The names in a folder, without what is half written."""
  return [name for name in paths.whole(folder) if not name.startswith(".")]


def check(workdir: Path, flat: dict[str, Any]) -> None:
  """Checks that the work directory belongs to a config.

  Args:
    workdir: the directory.
    flat: the config, see `config.flatten`.

  Raises:
    UsageError: where it is bound to a config that differs in more than the free fields.
  """
  before = flat_config(workdir)
  if before is None or not bound(workdir):
    return
  free = FINAL_FIELDS if not _whole(workdir / CHECKPOINTS) else ()
  differing = [
    name
    for name in sorted(flat.keys() | before.keys())
    if flat.get(name) != before.get(name)
    and name not in FREE_FIELDS
    and (name in SEARCHED_FIELDS or not name.startswith(free))
  ]
  if differing:
    changes = ", ".join(f"config.{n}: {short(flat.get(n))}, before {short(before.get(n))}" for n in differing)
    raise UsageError(
      f"workdir: {workdir} was begun with another config; allowed is the same, or a new workdir ({changes})"
    )


def claim(workdir: Path, flat: dict[str, Any], data: Any, command: str) -> None:
  """Writes config and data, and the command where it is a new one; deletes what dead processes left half written.

  Until something is worth keeping, nothing of an earlier command is.

  Args:
    workdir: the directory.
    flat: the config, see `config.flatten`.
    data: the identity of its data, as JSON has it; kept as it is once something was computed from them.
    command: what a user typed.
  """
  paths.remove_partials(workdir)
  if not bound(workdir):
    for name in (metrics.NAME, COMMANDS):
      paths.remove_file(workdir / name)
  if not begun(workdir) or not (workdir / DATA).exists():
    paths.write_atomically(workdir / DATA, json_io.dumps(data))
  before = commands(workdir)
  paths.write_atomically(workdir / CONFIG, json_io.dumps(flat))
  # Names of files need not be UTF-8.
  line = " ".join(command.split()).encode(errors="backslashreplace").decode()
  if line not in before:
    paths.write_atomically(workdir / COMMANDS, "\n".join([*before, line]) + "\n")
