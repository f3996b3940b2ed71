"""A wheel, unpacked outside the checkout: what a user has who never saw the repository."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]
# pyproject.toml asks for it: the first that knows licences by their names.
setuptools = pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  here = tmp_path_factory.mktemp("wheel")
  source = here / "source"
  source.mkdir()
  for name in ("lfr_darts_jax", "configs"):
    shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, source)
  # Without a network.
  command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
  subprocess.run([*command, "--wheel-dir", here, source], check=True, cwd=here)
  (wheel,) = here.glob("*.whl")
  zipfile.ZipFile(wheel).extractall(here / "site")
  shutil.rmtree(source)
  return here / "site"


def call(site, *arguments):
  command = [sys.executable, "-m", "lfr_darts_jax.main", *arguments]
  environment = os.environ | {"PYTHONPATH": str(site)}
  return subprocess.run(command, cwd=site.parent, env=environment, capture_output=True, text=True, timeout=500)


def test_it_holds_the_package_and_the_very_files_of_the_presets(installed):
  files = {path.name: path.read_bytes() for path in (ROOT / "configs").glob("*.py")}
  assert {path.name: path.read_bytes() for path in (installed / "lfr_darts_jax" / "configs").glob("*.py")} == files
  # And else nothing but the package, with what is no Python in it.
  assert len(list(installed.iterdir())) == 2
  assert all(
    (installed / "lfr_darts_jax" / name).exists() for name in ("py.typed", "report/page.html", "report/style.css")
  )


@pytest.mark.parametrize(
  "name,parameters,layers",
  [("cifar10", 3349342, 20), ("cifar10:quarter_hour", 711238, 8), ("systems:gdas,laptop", 129706, 5)],
)
def test_presets_are_there_by_name(installed, name, parameters, layers):
  done = call(installed, "--mode=describe", "--genotype=DARTS_V2", f"--config={name}")
  assert done.returncode == 0, done.stderr
  costs = json.loads(done.stdout.splitlines()[-1])
  assert (costs["parameters"], costs["layers"]) == (parameters, layers)


def test_a_wrong_name_is_told_with_those_that_are_there(installed):
  done = call(installed, "--mode=describe", "--genotype=DARTS_V2", "--config=mars")
  assert done.returncode == 2 and "allowed are cifar10, darts, digits" in done.stderr
  assert re.fullmatch(r"lfr-darts-jax [\d.]+, jax [\d.]+\n", call(installed, "--version").stdout)
