"""What `--help` and `--version` print."""

import ast
from collections.abc import Mapping
from importlib import metadata
import textwrap

from lfr_darts_jax import config as schema
from lfr_darts_jax.fields import FIELDS

PACKAGE, WIDTH = "lfr-darts-jax", 100
HEAD = """Searches neural architectures by gradient, layer by layer (LFR-DARTS), in JAX.

  lfr-darts --workdir=DIR [--mode=MODE] [--config=NAME] [--config.FIELD=VALUE ...]"""


def version() -> str:
  """Name and version of this package, and the version of JAX."""
  return f"{PACKAGE} {_version(PACKAGE)}, jax {_version('jax')}"


def _version(package: str) -> str:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return "(not installed)"


def usage(modes: Mapping[str, str], flags: Mapping[str, str], full: bool = False) -> str:
  """The modes, the flags and the presets.

  Args:
    modes, flags: what each does, by name.
    full: whether every field of the config is listed too.
  """
  titles = {name: ast.get_docstring(ast.parse(path.read_text())) or "" for name, path in schema.presets().items()}
  sections = {
    "Modes, as --mode=MODE": modes,
    "Flags": flags,
    "Presets, as --config=NAME or --config=NAME:VARIANT": {n: text.partition("\n")[0] for n, text in titles.items()},
  }
  if full:
    fields = {f"{n} = {f.default}": f"{f.note}. Allowed are {f.allowed}." for n, f in FIELDS.items()}
    sections["Fields of the config, as --config.FIELD=VALUE, with the defaults"] = fields
  return "\n\n".join([HEAD, *(f"{title}:\n{_rows(rows)}" for title, rows in sections.items())])


def _rows(rows: Mapping[str, str]) -> str:
  indent = min(25, 4 + max(map(len, rows)))
  lines: list[str] = []
  for name, text in rows.items():
    first, *more = textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
    head = f"  {name}"
    # Where the name leaves no room, the text begins below it.
    lines += [head.ljust(indent) + first.lstrip()] if len(head) < indent else [head, first]
    lines += more
  return "\n".join(lines)
