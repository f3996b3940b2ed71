"""JAX's persistent compilation cache, on by default: the second run of a command does not wait for the compiler."""

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
    jax.config.update("jax_compilation_cache_dir", str(platformdirs.user_cache_path("lfr_darts_jax") / "compiled"))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
