"""What Hypothesis draws for the tests of properties: arbitrary input, and valid input with something wrong in it."""

import copy
import json

from hypothesis import strategies as st

from lfr_darts_jax import config as schema
from lfr_darts_jax.fields import DARTS_OPERATIONS, FIELDS
from lfr_darts_jax.models.operations import OPERATIONS
from lfr_darts_jax.search_space.genotype import FORMAT, VERSION, from_json

# Surrogates too, which no file holds as such but JSON's escapes spell.
TEXT = st.text(st.characters(), max_size=12)
SCALARS = (
  st.none()
  | st.booleans()
  | st.integers(-3, 20)
  | st.integers()
  | st.floats()
  | TEXT
  | st.sampled_from(["", "x" * 3000, 10**400, "../n0", "<script>", "0" * 40])
)
JSON = st.recursive(
  SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,32}", fullmatch=True)
CANDIDATES = [name for name in OPERATIONS if name != "none"]
# Spliced into texts: what parsers stumble over.
TOKENS = ("\0", "\\d", "\ud800", "\\ud800", "(" * 300, "[" * 3000, '{"a":' * 3000, "-" * 5000, "0x" + "f" * 9000)
TOKENS += (
  "9" * 5000,
  "NaN",
  "1e999",
  "\n",
  "\ufeff",
  "**{}",
  "lambda: 0",
  "__import__('os')",
  "range(9)",
  "range(2, 4)",
)
TOKENS += ("Genotype(", ")", "}", ",", '"', "'", "#", "{**{}}", "f'{0}'", "b''", "1j", "...", "\N{CAT FACE}")


@st.composite
def spoiled(draw, value, times=2):
  """A value made of lists, tuples and dictionaries with up to so many parts replaced, removed or doubled."""
  holder = [copy.deepcopy(value)]
  for _ in range(draw(st.integers(0, times))):
    container, key = draw(st.sampled_from(list(_places(holder))))
    action = draw(st.sampled_from(["replace", "replace", "near", "remove", "double"]))
    if action == "replace" or container is holder:
      container[key] = draw(JSON)
    elif action == "near":
      container[key] = draw(st.sampled_from(list(_places(holder))).map(lambda place: copy.deepcopy(place[0][place[1]])))
    elif action == "remove":
      del container[key]
    elif isinstance(container, list):
      container.insert(key, copy.deepcopy(container[key]))
    else:
      container[draw(TEXT)] = container[key]
  return holder[0]


def _places(container):
  keys = range(len(container)) if isinstance(container, list) else container
  for key in keys:
    yield container, key
    if isinstance(container[key], (list, dict)):
      yield from _places(container[key])


@st.composite
def spliced(draw, text):
  """A text with, now and then, a part replaced by something else."""
  if draw(st.integers(0, 3)):
    return text
  start = draw(st.integers(0, len(text)))
  stop = min(len(text), start + draw(st.sampled_from([0, 0, 1, 5, 10**9])))
  return text[:start] + draw(st.sampled_from(TOKENS) | TEXT) + text[stop:]


@st.composite
def nodes(draw, pairs):
  """The nodes of a cell, each a list of `[operation, source]`; `pairs` is the number per node, None for any."""
  made = []
  for target in range(2, 2 + draw(st.integers(1, 3))):
    least, most = (pairs, pairs) if pairs else (1, target)
    sources = draw(st.lists(st.integers(0, target - 1), min_size=least, max_size=most))
    made.append([[draw(st.sampled_from(CANDIDATES)), source] for source in sources])
  return made


def concats(made):
  """The states that a cell of these nodes may join."""
  return st.lists(st.integers(2, len(made) + 1), min_size=1, unique=True)


@st.composite
def genotype_values(draw):
  """What `genotype.json` may hold."""
  cells = []
  for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
    made = draw(nodes(None))
    kind = draw(st.sampled_from(["normal", "reduction"]))
    cells.append({"name": name, "kind": kind, "nodes": made, "concat": draw(concats(made))})
  return {"format": FORMAT, "version": VERSION, "cells": cells}


