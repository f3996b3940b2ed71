"""Builds the API pages from the docstrings, into docs/api: python docs/build.py. Needs the extra `docs`."""

import pathlib
import pkgutil
import warnings

import pdoc

import lfr_darts_jax

OUTPUT = pathlib.Path(__file__).parent / "api"


def main() -> None:
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
  pdoc.render.configure(docformat="google")
  pdoc.pdoc("lfr_darts_jax", *modules, output_directory=OUTPUT)
  print(OUTPUT / "index.html")


if __name__ == "__main__":
  main()
