"""The command line: flags to mode; turns errors into one line and an exit status."""

from collections.abc import Sequence
import json
import os
import pathlib
import shlex
import sys

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from lfr_darts_jax import config as schema
from lfr_darts_jax import reading
from lfr_darts_jax import workdir as places
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.genotype import BUILT_IN
from lfr_darts_jax.genotype import MAX_CHARACTERS
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.genotype import parse
from lfr_darts_jax.interrupt import Interrupted

PROGRAM = "python -m lfr_darts_jax.main"
MODES = ("run", "search", "train", "evaluate", "describe", "report", "draw")

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file; config.FIELD overrides one field. Default: the digits job."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; the same command continues it.")
_MODE = flags.DEFINE_enum("mode", "run", MODES, "What to do.")
_GENOTYPE = flags.DEFINE_string(
  "genotype", None, f"Genotype file, or {', '.join(BUILT_IN)}; takes the place of the search."
)
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def read_genotype(name: str) -> Genotype:
  """The built-in genotype of that name, or that of a file.

  Raises:
    UsageError: where there is no such file, or it holds no genotype.
  """
  if name in BUILT_IN:
    return BUILT_IN[name]
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f"genotype: {name} is no file; allowed are a file and {', '.join(BUILT_IN)}")
  return parse(reading.read_text(path, MAX_CHARACTERS))


def main(argv: Sequence[str]) -> None:
  """Runs the mode that the flags name."""
  # Imported here so that wrong flags are answered at once.
  from lfr_darts_jax import pipeline
  from lfr_darts_jax.report import drawing
  from lfr_darts_jax.report import page

  if len(argv) > 1:
    raise UsageError(f"arguments: {' '.join(argv[1:])}; allowed are flags alone")
  config, mode = _CONFIG.value, _MODE.value
  given = None if _GENOTYPE.value is None else read_genotype(_GENOTYPE.value)
  if mode == "describe":
    print(json.dumps(pipeline.describe(config, given or _genotype_of_workdir())))
    return
  if _WORKDIR.value is None:
    raise UsageError(f"workdir: not given; --mode={mode} allows a directory that can be written")
  workdir, command = pathlib.Path(_WORKDIR.value), f"{PROGRAM} {shlex.join(sys.argv[1:])}"
  if mode == "run":
    pipeline.run(config, workdir, given, command=command)
  elif mode == "search":
    pipeline.search(config, workdir, command=command)
  elif mode == "train":
    pipeline.train(config, given or _genotype_of_workdir(), workdir, command=command)
  elif mode == "evaluate":
    print(json.dumps(pipeline.evaluate(workdir)))
  elif mode == "report":
    print(page.write(workdir))
  else:
    print(*drawing.save_all(workdir / "cells", (given or _genotype_of_workdir()).cells), sep="\n")


def _genotype_of_workdir() -> Genotype:
  path = pathlib.Path(_WORKDIR.value or "", places.GENOTYPE)
  if _WORKDIR.value is None or not path.exists():
    raise UsageError(
      f"genotype: not given; --mode={_MODE.value} allows a file, a built-in name, or a workdir that has one"
    )
  return read_genotype(str(path))


def _parse_flags(argv: Sequence[str]) -> list[str]:
  given = [argument.lstrip("-").partition("=") for argument in argv[1:] if argument.startswith("-")]
  try:
    for name, _, value in given:
      if name.startswith("config."):
        schema.check_name(name.removeprefix("config."))
      path = value.partition(":")[0]
      if name == "config" and path and not pathlib.Path(path).is_file():
        raise UsageError(f"config: {path} is not there; allowed is a Python file with get_config()")
    # As the flag's own default it would be read, with its overrides, before there is anyone to catch an error.
    if not any(name == "config" for name, _, _ in given):
      argv = [argv[0], f"--config={schema.__file__}", *argv[1:]]
    return flags.FLAGS(argv)
  except Exception as error:  # Whatever a config file does, a user gets one line.
    _fail(_flag_error(str(error)), 2)
  raise AssertionError("unreachable")


def _flag_error(text: str) -> str:
  """One line for what absl or a config file says."""
  for name, field in schema.FIELDS.items():
    before, flag, value = text.partition(f"flag --config.{name}=")
    if flag and not before:
      return f"config.{name}: {value.partition(': ')[0]!r}; allowed are {field.allowed}"
  # ml_collections passes on the whole traceback of a config file's own error.
  return text.strip().splitlines()[-1] if "Traceback" in text else text


def _fail(text: str, status: int) -> None:
  print("lfr-darts: " + " ".join(str(text).split()), file=sys.stderr)
  # The flags may be unparsed and threads of checkpointing alive: leave at once.
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _guarded(argv: Sequence[str]) -> None:
  try:
    main(argv)
  except UsageError as error:
    _report(error, 2)
  except Interrupted as error:
    _report(error, 128 + error.number)
  except KeyboardInterrupt:
    _report("stopped; the same command continues from the last checkpoint", 130)
  except Exception as error:  # Whatever went wrong, a user gets one line.
    _report(f"{type(error).__name__}: {error}", 1)


def _report(error: object, status: int) -> None:
  if _DEBUG.value and isinstance(error, Exception):
    logging.exception("%s", error)
  _fail(str(error), status)


def run() -> None:
  """Entry point of the `lfr-darts` command."""
  logging.set_verbosity(logging.ERROR)
  app.run(_guarded, flags_parser=_parse_flags)


if __name__ == "__main__":
  run()
