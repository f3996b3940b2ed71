"""Genotypes as people have them: our JSON, DARTS's `Genotype(...)` anywhere in a text, what we print; all read as data.

Of several in one text the last is read, since a log ends with what the search ended with; of several that have names
the one that is asked for.
"""

import codecs
from collections.abc import Iterator, Mapping
import contextlib
import os
import re
import sys
from typing import Any, NamedTuple

from lfr_darts_jax.errors import UsageError, one_line, short
from lfr_darts_jax.runtime import json_io, paths
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search_space import darts_format, printed_cells
from lfr_darts_jax.search_space.cell_spec import GenotypeError
from lfr_darts_jax.search_space.genotype import Genotype, chain, decode_json, from_json, of_cells
from lfr_darts_jax.search_space.literals import Call, Items, begins, place, read

MAX_CHARACTERS, MAX_FOUND = 16_000_000, 10_000  # Of a text, which may be the whole log of a search.
# A code of NAS-Bench-Macro has a digit per layer.
MACRO_CODE, MACRO_BLOCKS = re.compile(r"[0-2]{8}"), ("identity", "mb3_k3", "mb6_k5")
ALLOWED = "allowed are Genotype(...) of DARTS, genotype.json, and cells as this program prints them"
# What word processors and web pages put in the place of what was typed.
TYPED = str.maketrans("\u2018\u2019\u201b\u201c\u201d\u201e\u00a0", "'''\"\"\" ")
# Where a genotype begins: a call, or a dictionary of our JSON or of DARTS's fields.
BEGINNING = re.compile(
  r"(?<!class )(?<!def )Genotype\s*\("
  r"""|\{\s*(?P<quote>["'])(?:format(?P=quote)\s*:\s*["']lfr-darts-genotype["']|normal(?P=quote)\s*:)"""
)
# What may stand in front of it: the name that it is given, as a variable or as a key, and a call with its text.
NAMED = re.compile(
  r"""(?:([A-Za-z_]\w*)\s*(?::\s*[\w.]*Genotype\s*)?=|["'](\w+)["']\s*:)\s*(?:\\\s*|[\w.]*\(\s*)*["'`]*(?:\w+\s*\.\s*)*\w*\Z"""
)
IN_FRONT, MAX_NAME = 2_000, 300  # Characters where a sign of a comment, and the name, are looked for.
MAX_HOPS = 10  # From name to name that is only another one's.
ALIAS = re.compile(r"^(\w+)[ \t]*=[ \t]*(\w+)[ \t]*(?:[#;=].*)?$", re.MULTILINE)
TEXT = re.compile(r"""\n|\A\s*["'{(\[|]""")  # What is no name of a file.
# Formats that stay unread.
OTHERS = {
  "an export of NNI": re.compile(r"""["'](?:normal|reduce)(?:_n\d+_(?:p\d+|switch)|/(?:op|input)_\d+_\d+)["']\s*:"""),
  "a string of NAS-Bench-201": re.compile(r"\|\w{1,32}~\d"),
  "a configuration of NAS-Bench-301": re.compile(r"NetworkSelectorDatasetInfo:darts:"),
}


class Found(NamedTuple):
  """A genotype in a text.

  Attributes:
    start: offset of where it begins.
    quote: of the keys of a dictionary; None for a call.
    name: what it is assigned to; empty for nothing.
    comment: whether it stands in one.
  """

  start: int
  quote: str | None
  name: str
  comment: bool


def parse(text: str) -> Genotype:
  """Reads the genotype of a text, the last one where there are several.

  Raises:
    GenotypeError: with one line that says where what was met, and what is allowed.
  """
  return _parse(text, "")[0]


def load(path: Path) -> Genotype:
  """The genotype of a file.

  Raises:
    UsageError: where it can't be read as one.
  """
  return _load(path, "")[0]


def as_genotype(value: Any) -> Genotype:
  """A genotype that was given as such, as a name, as a path, FILE:NAME, or as text; or DARTS's as an object.

  What is to be said of how it was read, such as that it is the last of several, is a line on stderr.

  Raises:
    UsageError: where it can't be read as one.
  """
  if isinstance(value, Genotype):
    return value
  value = value._asdict() if hasattr(value, "_asdict") else value
  if isinstance(value, Mapping):
    genotype, note = _of_value({k: list(v) if isinstance(v, range) else v for k, v in value.items()}, "genotype: ")
  elif isinstance(value, (str, os.PathLike)):
    genotype, note = _of_text(os.fspath(value))
  else:
    raise UsageError(f"genotype: {short(value)}; allowed are a Genotype, a name, a path and text")
  if note:
    print(one_line(f"genotype: {note}"), file=sys.stderr, flush=True)
  return genotype


def _of_text(text: str) -> tuple[Genotype, str]:
  """The genotype of that name, of a file, of FILE:NAME, or the text itself; and what is to be said of it."""
  if text in BUILT_IN or MACRO_CODE.fullmatch(text):
    return BUILT_IN.get(text) or parse(text), ""
  file, _, name = text.rpartition(":")
  for path, own in ((text, ""), (file, name)):
    if path and re.fullmatch(r"\w*", own) and paths.is_file(paths.path(path)):
      genotype, note = _load(paths.path(path), own)
      return genotype, note and f"{path}: {note}"
  if not any(pattern.search(text) for pattern in (BEGINNING, printed_cells.CELL, TEXT, *OTHERS.values())):
    raise UsageError(
      f"genotype: {text[:300]} is no file; allowed are a file, FILE:NAME, the text of a genotype, {', '.join(BUILT_IN)}"
    )
  try:
    return _parse(text, "")
  except GenotypeError as error:
    raise GenotypeError(f"genotype: {str(error).removeprefix('genotype: ')}") from None


