"""What JAX is told before it starts, and traces of what it does."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
from jax.profiler import ProfileData
import pytest

from lfr_darts_jax.runtime import jax_setup
from lfr_darts_jax.runtime.jax_setup import Profiler

ROOT = pathlib.Path(__file__).parents[1]
OFF = f"{jax_setup.TRITON_GEMM}=false"
OTHER = "--xla_cpu_enable_fast_math=false"


@pytest.mark.parametrize(
  ("plugin", "before", "after"),
  [
    ("xla_cuda13", None, OFF),
    ("xla_cuda13", OTHER, f"{OTHER} {OFF}"),
    ("xla_cuda13", f"{jax_setup.TRITON_GEMM}=true", f"{jax_setup.TRITON_GEMM}=true"),
    ("xla_other", None, "None"),
  ],
)
def test_matrix_products_of_nvidia_gpus_are_cublas_unless_flags_say_otherwise(tmp_path, plugin, before, after):
  package = tmp_path / "jax_plugins" / plugin
  package.mkdir(parents=True)
  (package / "__init__.py").touch()
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  environment |= {"PYTHONPATH": str(tmp_path)} | ({"XLA_FLAGS": before} if before else {})
  code = "import os, lfr_darts_jax; lfr_darts_jax.set_flags(); print(os.environ.get('XLA_FLAGS'))"
  found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
  assert found.stdout.strip() == after


def test_an_import_sets_nothing():
  code = "import os; before = dict(os.environ); import lfr_darts_jax.pipeline; print(dict(os.environ) == before)"
  found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert found.stdout.strip() == "True"


SCRIPT = """
import jax
from lfr_darts_jax.runtime import jax_setup

jax_setup.enable_cache()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x * 3)(1.0).block_until_ready()
"""


def run(**environment):
  environment["PYTHONPATH"] = str(ROOT)
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


NOWHERE = """
import os, pwd
def missing(uid):
  raise KeyError(uid)
pwd.getpwuid = missing
"""


def test_without_a_home_directory_there_is_no_cache_which_is_told(tmp_path):
  environment = {"PYTHONPATH": str(ROOT)}
  done = subprocess.run(
    [sys.executable, "-c", NOWHERE + SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True
  )
  told, directory = done.stdout.splitlines()
  assert told.startswith("without the cache of compiled programs (") and directory == "None"
  assert done.stderr == "" and not list(tmp_path.iterdir())


def test_without_a_place_for_it_there_is_no_cache_which_is_told(tmp_path):
  (tmp_path / "lfr_darts_jax").write_text("")
  told, directory = run(XDG_CACHE_HOME=str(tmp_path)).splitlines()
  assert told.startswith("without the cache of compiled programs (") and directory == "None"


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
lowered = jax.jit(apply).lower({"params": net.params, "batch_stats": net.batch_stats}, net.images, net.mixtures())
print(hashlib.sha256(lowered.as_text().encode()).hexdigest())
"""


@pytest.mark.slow
def test_a_program_is_the_same_in_every_process():
  texts = [
    subprocess.run(
      [sys.executable, "-c", TRACE],
      env=os.environ | {"PYTHONHASHSEED": seed},
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for seed in ("1", "2", "3")
  ]
  # Or its key in the cache would never be found again.
  assert len(texts[0]) > 60 and len(set(texts)) == 1


def traces(folder):
  return sorted(path.relative_to(folder).parts[0] for path in folder.rglob("*.xplane.pb"))


def test_the_first_chunk_of_every_program_is_traced(tmp_path):
  profiler = Profiler(tmp_path, True)
  for program in ("search_1", "search_1", "train"):
    with profiler.trace(program):
      jax.jit(jnp.sin)(jnp.ones(3)).block_until_ready()
  assert traces(tmp_path / "profile") == ["search_1", "train"]
  (path,) = (tmp_path / "profile" / "train").rglob("*.xplane.pb")
  events = [
    event.name for plane in ProfileData.from_file(str(path)).planes for line in plane.lines for event in line.events
  ]
  assert any("sin" in name for name in events)


def test_a_trace_that_cannot_be_made_ends_no_run(tmp_path, capsys):
  profiler = Profiler(tmp_path, True)
  with profiler.trace("search_1"), profiler.trace("train"):
    pass
  assert traces(tmp_path / "profile") == ["search_1"]
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("without a trace (")
  with pytest.raises(ZeroDivisionError), profiler.trace("search_2"):
    1 / 0  # noqa: B018


def test_nothing_is_traced_unless_asked(tmp_path):
  with Profiler(tmp_path, False).trace("train"):
    pass
  assert not (tmp_path / "profile").exists()
