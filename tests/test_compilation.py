import subprocess
import sys

SCRIPT = """
import jax
from lfr_darts_jax import compilation

compilation.keep()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x * 3)(1.0).block_until_ready()
"""


def run(**environment):
  done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
  return done.stdout.strip()


def test_programs_are_kept_in_the_users_cache_directory(tmp_path):
  path = tmp_path / "lfr_darts_jax" / "compiled"
  assert run(XDG_CACHE_HOME=str(tmp_path)) == str(path)
  assert any("lambda" in file.name for file in path.iterdir())


def test_a_directory_of_the_users_own_is_left_alone(tmp_path):
  assert run(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == str(tmp_path / "own")
  assert not (tmp_path / "lfr_darts_jax").exists()


def test_the_cache_can_be_turned_off(tmp_path):
  run(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="0")
  assert not list(tmp_path.rglob("*lambda*"))
