"""Traces of what the device does, for XProf or TensorBoard's profile page."""

from collections.abc import Iterator
import contextlib

import jax

from lfr_darts_jax import workdir as places
from lfr_darts_jax.storage import Path
from lfr_darts_jax.storage import Staged


class Profiler:
  """Traces the first dispatch of every program into the work directory, where that is wanted."""

  def __init__(self, workdir: Path, wanted: bool):
    self._folder, self._wanted = workdir / places.PROFILE, wanted
    self._seen: set[str] = set()

  @contextlib.contextmanager
  def dispatch(self, program: str) -> Iterator[None]:
    """Wraps a dispatch, from its start until its results have arrived.

    Args:
      program: its name, and that of the folder that the trace goes to.
    """
    if not self._wanted or program in self._seen:
      yield
      return
    self._seen.add(program)
    options = jax.profiler.ProfileOptions()
    # Python's own calls would bury the device's.
    options.python_tracer_level = 0
    with contextlib.closing(Staged(self._folder / program)) as staged:
      with jax.profiler.trace(staged.here, profiler_options=options):
        yield
