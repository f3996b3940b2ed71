"""The house: imports go downward only, in the order that CONTRIBUTING.md gives."""

import ast
import pathlib
import re

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
