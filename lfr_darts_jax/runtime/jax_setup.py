"""What JAX is told before it starts: compiler flags, the compilation cache; and traces of what the devices do."""

from collections.abc import Iterator
import contextlib
import importlib.util
import os
import pathlib
import pkgutil
import tempfile

import filelock
import platformdirs

from lfr_darts_jax.runtime import paths, workdir as workdirs
from lfr_darts_jax.runtime.optional import optional
from lfr_darts_jax.runtime.paths import Path, Staged

TRITON_GEMM = "--xla_gpu_enable_triton_gemm"
MAX_CACHE_BYTES = 4 * 2**30
MIN_COMPILE_SECONDS = 0.2  # What compiles faster is not cached.


def set_flags() -> None:
  """Has cuBLAS compute matrix products on NVIDIA GPUs, unless `XLA_FLAGS` says something of them.

  Call it before JAX touches a GPU; the command line does. With XLA's own products compiling the training ended the
  process, on an H200 with jax 0.11.2: "triton_tiling_propagation.cc: Check failed: subdim_size_accumulator == dim_size"
  (https://github.com/openxla/xla/issues/47381). Nothing is set where JAX has no plugin for these GPUs, since XLA
  refuses flags that it does not know.
  """
  plugins = importlib.util.find_spec("jax_plugins")
  found = pkgutil.iter_modules(plugins.submodule_search_locations or []) if plugins else ()
  flags = os.environ.get("XLA_FLAGS", "")
  if TRITON_GEMM not in flags and any(module.name.startswith("xla_cuda") for module in found):
    os.environ["XLA_FLAGS"] = f"{flags} {TRITON_GEMM}=false".lstrip()


def enable_cache() -> None:
  """Keeps compiled programs in the user's cache directory, so that the second run of a command starts sooner.

  A directory that JAX has been given (`JAX_COMPILATION_CACHE_DIR`) is left alone, and `JAX_ENABLE_COMPILATION_CACHE=0`
  turns the cache off. Where there is no such directory and none can be made, there is no cache, which is told.
  """
  import jax

  if jax.config.values["jax_compilation_cache_dir"] is None:
    with optional("the cache of compiled programs"):
      directory = pathlib.Path(paths.expanded(platformdirs.user_cache_dir("lfr_darts_jax"))) / "compiled"
      directory.mkdir(parents=True, exist_ok=True)
      tempfile.TemporaryFile(dir=directory).close()  # Or JAX would find out at every program.
      with contextlib.suppress(OSError):
        _drop_half_written(directory)
      jax.config.update("jax_compilation_cache_dir", str(directory))
      jax.config.update("jax_compilation_cache_max_size", MAX_CACHE_BYTES)
      jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


def _drop_half_written(directory: pathlib.Path) -> None:
  """Removes what a process left that died while it wrote a program, which JAX would neither read nor replace.

  JAX writes the time of the last use after the program, and holds the lock meanwhile.
  """
  with filelock.FileLock(directory / ".lockfile", timeout=10):
    for program in directory.glob("*-cache"):
      if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
        program.unlink()


class Profiler:
  """If enabled, traces the first chunk of each compiled function into the work directory, for XProf or TensorBoard."""

  def __init__(self, workdir: Path, enabled: bool):
    """Traces nothing yet; `enabled` is `config.profile`."""
    self._folder, self._enabled = workdir / workdirs.PROFILE, enabled
    self._seen: set[str] = set()

  @contextlib.contextmanager
  def trace(self, program: str) -> Iterator[None]:
    """Wraps a chunk, from its start until its results have arrived.

    Args:
      program: its name, and that of the folder that the trace goes to.
    """
    import jax

    if not self._enabled or program in self._seen:
      yield
      return
    self._seen.add(program)
    options = jax.profiler.ProfileOptions()
    # Python's own calls would bury the device's.
    options.python_tracer_level = 0
    staged: Staged | None = None
    with optional("a trace"):
      folder = Staged(self._folder / program)
      jax.profiler.start_trace(folder.here, profiler_options=options)
      staged = folder
    try:
      yield
    finally:
      if staged:
        with optional("a trace"), contextlib.closing(staged):
          jax.profiler.stop_trace()
