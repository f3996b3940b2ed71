"""The pages of docs/: their commands are read by the command line, their Python runs, what they name is there."""

import ast
import configparser
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from absl import flags
import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax import config as schema, main, pipeline
from lfr_darts_jax.fields import FIELDS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PROGRAM = ("lfr-darts", "python -m lfr_darts_jax.main")
# The smallest search there is, of the digits.
SMALLEST = {
  "search.epochs": 1,
  "search.channels": 2,
  "search.nodes": 1,
  "search.operations": ("none", "skip_connect", "dil_conv_3x3"),
  "prune.rounds": (),
  "network.channels": 4,
  "train.epochs": 1,
}


def blocks(path, language):
  return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)


def commands():
  """The command lines of the program on every page and in the README, but for those that only print."""
  found = []
  for path in (*PAGES, ROOT / "README.md"):
    # A bucket would be asked for its config.
    text = path.read_text().replace("\\\n", " ").replace("gs://", "")
    for line in re.findall(rf"^ *(?:{'|'.join(PROGRAM)}) (.*)$", text, re.M):
      found.append(pytest.param(shlex.split(line, comments=True), id=f"{path.stem}: {line}"))
  return [command for command in found if "--helpfull" not in command.values[0]]


def defined():
  values = flags.FlagValues()
  for name in ("workdir", "genotype", "device", "images", "output"):
    flags.DEFINE_string(name, None, "", flag_values=values)
  flags.DEFINE_enum("mode", "run", list(main.MODES), "", flag_values=values)
  return values


@pytest.mark.parametrize("words", commands())
def test_a_command_is_one(words, monkeypatch):
  monkeypatch.chdir(ROOT)
  values = defined()
  assert main.parse_flags(["lfr-darts", *words], values) == ["lfr-darts"]
  if values.mode in ("run", "search", "train"):
    # Costs are a file that is measured before.
    alone = values.mode == "train" or values.genotype or values.config.search.costs
    schema.validate(values.config, ("train",) if alone else schema.PHASES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_a_page_names_is_there(path):
  text = path.read_text()
  named = re.findall(r"`((?:lfr_darts_jax|configs|experiments|benchmarks|tests|launch|docs)/[\w/]+\.\w+)`", text)
  named += [
    f"lfr_darts_jax/{name}" for name in re.findall(r"`((?:search|models|data|runtime|training|report)/\w+\.py)`", text)
  ]
  named += re.findall(r"^ *(?:python|bash) ((?:benchmarks|experiments|docs)/\S+)", text, re.M)
  named += [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (experiments\.\w+)", text)]
  assert [name for name in named if not (ROOT / name).exists()] == []
  fields = re.findall(
    r"`(?:--config\.)?((?:data|plan|search|prune|network|train|space|checkpoint|recovery)\.\w+)[`=]", text
  )
  files = (".json", ".py", ".stablehlo", ".onnx")
  assert [name for name in fields if name not in FIELDS and not name.endswith(files)] == []
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  extras = {name for given in re.findall(r"'\.\[([\w, -]+)\]'", text) for name in re.split(", *", given)}
  assert extras <= set(setup["options.extras_require"])
  for code in blocks(path, "python"):
    ast.parse(code)


def python(code, cwd, **environment):
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=500
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_python_of_start_and_use_runs(tmp_path):
  (start,) = blocks(ROOT / "docs" / "start.md", "python")
  made = "config.search.epochs = 2\n"
  assert made in start
  smaller = f"config.update_from_flattened_dict({SMALLEST})\n"
  printed = python(start.replace(made, smaller), tmp_path)
  assert "Genotype(cells=(CellSpec(name='n0'" in printed
  (tmp_path / "runs" / "python").rename(tmp_path / "runs" / "digits")
  load, classify, *_ = blocks(ROOT / "docs" / "use.md", "python")
  assert python(load, tmp_path).startswith("('0', '1', '2'")
  names, _ = python(classify, tmp_path).split("]", 1)
  assert re.fullmatch(r"\['\d'(, '\d'){4}", names)


@pytest.mark.slow
def test_a_folder_of_photographs_by_the_recipe(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  for split, count in (("train", 10), ("val", 3)):
    for i, name in enumerate(("beach", "forest", "sunset")):
      for number in range(count):
        path = tmp_path / "photos" / split / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (50, 70, 3)) + 120 * np.eye(3, dtype=int)[i]
        Image.fromarray(pixels.astype(np.uint8)).save(path)
  shutil.copy(tmp_path / "photos" / "val" / "forest" / "0.jpg", tmp_path / "new.jpg")
  monkeypatch.chdir(tmp_path)
  recipe = shlex.split(blocks(ROOT / "docs" / "data.md", "bash")[0].replace("\\\n", " "))
  values = defined()
  main.parse_flags(recipe, values)
  config = values.config
  schema.validate(config)
  config.update_from_flattened_dict({**SMALLEST, "data.image_size": 16, "train.epochs": 10})
  pipeline.run(config, values.workdir)
  (classify,) = blocks(ROOT / "docs" / "data.md", "python")
  assert python(classify, tmp_path).split()[0] in ("beach", "forest", "sunset")


@pytest.mark.slow
def test_an_operation_by_the_page(tmp_path):
  page = ROOT / "docs" / "add_an_operation.md"
  (module,) = blocks(page, "python")
  row, name = blocks(page, "text")
  (command,) = blocks(page, "bash")
  shutil.copytree(ROOT / "lfr_darts_jax", tmp_path / "lfr_darts_jax", ignore=shutil.ignore_patterns("__pycache__"))
  shutil.copytree(ROOT / "configs", tmp_path / "configs")
  for file, table, new, above in (
    ("models/operations.py", "OPERATIONS: dict", row, f"{module}\n\n"),
    ("search_space/operation_names.py", "OPERATION_NAMES = (", name, ""),
  ):
    path = tmp_path / "lfr_darts_jax" / file
    before, _, after = path.read_text().partition(f"\n{table}")
    rows, end, rest = re.split(r"(^[})]\n)", after, maxsplit=1, flags=re.M)
    path.write_text(f"{before}\n{above}{table}{rows}{new}{end}{rest}")
  words = shlex.split(command)[1:]
  smaller = [f"--config.{field}={value}" for field, value in SMALLEST.items() if field != "search.operations"]
  code = f"import sys; from lfr_darts_jax import main; sys.argv[1:] = {[*words, '--mode=search', *smaller]}; main.run()"
  python(code, tmp_path, PYTHONPATH=str(tmp_path))
  assert '"conv_1x1"' in (tmp_path / "runs" / "conv_1x1" / "config.json").read_text()
