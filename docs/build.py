"""Builds the site into docs/site: the pages of this folder, and below api the reference, from the docstrings.

python docs/build.py [FOLDER]

Needs the extra `docs`, and no network. Whatever Sphinx warns of, such as a link that leads nowhere, makes its status 1.
"""

import pathlib
import pkgutil
import re
import shutil
import sys
import tempfile
import warnings

import pdoc
from sphinx.cmd import build

import lfr_darts_jax

PAGES = pathlib.Path(__file__).parent


def main(site: pathlib.Path = PAGES / "site") -> int:
  """Builds both into a folder; returns the exit status."""
  shutil.rmtree(site, ignore_errors=True)
  with tempfile.TemporaryDirectory() as read:
    status = build.build_main(["-q", "-W", "--keep-going", "-d", read, str(PAGES), str(site)])
  if status:
    return status
  reference(site / "api")
  print(site / "index.html")
  return 0


def reference(output: pathlib.Path) -> None:
  """Builds a page for the package and every module of it."""
  warnings.simplefilter("error")
  # Optax names a type of its own that only it can find.
  warnings.filterwarnings("ignore", "Error parsing type annotation .*ArrayTree")
  # They are imported on demand, and pdoc looks only at what a module holds already.
  for name in lfr_darts_jax.__all__:
    getattr(lfr_darts_jax, name)
  # The floor `search` is in __all__, as the function that it is too: pdoc finds it with the package.
  names = [module.name for module in pkgutil.iter_modules(lfr_darts_jax.__path__)]
  modules = [f"lfr_darts_jax.{name}" for name in names if name not in lfr_darts_jax.__all__]
  pdoc.render.configure(docformat="google", template_directory=PAGES / "reference")
  pdoc.pdoc("lfr_darts_jax", *modules, output_directory=output)
  # The links beside what has a name are signs drawn by the style.
  for path in output.rglob("*.html"):
    path.write_text(re.sub(r'class="headerlink" href="#([^"]*)"', r'\g<0> aria-label="Link to \1"', path.read_text()))


if __name__ == "__main__":
  sys.exit(main(*map(pathlib.Path, sys.argv[1:])))
