"""Genotypes as text: our JSON, and what other programs write; read as data, nothing is executed."""

import ast
import re
from typing import Any
import warnings

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io, paths
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search_space.cell_spec import MAX_NODES, NORMAL, REDUCTION, GenotypeError
from lfr_darts_jax.search_space.genotype import Genotype, chain, derived_cell, parse_json

MAX_CHARACTERS = 1_000_000
# A code of NAS-Bench-Macro has a digit per layer.
MACRO_CODE, MACRO_BLOCKS = re.compile(r"[0-2]{8}"), ("identity", "mb3_k3", "mb6_k5")


def parse(text: str) -> Genotype:
  """Reads `genotype.json`, DARTS's `Genotype(...)` text, or a code of NAS-Bench-Macro such as 22212220.

  Raises:
    GenotypeError: with one line that says what is wrong.
  """
  if len(text) > MAX_CHARACTERS:
    raise GenotypeError(f"genotype: {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
  if MACRO_CODE.fullmatch(text.strip()):
    return chain([MACRO_BLOCKS[int(digit)] for digit in text.strip()])
  return parse_json(text) if text.lstrip().startswith("{") else _parse_darts(text)


def load(path: Path) -> Genotype:
  """The genotype of a file.

  Raises:
    UsageError: where it can't be read as one.
  """
  text = json_io.read_text(path, MAX_CHARACTERS)
  try:
    return parse(text)
  except UsageError as error:
    raise UsageError(f"{path}: {error}") from None


def named(name: str) -> Genotype:
  """The built-in genotype of that name, or that of a file.

  Raises:
    UsageError: where there is no such file, or it holds no genotype.
  """
  if name in BUILT_IN:
    return BUILT_IN[name]
  if MACRO_CODE.fullmatch(name):
    return parse(name)
  path = paths.path(name)
  if not paths.is_file(path):
    raise UsageError(f"genotype: {name} is no file; allowed are a file and {', '.join(BUILT_IN)}")
  return parse(json_io.read_text(path, MAX_CHARACTERS))


def as_genotype(value: Genotype | Path | str) -> Genotype:
  """A genotype that was given as such, as a name, as a path, or as text."""
  if isinstance(value, Genotype):
    return value
  text = str(value)
  return parse(text) if "(" in text or text.lstrip().startswith("{") else named(text)


def to_darts(genotype: Genotype) -> str:
  """DARTS's `Genotype(normal=..., ...)` text.

  Raises:
    GenotypeError: where there is not just one cell of each kind.
  """
  if sorted(cell.kind for cell in genotype.cells) != [NORMAL, REDUCTION]:
    raise GenotypeError("cells: DARTS's format holds one normal and one reduction cell")
  by_kind = {cell.kind: cell for cell in genotype.cells}
  pairs = {kind: [(ops[0], s) for s, _, ops in by_kind[kind].connections] for kind in by_kind}
  return (
    f"Genotype(normal={pairs[NORMAL]}, normal_concat={list(by_kind[NORMAL].concat)}, "
    f"reduce={pairs[REDUCTION]}, reduce_concat={list(by_kind[REDUCTION].concat)})"
  )


def _parse_darts(text: str) -> Genotype:
  # A call's name and keywords are read from the syntax tree; ast.literal_eval takes only literals.
  source = text.strip()
  match = re.match(r"^(?:\w+\s*=\s*)?(Genotype\s*\(.*\))$", source, re.DOTALL)
  if not match:
    raise GenotypeError("genotype: neither JSON nor a DARTS Genotype(...)")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # An odd escape in a string is worth no second line.
      call = ast.parse(match[1], mode="eval").body
  except (RecursionError, MemoryError):
    raise GenotypeError("genotype: nested too deeply; allowed are lists of pairs") from None
  except (SyntaxError, ValueError) as error:
    raise GenotypeError(f"genotype: neither JSON nor a DARTS Genotype(...): {error}") from None
  if not isinstance(call, ast.Call) or call.args:
    raise GenotypeError("genotype: Genotype(...) must have keyword arguments only")
  fields = {}
  for keyword in call.keywords:
    try:
      fields[keyword.arg] = _literal(keyword.value)
    except (ValueError, TypeError, RecursionError, MemoryError):
      raise GenotypeError(f"{keyword.arg}: not a literal list or range") from None
  wanted = {"normal", "normal_concat", "reduce", "reduce_concat"}
  if set(fields) != wanted or len(call.keywords) != len(wanted):
    raise GenotypeError(f"genotype: Genotype(...) must have the arguments {', '.join(sorted(wanted))}")
  cells = []
  for field, kind in (("normal", NORMAL), ("reduce", REDUCTION)):
    pairs = fields[field]
    if not isinstance(pairs, (list, tuple)) or len(pairs) % 2:
      raise GenotypeError(f"{field}: must list two (operation, source) pairs per node")
    nodes = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    cells.append(derived_cell("normal" if kind == NORMAL else "reduction", kind, nodes, fields[f"{field}_concat"]))
  return Genotype(tuple(cells))


def _literal(node: ast.expr) -> Any:
  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords:
    bounds = [ast.literal_eval(a) for a in node.args]
    if len(bounds) not in (1, 2) or not all(type(b) is int and abs(b) <= MAX_NODES + 2 for b in bounds):
      raise ValueError("range")
    return list(range(*bounds))
  return ast.literal_eval(node)


# The cells that DARTS publishes for CIFAR-10, second order (Liu et al., figures 4 and 5).
DARTS_V2 = parse("""Genotype(
  normal=[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
          ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
  normal_concat=[2, 3, 4, 5],
  reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
          ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
  reduce_concat=[2, 3, 4, 5])""")
BUILT_IN = {"DARTS_V2": DARTS_V2}
