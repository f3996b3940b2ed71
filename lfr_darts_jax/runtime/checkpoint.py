"""Checkpoints: what is saved, when, and how a run finds its place again.

A checkpoint is a folder named by its step. It holds a pytree of arrays, `state/`, as Orbax stores it; as JSON what is
needed to rebuild the network that they belong to, `meta.json`; and the checksums of all that, since Orbax does not
notice a changed byte in an array. It gets its name when it is whole, see `paths.new_folder`. Orbax sees local folders
alone: a bucket's checkpoints are put from there and fetched to there.
"""

from collections.abc import Callable
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import msgspec
import numpy as np
import orbax.checkpoint as ocp

from lfr_darts_jax.errors import DISK_ERRORS, UsageError
from lfr_darts_jax.runtime import distributed, json_io, paths
from lfr_darts_jax.runtime.paths import Path

STATE, META, SUMS = "state", "meta.json", "SHA256SUMS"
MAX_BYTES = 10_000_000  # Of the metadata, and of the checksums.

Tree = Any
Meta = dict[str, Any]


class Broken(UsageError):
  """A checkpoint that is not as it was saved, or not of this run; its text says why in one line."""


class _Saved(msgspec.Struct):
  """What `meta.json` holds: the metadata, and a digest of the arrays' names, shapes and types."""

  meta: dict[str, Any]
  arrays: str


class Checkpoints:
  """The checkpoints of one phase of a run."""

  def __init__(self, directory: Path, config: ml_collections.ConfigDict):
    """Opens a directory, which is made on the first save.

    Args:
      directory: where they lie.
      config: for `checkpoint.interval` and `checkpoint.keep`.
    """
    self._directory = directory
    self._interval, self._keep = config.checkpoint.interval, config.checkpoint.keep
    self._saved = time.monotonic()

  @property
  def due(self) -> bool:
    """Whether `checkpoint.interval` seconds have passed since the last save."""
    return distributed.broadcast_from_primary(lambda: time.monotonic() - self._saved >= self._interval)

  def save(self, step: int, state: Tree, meta: Meta) -> None:
    """Saves a step, the same one only once; older ones go when the new one is whole.

    Raises:
      OSError, RunError: where it can't be written; older ones are as they were.
    """
    if not distributed.broadcast_from_primary(self._folder(step).exists):
      self._write(step, state, meta)
      for old in self._steps()[self._keep :] if distributed.is_primary() else []:
        paths.remove(self._folder(old))
    self._saved = time.monotonic()

  def restore(self, shapes: Callable[[Meta], Tree], say: Callable[[str], None]) -> tuple[Tree, Meta] | None:
    """Restores the newest checkpoint that is whole; newer ones, which are not, are renamed.

    Args:
      shapes: see `read`.
      say: is told about every checkpoint that is passed over.

    Returns:
      State and metadata, or None where there are no checkpoints.

    Raises:
      UsageError: where there are some, but none is whole; nothing is renamed then.
    """
    restored: dict[int, tuple[Tree, Meta]] = {}
    step = distributed.broadcast_from_primary(lambda: self._newest(shapes, say, restored))
    if step is None:
      return None
    return restored[step] if step in restored else read(self._folder(step), shapes)

  def _newest(self, shapes: Callable[[Meta], Tree], say: Callable[[str], None], restored: dict[int, Any]) -> int | None:
    """The newest whole step, None where there are no checkpoints; reads it into `restored`, and renames newer ones."""
    faults: dict[int, str] = {}
    for step in self._steps():
      try:
        restored[step] = read(self._folder(step), shapes)
        break
      except Broken as error:
        faults[step] = str(error)
    if faults and not restored:
      listed = "; ".join(f"{step}: {fault}" for step, fault in faults.items())
      raise UsageError(
        f"workdir: no checkpoint in {self._directory} is whole ({listed}); allowed is a directory with a whole one, or "
        "a new workdir"
      )
    for step, fault in faults.items():
      there = paths.names(self._directory)
      candidates = (f"{step}.broken{i if i > 1 else ''}" for i in itertools.count(1))
      aside = self._directory / next(name for name in candidates if name not in there)
      paths.move(self._folder(step), aside)
      say(f"passing over the checkpoint {self._folder(step)}, now {aside.name}: {fault}")
    paths.remove_partials(self._directory)
    return next(iter(restored), None)

  def _folder(self, step: int) -> Path:
    return self._directory / str(step)

  def _steps(self) -> list[int]:
    """Those that have a checkpoint, newest first."""
    names = paths.whole(self._directory)
    return sorted((int(name) for name in names if name.isdecimal() and name == str(int(name))), reverse=True)

  def _write(self, step: int, state: Tree, meta: Meta) -> None:
    """Orbax writes from all processes where they share a directory; the rest is process 0's."""
    folder = self._folder(step)
    # On its way to a bucket a checkpoint lies in a directory that process 0 alone sees.
    together = paths.is_local(folder)
    place = paths.new_folder(folder) if distributed.is_primary() else contextlib.nullcontext(paths.partial(folder))
    with place as here:
      distributed.barrier(f"the place of {folder} is there")
      if together or distributed.is_primary():
        _store(here / STATE, state, together)
      if distributed.is_primary():
        (here / META).write_text(json.dumps({"meta": meta, "arrays": _digest_of_kinds(state)}))
        write_sums(here)
    distributed.barrier(f"{folder} is whole")


