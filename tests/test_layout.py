"""The house: seven floors, imports going down only; what an import must not do."""

import ast
import configparser
import pathlib
import subprocess
import sys

import pytest

import lfr_darts_jax
from lfr_darts_jax import config as schema

PACKAGE = pathlib.Path(lfr_darts_jax.__file__).parent
TOP = ("__init__", "main", "pipeline", "estimate", "predict", "export", "config", "fields", "errors")
# From the top down. What stands behind a floor are files of the package's top that it may import all the same.
FLOORS = (
  *("main", "pipeline", "estimate", "predict", "export", "report"),
  *("search", "training", "models", "search_space", "data", "runtime"),
)
CELLAR = ("config", "fields", "errors")


def modules():
  """Every module's path, and the names of the package's that it imports."""
  for path in sorted(PACKAGE.rglob("*.py")):
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lfr_darts_jax"):
        names += [f"{node.module}.{alias.name}" for alias in node.names]
    yield path.relative_to(PACKAGE), names


def floor(parts):
  return FLOORS.index(parts[0]) if parts[0] in FLOORS else len(FLOORS)


def test_the_top_is_small():
  assert {path.stem for path in PACKAGE.glob("*.py")} == set(TOP)
  assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(FLOORS) - set(TOP)


def test_a_wheel_has_every_package_and_the_presets():
  setup = configparser.ConfigParser()
  setup.read(PACKAGE.parent / "setup.cfg")
  folders = {"lfr_darts_jax", *(".".join(p.parent.relative_to(PACKAGE.parent).parts) for p in PACKAGE.rglob("*.py"))}
  assert set(setup["options"]["packages"].split()) == folders | {"lfr_darts_jax.configs"}
  assert schema.PRESETS == PACKAGE.parent / "configs"


def test_imports_go_down():
  climbing = []
  for path, names in modules():
    here = path.parts[0].removesuffix(".py")
    # The package is called like the function that it offers.
    if here == "__init__" or path.parts == ("search", "__init__.py"):
      continue
    for name in names:
      there = name.split(".")[1]
      if here in CELLAR:
        allowed = there in CELLAR
      else:
        allowed = there in CELLAR or there == here or floor([there]) > floor([here])
      climbing += [] if allowed else [f"{path}: {name}"]
  assert not climbing


def test_no_circle_within_a_floor():
  known = {".".join(("lfr_darts_jax", *path.with_suffix("").parts)): names for path, names in modules()}
  graph = {
    module: {target for name in names for target in (name, name.rpartition(".")[0]) if target in known} - {module}
    for module, names in known.items()
    if not module.endswith("__init__")
  }
  while graph:
    leaves = {module for module, targets in graph.items() if not targets & graph.keys()}
    assert leaves, sorted(graph)
    graph = {module: targets for module, targets in graph.items() if module not in leaves}


def test_the_search_is_read_on_a_page():
  text = (PACKAGE / "search" / "search.py").read_text()
  (run,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == "run")
  assert len(text.splitlines()) <= 200 and run.end_lineno - run.lineno < 50


def test_the_package_offers_its_interface_on_demand():
  # So that the command line answers at once.
  listed = "import sys, lfr_darts_jax; print('jax' in sys.modules, lfr_darts_jax.get_config().seed, callable("
  done = subprocess.run(
    [sys.executable, "-c", f"{listed}lfr_darts_jax.search) and callable(lfr_darts_jax.load))"],
    capture_output=True,
    text=True,
    cwd=PACKAGE.parent,
  )
  assert done.stdout == "False 0 True\n", done.stderr
  with pytest.raises(AttributeError, match="no attribute 'serach'"):
    lfr_darts_jax.serach  # noqa: B018


def test_the_search_is_a_package_and_a_function(monkeypatch):
  from lfr_darts_jax import pipeline
  from lfr_darts_jax.search import plans

  assert plans.__name__ == "lfr_darts_jax.search.plans"
  monkeypatch.setattr(pipeline, "search", lambda config, workdir: (config, workdir))
  assert lfr_darts_jax.search(1, 2) == (1, 2)
