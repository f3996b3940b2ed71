"""JAX's persistent compilation cache, on by default: the second run of a command does not wait for the compiler."""

import contextlib
import pathlib

import filelock
import jax
import platformdirs

MAX_BYTES = 4 * 2**30
MIN_SECONDS = 0.2  # Of compiling; what is quicker is not kept.


def keep() -> None:
  """Keeps compiled programs in the user's cache directory.

  A directory that JAX has been given otherwise (`JAX_COMPILATION_CACHE_DIR`) is left alone, and
  `JAX_ENABLE_COMPILATION_CACHE=0` turns the cache off.
  """
  if jax.config.values["jax_compilation_cache_dir"] is None:
    directory = platformdirs.user_cache_path("lfr_darts_jax") / "compiled"
    # Without it nothing is lost but time.
    with contextlib.suppress(OSError):
      _drop_half_written(directory)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def _drop_half_written(directory: pathlib.Path) -> None:
  """Removes what a process left that died while it wrote a program, which JAX would neither read nor replace.

  JAX writes the time of the last use after the program, and holds the lock meanwhile.
  """
  if not directory.exists():
    return
  with filelock.FileLock(directory / ".lockfile", timeout=10):
    for program in directory.glob("*-cache"):
      if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
        program.unlink()