def read(folder: Path, shapes: Callable[[Meta], Tree]) -> tuple[Tree, Meta]:
  """Reads one checkpoint and writes nothing.

  Args:
    folder: where it lies.
    shapes: from the metadata to a tree of the shapes and types that the checkpoint holds; raises a LookupError,
      TypeError or ValueError for metadata that are not of this run.

  Returns:
    State and metadata.

  Raises:
    Broken: where it is not as it was saved, or not of this run.
    RunError: where a bucket can't be reached.
  """
  with paths.fetched(folder) as here:
    if (found := fault(here)) is not None:
      raise Broken(found)
    try:
      saved = json_io.read_json(here / META, _Saved, MAX_BYTES)
      expected = shapes(saved.meta)
      # Orbax finds out too, but leaves coroutines behind, which Python warns of.
      if saved.arrays != _digest_of_kinds(expected):
        raise ValueError("the arrays have other names, shapes or types")
    except (LookupError, TypeError, ValueError, OSError) as error:
      reason = " ".join(str(error).split())[:200]
      raise Broken(f"it is not of this run ({type(error).__name__}: {reason})") from error
    with _local_checkpointer() as store:
      args = ocp.args.StandardRestore(jax.tree.map(_placed, expected))
      restored = store.restore((here / STATE).absolute(), args=args)
  # Orbax ties arrays to their device, for which JAX would compile other programs than for those of a fresh start.
  return jax.tree.map(lambda array: jnp.array(np.asarray(array)), restored), saved.meta


def write_sums(folder: pathlib.Path) -> None:
  """Writes a folder's files through to the disk and their sums beside them, as `sha256sum -c` reads them."""
  files = sorted(path for path in folder.rglob("*") if path.is_file())
  for path in files:
    paths.sync(path)
  lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
  paths.write_atomically(folder / SUMS, "".join([*lines, _end(lines)]))


def fault(folder: pathlib.Path) -> str | None:
  """What is wrong with a folder, None where every file is as it was when its sums were written.

  Files that came later don't count: file managers and network file systems leave some.
  """
  try:
    with (folder / SUMS).open("rb") as file:
      *lines, end = file.read(MAX_BYTES).decode().splitlines(keepends=True) or [""]
    # Without the last line one could not tell that others are missing before it.
    if end != _end(lines):
      return f"{SUMS} is incomplete"
    for line in lines:
      match = re.fullmatch(r"([0-9a-f]{64})  (.+)\n", line)
      if not match:
        return f"{SUMS} is not as it was written"
      digest, name = match.groups()
      path = folder / name
      # A sum may be asked of a folder's own files alone, not of a device that never ends.
      if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return f"{name} is missing"
      if _digest(path) != digest:
        return f"{name} is not as it was written"
  except FileNotFoundError:
    return f"{SUMS} is missing"
  except UnicodeDecodeError:
    return f"{SUMS} is not as it was written"
  except OSError as error:
    return f"{error.filename or folder} can't be read: {error.strerror}"
  return None


def preempted(step: int) -> bool:
  """Whether a notice of preemption has reached all processes: JAX's preemption service, where one runs."""
  return ocp.utils.reached_preemption(step)


def _digest(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _end(lines: list[str]) -> str:
  return f"# {len(lines)} files\n"


def _digest_of_kinds(tree: Tree) -> str:
  """A digest of a tree's structure and its leaves' shapes and types."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  listed = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}\n" for path, leaf in leaves]
  return hashlib.sha256("".join(listed).encode()).hexdigest()


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
  # Without a sharding Orbax looks for the device that the array was saved from.
  device = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)


def _local_checkpointer() -> ocp.Checkpointer:
  """Orbax in this process alone; in a run of several it would wait for the others."""
  index = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
  )
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
  return ocp.Checkpointer(handler, multiprocessing_options=options)


def _store(path: pathlib.Path, state: Tree, together: bool) -> None:
  """Writes arrays, which all processes hold; `together` says whether all of them are here to do it."""
  try:
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) if together else _local_checkpointer() as store:
      store.save(path.absolute(), args=ocp.args.StandardSave(state if together else jax.tree.map(np.asarray, state)))
  except ValueError as error:
    # TensorStore raises it whatever the operating system said, whose words are in it.
    for number in DISK_ERRORS:
      if os.strerror(number) in str(error):
        raise OSError(number, os.strerror(number)) from error
    raise
