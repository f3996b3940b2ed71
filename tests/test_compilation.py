import os
import pathlib
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


def test_a_half_written_program_is_compiled_anew_and_a_whole_one_is_not(tmp_path):
  run(XDG_CACHE_HOME=str(tmp_path))
  (program,) = tmp_path.rglob("*lambda*-cache")
  whole = program.stat()
  run(XDG_CACHE_HOME=str(tmp_path))
  assert program.stat().st_mtime_ns == whole.st_mtime_ns
  program.write_bytes(program.read_bytes()[:100])
  program.with_name(program.name.replace("-cache", "-atime")).unlink()
  run(XDG_CACHE_HOME=str(tmp_path))
  assert program.stat().st_size == whole.st_size


TRACE = """
import hashlib
import jax
from tests.conftest import Supernet

net = Supernet(layout=("r0",), nodes=1)
apply = lambda v, x, a: net.network.apply(v, x, a, True, mutable=["batch_stats"])
lowered = jax.jit(apply).lower({"params": net.params, "batch_stats": net.batch_stats}, net.images, net.alphas)
print(hashlib.sha256(lowered.as_text().encode()).hexdigest())
"""


def test_a_program_is_the_same_in_every_process():
  root = pathlib.Path(__file__).parents[1]
  texts = [
    subprocess.run(
      [sys.executable, "-c", TRACE],
      env=os.environ | {"PYTHONHASHSEED": seed},
      cwd=root,
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for seed in ("1", "2", "3")
  ]
  # Or its key in the cache would never be found again.
  assert len(texts[0]) > 60 and len(set(texts)) == 1
