"""Orbax: what is saved, when, and how a run finds its place again.

A checkpoint is a pytree of arrays and, as JSON beside it, what is needed to rebuild the network that they belong to:
the position in the plan and every cell's candidates.
"""

from collections.abc import Callable
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

Tree = Any
Meta = dict[str, Any]


class Checkpoints:
  """The checkpoints of one phase of a run."""

  def __init__(self, directory: pathlib.Path, config: ml_collections.ConfigDict, *, writes: bool = True):
    """Opens a directory, which is made on the first save.

    Args:
      directory: where they lie.
      config: for `checkpoint.interval` and `checkpoint.keep`.
      writes: whether this process alone runs here, so that what another has left half written goes.
    """
    self._interval = config.checkpoint.interval
    self._manager = ocp.CheckpointManager(
      directory.absolute(),
      item_names=("state", "meta"),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=config.checkpoint.keep, enable_async_checkpointing=False, cleanup_tmp_directories=writes
      ),
    )
    self._saved = time.monotonic()

  @property
  def due(self) -> bool:
    """Whether `checkpoint.interval` seconds have passed since the last save."""
    return time.monotonic() - self._saved >= self._interval

  def preempted(self, step: int) -> bool:
    """Whether a notice of preemption has reached all processes (JAX's preemption service, where one runs)."""
    return self._manager.reached_preemption(step)

  def save(self, step: int, state: Tree, meta: Meta) -> None:
    """Saves a step, the same one only once."""
    if step not in self._manager.all_steps():
      items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
      self._manager.save(step, args=items, force=True)
    self._saved = time.monotonic()

  def restore(self, build: Callable[[Meta], Tree]) -> tuple[Tree, Meta] | None:
    """Restores the newest checkpoint.

    Args:
      build: from the metadata to a tree of the shapes and types that the checkpoint holds.

    Returns:
      State and metadata, or None where there is none.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
    items = ocp.args.Composite(state=ocp.args.StandardRestore(build(meta)))
    restored = self._manager.restore(step, args=items).state
    # Orbax ties arrays to their device, for which JAX would compile other programs than for those of a fresh start.
    return jax.tree.map(lambda array: jnp.array(np.asarray(array)), restored), meta

  def close(self) -> None:
    """Waits for what is still being written."""
    self._manager.close()
