"""The house: imports go downward only, in the order that CONTRIBUTING.md gives."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import lfr_darts_jax

ROOT = pathlib.Path(__file__).parents[1]


def test_imports_go_downward():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  paragraph = text[text.index("Imports go downward") : text.index("A new operation")]
  order = re.findall(r"`(\w+)`", paragraph)
  climbing = []
  for path in sorted((ROOT / "lfr_darts_jax").rglob("*.py")):
    here = path.relative_to(ROOT / "lfr_darts_jax").parts[0].removesuffix(".py")
    if here == "__init__":
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lfr_darts_jax"):
        parts = node.module.split(".")
        names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        climbing += [f"{path.name}: {n}" for n in names if n != here and order.index(n) < order.index(here)]
  assert not climbing


def test_the_package_offers_its_interface_on_demand():
  # So that the workers of the input import little.
  listed = "import sys, lfr_darts_jax; print('jax' in sys.modules, lfr_darts_jax.get_config().seed, callable("
  done = subprocess.run(
    [sys.executable, "-c", f"{listed}lfr_darts_jax.search) and callable(lfr_darts_jax.load))"],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.stdout == "False 0 True\n", done.stderr
  with pytest.raises(AttributeError, match="no attribute 'serach'"):
    lfr_darts_jax.serach  # noqa: B018