def _load(path: Path, name: str) -> tuple[Genotype, str]:
  content = json_io.read_bytes(path, MAX_CHARACTERS)
  wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # As PowerShell writes a log.
  try:
    return _parse(content.decode("utf-16" if wide else "utf-8"), name)
  except UnicodeDecodeError as error:
    raise UsageError(f"{path}: byte {error.start} is not UTF-8; allowed is a text file in it") from None
  except UsageError as error:
    raise UsageError(f"{path}: {str(error).removeprefix('genotype: ')}") from None


def _parse(text: str, name: str) -> tuple[Genotype, str]:
  """The genotype of a text, of a name where there is one; and what is to be said of how it was read."""
  if len(text) > MAX_CHARACTERS:
    raise GenotypeError(f"genotype: {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
  text = re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff").translate(TYPED))
  if MACRO_CODE.fullmatch(text.strip()):
    return chain([MACRO_BLOCKS[int(digit)] for digit in text.strip()]), ""
  if re.fullmatch(r'\s*".*"\s*', text, re.DOTALL):
    with contextlib.suppress(GenotypeError):
      text = decode_json(text)
  found = list(_found(text))
  if found:
    chosen, note = _chosen(text, found, name)
    # A file of JSON is such to its end.
    alone = len(found) == 1 and chosen.quote == '"' and not text[: chosen.start].strip()
    value = decode_json(text) if alone else _read(text, chosen)
    genotype, more = _of_value(value, f"{place(text, chosen.start)}: ")
    return genotype, "; ".join(filter(None, (note, more)))
  if name:
    raise GenotypeError(f"genotype: nothing is named {name}; allowed is a name that is assigned a Genotype(...)")
  if printed_cells.CELL.search(text):
    cells, again = printed_cells.of_text(text)
    return of_cells(cells), "of cells that stand there again the last are read" if again else ""
  for other, pattern in OTHERS.items():
    if pattern.search(text):
      raise GenotypeError(f"genotype: {other}, which can't be read; {ALLOWED}")
  if text.lstrip().startswith(("{", "[")):
    return _of_value(decode_json(text), "genotype: ")
  raise GenotypeError(f"genotype: {short(text.strip())}; {ALLOWED}")


def _found(text: str) -> Iterator[Found]:
  for number, match in enumerate(BEGINNING.finditer(text)):
    if number == MAX_FOUND:
      raise GenotypeError(f"genotype: more than {MAX_FOUND} in one text; allowed are at most so many")
    start = match.start()
    front = text[max(0, start - IN_FRONT) : start]
    named = NAMED.search(front[-MAX_NAME:])
    yield Found(start, match["quote"], (named[1] or named[2]) if named else "", "#" in front.rpartition("\n")[2])


def _chosen(text: str, found: list[Found], name: str) -> tuple[Found, str]:
  """The genotype of a name, or the last one where no two have different names; and whether there were several."""
  # What is commented out counts only where there is nothing else, or it is asked for.
  live = [one for one in found if not one.comment] or found
  names = list(dict.fromkeys(one.name for one in (found if name else live) if one.name))
  aliases = dict(ALIAS.findall(text)) if name else {}
  wanted = name
  for _ in range(MAX_HOPS):
    wanted = wanted if wanted in names else aliases.get(wanted, wanted)
  if name and wanted not in names:
    raise GenotypeError(f"genotype: nothing is named {name}; allowed are {', '.join(names) or 'no names'}")
  if not name and len(names) > 1:
    raise GenotypeError(f"genotype: there are several; allowed is FILE:NAME with one of {', '.join(names)}")
  among = [one for one in found if one.name == wanted] if name else live
  note = f"the last of {len(among)} is read, on {place(text, among[-1].start)}" if len(among) > 1 else ""
  return among[-1], note


def _read(text: str, found: Found) -> Any:
  if found.comment:
    text = text[: found.start] + re.sub(r"(?m)^([ \t]*)#", r"\1 ", text[found.start :])
  if re.match(r"""[^"']{0,300}\\[nt"']""", text[found.start : found.start + MAX_NAME]):  # Inside a string of JSON.
    text = text[: found.start] + re.sub(r"\\(.)", lambda m: " " if m[1] in "nt" else m[1], text[found.start :])
  if found.quote == '"':
    return decode_json(text, found.start)
  return read(text, found.start, lambda name: name.endswith(("Genotype", "CellSpec")))


def _of_value(value: Any, at: str) -> tuple[Genotype, str]:
  """The genotype of what was read; and what is to be said of it."""
  if isinstance(value, list):  # What JSON makes of a namedtuple.
    return darts_format.from_fields(dict(zip(darts_format.FIELDS, value, strict=False)), "genotype: ")
  if isinstance(value, dict):
    ours = "format" in value or not {"normal", "reduce"} & value.keys()
    return (from_json(value), "") if ours else darts_format.from_fields(value, at)
  cells = value.arguments[0] if value.arguments else value.keywords.get("cells")
  if isinstance(cells, Items) and cells and isinstance(cells[0], Call):
    return of_cells([printed_cells.of_call(cell, begins(cells, i)) for i, cell in enumerate(cells)]), ""
  names = (*darts_format.FIELDS, *(f"argument {i}" for i in range(5, 99)))
  return darts_format.from_fields(value.bound(names), at)


# The cells that DARTS publishes for CIFAR-10, second order (Liu et al., figures 4 and 5).
DARTS_V2 = parse("""Genotype(
  normal=[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
          ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
  normal_concat=[2, 3, 4, 5],
  reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
          ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
  reduce_concat=[2, 3, 4, 5])""")
BUILT_IN = {"DARTS_V2": DARTS_V2}
