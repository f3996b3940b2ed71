"""Checkpoints: what is saved, when, and how a run finds its place again.

A checkpoint is a folder that has its step for a name. It holds a pytree of arrays, `state/`, as Orbax stores it; as
JSON what is needed to rebuild the network that they belong to, `meta.json`: the position in the plan and every cell's
candidates; and the checksums of all that. It takes its place when it is whole, see `files.making`, so whatever has a
step for a name was whole once. The checksums tell whether it still is: Orbax does not notice a changed byte in the
arrays' values. Orbax sees local folders alone, whatever the store that they are put into or fetched from.
"""

from collections.abc import Callable
import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from lfr_darts_jax import checksums
from lfr_darts_jax import files
from lfr_darts_jax import processes
from lfr_darts_jax import storage
from lfr_darts_jax.errors import DISK_ERRORS
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.storage import Path

STATE, META = "state", "meta.json"
MAX_META_BYTES = 1_000_000

Tree = Any
Meta = dict[str, Any]


class Broken(UsageError):
  """A checkpoint that is not as it was saved, or not of this run; its text says why in one line."""


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
    return processes.agree(lambda: time.monotonic() - self._saved >= self._interval)

  def save(self, step: int, state: Tree, meta: Meta) -> None:
    """Saves a step, the same one only once; older ones go when the new one is whole.

    Raises:
      OSError, RunError: where it can't be written; older ones are as they were.
    """
    if not processes.agree(self._folder(step).exists):
      self._write(step, state, meta)
      for old in self._steps()[self._keep :] if processes.primary() else []:
        files.remove(self._folder(old))
    self._saved = time.monotonic()

  def restore(self, build: Callable[[Meta], Tree], say: Callable[[str], None]) -> tuple[Tree, Meta] | None:
    """Restores the newest checkpoint that is whole; newer ones, which are not, are renamed.

    Args:
      build: see `read`.
      say: is told about every checkpoint that is passed over.

    Returns:
      State and metadata, or None where there are no checkpoints.

    Raises:
      UsageError: where there are some, but none is whole; nothing is renamed then.
    """
    restored: dict[int, tuple[Tree, Meta]] = {}
    step = processes.agree(lambda: self._newest(build, say, restored))
    if step is None:
      return None
    return restored[step] if step in restored else read(self._folder(step), build)

  def _newest(self, build, say, restored):
    """The newest whole step, None where there are no checkpoints; reads it into `restored`, and renames newer ones."""
    faults: dict[int, str] = {}
    for step in self._steps():
      try:
        restored[step] = read(self._folder(step), build)
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
      aside = self._aside(step)
      files.move(self._folder(step), aside)
      say(f"passing over the checkpoint {self._folder(step)}, now {aside.name}: {fault}")
    files.remove_partials(self._directory)
    return next(iter(restored), None)

  def _folder(self, step):
    return self._directory / str(step)

  def _aside(self, step):
    names = itertools.chain([f"{step}.broken"], (f"{step}.broken{i}" for i in itertools.count(2)))
    there = storage.names(self._directory)
    return next(self._directory / name for name in names if name not in there)

  def _steps(self):
    """Those that have a checkpoint, newest first."""
    names = files.whole(self._directory)
    return sorted((int(name) for name in names if name.isdecimal() and name == str(int(name))), reverse=True)

  def _write(self, step, state, meta):
    """Orbax writes from all processes where they share a directory, the rest is process 0's."""
    folder = self._folder(step)
    # On its way to a store a checkpoint lies in a directory that process 0 alone sees.
    together = storage.is_local(folder)
    place = files.making(folder) if processes.primary() else contextlib.nullcontext(files.partial(folder))
    with place as here:
      processes.meet(f"the place of {folder} is there")
      if together or processes.primary():
        _store(here / STATE, state, together)
      if processes.primary():
        (here / META).write_text(json.dumps({"meta": meta, "arrays": _kinds(state)}))
        checksums.write(here)
    processes.meet(f"{folder} is whole")


def read(folder: Path, build: Callable[[Meta], Tree]) -> tuple[Tree, Meta]:
  """Reads one checkpoint and writes nothing.

  Args:
    folder: where it lies.
    build: from the metadata to a tree of the shapes and types that the checkpoint holds; raises a LookupError,
      TypeError or ValueError for metadata that are not of this run.

  Returns:
    State and metadata.

  Raises:
    Broken: where it is not as it was saved, or not of this run.
    RunError: where a store can't be reached.
  """
  with storage.fetched(folder) as here:
    return _read(here, build)


def _read(folder, build):
  fault = checksums.fault(folder)
  if fault:
    raise Broken(fault)
  try:
    saved = _parse(folder / META)
    meta = saved["meta"]
    shapes = build(meta)
    # Orbax finds out too, but leaves coroutines behind, which Python warns of.
    if saved["arrays"] != _kinds(shapes):
      raise ValueError("the arrays have other names, shapes or types")
  except (LookupError, TypeError, ValueError, OSError) as error:
    reason = " ".join(str(error).split())[:200]
    raise Broken(f"it is not of this run ({type(error).__name__}: {reason})") from error
  with _alone() as store:
    args = ocp.args.StandardRestore(jax.tree.map(_placed, shapes))
    restored = store.restore((folder / STATE).absolute(), args=args)
  # Orbax ties arrays to their device, for which JAX would compile other programs than for those of a fresh start.
  return jax.tree.map(lambda array: jnp.array(np.asarray(array)), restored), meta


def seconds(meta: Meta, key: str = "seconds") -> float:
  """The seconds that a phase, or a part of it, has taken, out of its checkpoint's metadata.

  Raises:
    LookupError, TypeError, ValueError: where there is no such number.
  """
  value = meta[key]
  if type(value) not in (int, float) or not 0 <= value < math.inf:
    raise ValueError(f"{key} is no time")
  return value


def retries(meta: Meta) -> int:
  """How often a phase has gone back to a checkpoint before this one, out of its metadata.

  Raises:
    LookupError, ValueError: where there is no such number.
  """
  value = meta["retries"]
  if type(value) is not int or value < 0:
    raise ValueError("retries is no count")
  return value


def preempted(step: int) -> bool:
  """Whether a notice of preemption has reached all processes: JAX's preemption service, where one runs."""
  return ocp.utils.reached_preemption(step)


def _parse(path):
  with path.open("rb") as file:
    text = file.read(MAX_META_BYTES + 1)
  if len(text) > MAX_META_BYTES:
    raise ValueError(f"{META} has more than {MAX_META_BYTES} bytes")
  try:
    return json.loads(text)
  except RecursionError:
    raise ValueError(f"{META} is nested too deeply") from None


def _kinds(tree):
  """A digest of a tree's structure and its leaves' shapes and types."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  listed = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}\n" for path, leaf in leaves]
  return hashlib.sha256("".join(listed).encode()).hexdigest()


def _placed(leaf):
  # Where none is asked for, Orbax looks for the device that the array was saved from.
  device = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)


def _alone():
  """Orbax in this process alone; in a run of several it would wait for the others."""
  index = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
  )
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
  return ocp.Checkpointer(handler, multiprocessing_options=options)


def _store(path, state, together):
  """Writes arrays, which all processes hold; `together` says whether all of them are here to do it."""
  try:
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) if together else _alone() as store:
      store.save(path.absolute(), args=ocp.args.StandardSave(state if together else jax.tree.map(np.asarray, state)))
  except ValueError as error:
    # What TensorStore raises whatever the operating system said; the words of that are in it.
    for number in DISK_ERRORS:
      if os.strerror(number) in str(error):
        raise OSError(number, os.strerror(number)) from error
    raise