@st.composite
def json_formats(draw):
  """Texts that are, or were, formats in JSON."""
  return draw(spliced(json.dumps(draw(spoiled(draw(genotype_values()))))))


@st.composite
def darts_formats(draw):
  """Texts that are, or were, DARTS's `Genotype(...)`."""
  fields = {}
  for name in ("normal", "reduce"):
    made = draw(nodes(2))
    fields[name] = [pair for node in made for pair in node]
    fields[f"{name}_concat"] = draw(concats(made))
  bad = draw(st.none() | st.sampled_from(list(fields)))
  texts = [f"{name}={draw(spoiled(value)) if name == bad else value!r}" for name, value in fields.items()]
  if draw(st.booleans()):
    texts[1] = f"normal_concat=range(2, {len(fields['normal']) // 2 + 2})"
  call = f"Genotype({', '.join(draw(st.permutations(texts)))})"
  return draw(spliced(draw(st.sampled_from(SURROUNDINGS)).format(call)))


@st.composite
def printed_formats(draw):
  """Texts that are, or were, what Python and our terminal show of a genotype."""
  genotype = from_json(draw(genotype_values()))
  lines = "\n".join(f"{cell} | entropy 1" for cell in genotype.cells)
  text = draw(st.sampled_from([lines, repr(genotype), str(genotype.cells), *map(str, genotype.cells)]))
  for _ in range(4):  # Most of what is around cells may be anything.
    text = draw(spliced(text))
  return text


SURROUNDINGS = (
  "{}",
  "X = {}",
  "{};",
  "# old\n# {}",
  "10:02:03 don't; genotype = {}  # 97 %",
  "X = {0}\nX = gt.{0}",
  '{{"genotype": "{}"}}',
)


DEFAULTS = schema.flatten(schema.get_config("digits"))
VALUES = (
  st.sampled_from(list(DEFAULTS.values()))
  | st.integers(-1, 20)
  | st.floats(0, 1)
  | JSON
  | spoiled([[0.25, 4], [0.5, 3]])
  | spoiled(list(DARTS_OPERATIONS))
)


@st.composite
def flat_configs(draw):
  """Flat configs, as `config.json` holds them: a few fields, mostly of the right kind."""
  flat = {}
  for name in draw(st.lists(st.sampled_from(list(FIELDS)), max_size=4, unique=True)):
    default = DEFAULTS[name]
    near = st.just(default)
    if type(default) in (int, float):
      near |= st.integers(max(1, int(default) // 2), int(default) * 2 + 1) | st.floats(default / 2, default)
    flat[name] = draw(near if draw(st.integers(0, 3)) else VALUES)
  if not draw(st.integers(0, 9)):
    flat[draw(TEXT | st.sampled_from(["data", "seed.x", "search.epoch", "."]))] = draw(JSON)
  return flat


@st.composite
def arguments(draw):
  """Command lines of `--config.FIELD=VALUE`."""
  line = []
  for name, value in draw(flat_configs()).items():
    text = value if isinstance(value, str) else repr(value)
    # Each of several flags can spoil a line.
    text = draw(spliced(text)) if draw(st.booleans()) else text
    forms = [[f"--config.{name}={text}"]] * 9 + [[f"--config.{name}", text], [f"--noconfig.{name}"]]
    line += draw(st.sampled_from(forms))
  return line


@st.composite
def changes(draw, workdir):
  """A file of a work directory, by name, and another content for it."""
  path = workdir / draw(st.sampled_from(["config.json", "result.json", "search/summary.json", "metrics.jsonl"]))
  text = path.read_text()
  if path.suffix == ".jsonl":
    lines = text.splitlines(keepends=True)
    index = draw(st.integers(0, len(lines) - 1))
    lines[index] = json.dumps(draw(spoiled(json.loads(lines[index]), times=1))) + "\n"
    text = "".join(lines)
  else:
    text = json.dumps(draw(spoiled(json.loads(text), times=1)))
  return path.relative_to(workdir), draw(spliced(text))
