"""The command line: flags to mode; turns errors into one line and an exit status."""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import signal
import sys
import traceback
from typing import Any
import warnings

from absl import app, flags, logging
import ml_collections
from ml_collections import config_flags

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import RunError, UsageError, one_line, short
from lfr_darts_jax.fields import FIELDS, check_name
from lfr_darts_jax.runtime import config_file, deviceless, jax_setup, paths, usage, workdir as workdirs
from lfr_darts_jax.runtime.preemption import Interrupted
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype

PROGRAM = "python -m lfr_darts_jax.main"


@dataclasses.dataclass(frozen=True)
class Mode:
  """What a mode does and uses; other flags are refused.

  Attributes:
    does: one line of it.
    flags: those that some modes use and others don't.
    fields: the config fields that may be overridden, or beginnings of their names.
  """

  does: str
  flags: tuple[str, ...] = ()
  fields: tuple[str, ...] = ()


OPTIONAL = tuple(name for name, field in FIELDS.items() if field.optional)
NONES = frozenset(f"config.{name}=None" for name in OPTIONAL)
PROCESSES = ("distributed", "coordinator", "num_processes", "process_id")
MODES = {
  "run": Mode(
    "Searches, trains, tests, writes the page; continues where it stopped. The default.",
    ("genotype", "config", *PROCESSES),
    ("",),
  ),
  "search": Mode("Searches alone.", ("config", *PROCESSES), ("",)),
  "train": Mode(
    "Trains and tests the network of --genotype, the workdir or train.init_from.",
    ("genotype", "config", *PROCESSES),
    ("",),
  ),
  "evaluate": Mode(
    "Tests the workdir's trained network, on --config.data.dir where that is given.", PROCESSES, schema.TEST_FIELDS
  ),
  "predict": Mode("Classifies --images with the workdir's trained network.", ("images", "output")),
  "export": Mode("Writes the trained network for other programs, into --output or WORKDIR/export.", ("output",)),
  "describe": Mode(
    "Counts parameters and multiply-adds of --genotype's network; needs no data.",
    ("genotype", "config"),
    schema.COST_FIELDS,
  ),
  "derive": Mode(
    "Prints what the workdir's search gives under another search.budget.", ("output",), schema.BUDGET_FIELDS
  ),
  "estimate": Mode("Estimates time and memory of a run on --device.", ("genotype", "config", "device"), ("",)),
  "report": Mode("Writes the page of the workdir's run anew, at any time."),
  "draw": Mode("Draws the cells of --genotype, or of the workdir's.", ("genotype",)),
}

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run, or a URL such as gs://BUCKET/RUN; the same command continues it."
)
_MODE = flags.DEFINE_enum("mode", "run", list(MODES), "What to do.")
_GENOTYPE = flags.DEFINE_string(
  "genotype", None, f"A genotype's FILE, FILE:NAME, text, or {', '.join(formats.BUILT_IN)}; in place of the search."
)
_DEVICE = flags.DEFINE_string(
  "device",
  "here",
  f"What --mode=estimate is for: {', '.join(deviceless.DEVICES)}; {' or '.join(deviceless.HERE)} times some steps.",
)
_IMAGES = flags.DEFINE_string(
  "images", None, "What --mode=predict classifies: an image, a folder, or a quoted pattern such as 'scans/**/*.png'."
)
_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "Where to: --mode=predict's FILE.csv or FILE.jsonl, the FILE of --mode=derive, or the folder of --mode=export.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Join the processes of this TPU pod, Slurm, Kubernetes or Open MPI job."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster tells it.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are, with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0, with --coordinator.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def main(argv: Sequence[str]) -> None:
  """Runs the mode that the flags name."""
  if _MODE.value == "estimate" and _DEVICE.value == "cpu":
    os.environ["JAX_PLATFORMS"] = "cpu"
  elif _MODE.value == "estimate" and _DEVICE.value not in deviceless.HERE:
    deviceless.check(_DEVICE.value)
    deviceless.set_environment()
  # Imported here so that wrong flags are answered at once.
  from lfr_darts_jax import pipeline
  from lfr_darts_jax.report import drawing, page

  _connect()
  if len(argv) > 1:
    raise UsageError(f"arguments: {' '.join(argv[1:])}; allowed are flags alone")
  config, mode = flags.FLAGS.config, _MODE.value
  given = None if _GENOTYPE.value is None else formats.as_genotype(_GENOTYPE.value)
  if mode == "describe":
    print(json.dumps(pipeline.describe(config, given or _genotype_of_workdir())))
    return
  if mode == "estimate":
    from lfr_darts_jax import estimate

    schema.validate(config, schema.PHASES if given is None else ("train",))
    found = estimate.estimate(config, _DEVICE.value, given)
    print(estimate.table(found), json.dumps(found), sep="\n")
    return
  if _WORKDIR.value is None:
    raise UsageError(f"workdir: not given; --mode={mode} allows a directory that can be written")
  workdir, command = paths.path(_WORKDIR.value), f"{PROGRAM} {shlex.join(sys.argv[1:])}"
  if mode == "run":
    pipeline.run(config, workdir, given, command=command)
  elif mode == "search":
    pipeline.search(config, workdir, command=command)
  elif mode == "train":
    if given is None and config.train.init_from is None:
      given = _genotype_of_workdir()
    pipeline.train(config, given, workdir, command=command)
  elif mode == "evaluate":
    print(json.dumps(pipeline.evaluate(workdir, config)))
  elif mode == "predict":
    from lfr_darts_jax import predict

    if _IMAGES.value is None:
      raise UsageError("images: not given; --mode=predict allows an image, a folder, or a pattern")
    predict.predict(workdir, _IMAGES.value, _OUTPUT.value, _answer)
  elif mode == "export":
    from lfr_darts_jax import export

    print(*export.export(workdir, _OUTPUT.value), sep="\n")
  elif mode == "derive":
    from lfr_darts_jax.search import derive

    text = derive.derive(workdir, config).to_json()
    if _OUTPUT.value is None:
      print(text, end="")
    else:
      paths.make_folder(paths.path(_OUTPUT.value).parent)
      paths.write_atomically(paths.path(_OUTPUT.value), text)
  elif mode == "report":
    print(page.write(workdir))
  else:
    print(*drawing.save_all(workdir / "cells", (given or _genotype_of_workdir()).cells), sep="\n")


def _connect() -> None:
  """Joins the other processes where there are any; only the first one goes on to print."""
  told = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  if not _DISTRIBUTED.value and told == (None, None, None):
    return
  if _DISTRIBUTED.value and told != (None, None, None):
    raise UsageError("distributed: with --coordinator; allowed is one of them")
  if not _DISTRIBUTED.value:
    _check_processes(*told)
  from lfr_darts_jax.runtime import distributed

  distributed.connect(*told)
  if not distributed.is_primary():
    sys.stdout = open(os.devnull, "w")


def _check_processes(coordinator: str | None, count: int | None, index: int | None) -> None:
  if None in (coordinator, count, index):
    raise UsageError("coordinator: not given with num_processes and process_id; allowed are all three, or none")
  if not re.fullmatch(r".+:[0-9]{1,5}", coordinator or ""):
    raise UsageError(f"coordinator: {coordinator}; allowed is HOST:PORT")
  if (count or 0) < 1:
    raise UsageError(f"num_processes: {count}; allowed are integers from 1")
  if not 0 <= (index or 0) < (count or 0):
    raise UsageError(f"process_id: {index}; allowed are integers from 0 to {(count or 0) - 1}")


def _genotype_of_workdir() -> Genotype:
  path = paths.path(_WORKDIR.value or "") / workdirs.GENOTYPE
  if _WORKDIR.value is None or not path.exists():
    raise UsageError(
      f"genotype: not given; --mode={_MODE.value} allows a file, a built-in name, text, or a workdir that has one"
    )
  return formats.load(path)


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
  """Reads the flags of a command line.

  Args:
    argv: the program's name and its arguments.
    values: where they go.

  Returns:
    What is left: the program's name, and arguments that are no flags.

  Raises:
    UsageError: where a flag is unknown or has a wrong value, or there is no such config.
  """
  try:
    argv = [argv[0], *values.read_flags_from_files(list(argv[1:]))]
  except flags.Error as error:
    raise UsageError(str(error)) from None
  given = [argument.lstrip("-").partition("=") for argument in argv[1:] if argument.startswith("-")]
  for name, _, _ in given:
    if name.startswith("config."):
      check_name(name.removeprefix("config."))
  # ml_collections reads "None" for no field of numbers.
  last = {name: value for name, _, value in given}
  unset = [name for name in OPTIONAL if last.get(f"config.{name}") == "None"]
  config, argv = _config([argument for argument in argv if argument.lstrip("-") not in NONES])
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # An odd escape in a value is worth no second line.
      # Defining it reads the arguments too.
      config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(argv))
      rest = values(argv)
  except Exception as error:  # Of whatever ml_collections makes of a value, a user gets one line.
    raise UsageError(_flag_error(error, argv)) from None
  for name in unset:
    values.config.update_from_flattened_dict({name: None})
  if "mode" in values:
    _check_used(values.mode, [name for name, _, _ in given])
  return rest


def _config(argv: Sequence[str]) -> tuple[ml_collections.ConfigDict, list[str]]:
  """The config that a command line starts from, and the command line without the flag that names it."""
  (name,), rest = _told(argv, "config")
  (mode, workdir), _ = _told(argv, "mode", "workdir")
  if name is not None:
    try:
      return config_file.get_config(name), rest
    except UsageError:
      raise
    except Exception as error:  # Whatever a config file does, a user gets one line.
      raise UsageError(f"config: {name}: {type(error).__name__}: {error}") from None
  # A mode that uses no field is not refused for a file that it does not read.
  used = mode not in MODES or MODES[mode].fields
  if used and workdir is not None and (paths.path(workdir) / workdirs.CONFIG).exists():
    return workdirs.load_config(paths.path(workdir)), rest
  return schema.get_config("digits"), rest


def _told(argv: Sequence[str], *names: str) -> tuple[list[str | None], list[str]]:
  """The values of some flags, whatever stands beside them, and the command line without these."""
  values = flags.FlagValues()
  values.set_gnu_getopt(True)
  for name in names:
    flags.DEFINE_string(name, None, "", flag_values=values)
  try:
    rest = values(list(argv), known_only=True)
  except flags.Error as error:
    raise UsageError(str(error)) from None
  return [values[name].value for name in names], rest


def _check_used(name: str, given: Sequence[str]) -> None:
  """Refuses flags that a mode does not use."""
  mode = MODES[name]
  for flag in given:
    field = flag.removeprefix("config.")
    if field != flag and not field.startswith(mode.fields):
      allowed = ", ".join(f"{f}*" if f.endswith(".") else f for f in mode.fields) or "none"
      raise UsageError(f"config.{field}: --mode={name} does not use it; allowed are {allowed}")
    if flag in ("genotype", "config", "device", "images", "output", *PROCESSES) and flag not in mode.flags:
      users = ", ".join(other for other, its in MODES.items() if flag in its.flags)
      raise UsageError(f"{flag}: --mode={name} does not use it; allowed with {users}")


def _flag_error(error: Exception, argv: Sequence[str]) -> str:
  """What to say for an error of absl or ml_collections."""
  text = str(error)
  for name, field in FIELDS.items():
    before, flag, value = text.partition(f"flag --config.{name}=")
    if flag and not before:
      return f"config.{name}: {short(value.partition(': ')[0])}; allowed are {field.allowed}"
    if isinstance(error, (RecursionError, MemoryError)) and tuple in field.kinds:
      if any(a.lstrip("-").startswith(f"config.{name}") for a in argv):
        return f"config.{name}: nested too deeply; allowed are {field.allowed}"
  return text or type(error).__name__


def _parse_flags(argv: Sequence[str]) -> list[str]:
  try:
    return parse_flags(argv)
  except UsageError as error:
    _fail(str(error), 2)
  raise AssertionError("unreachable")


def _fail(text: str, status: int) -> None:
  # Where both go to a full disk, the status still tells.
  with contextlib.suppress(OSError):
    print(f"lfr-darts: {one_line(text)}", file=sys.stderr, flush=True)
  with contextlib.suppress(OSError):
    sys.stdout.flush()
  # The flags may be unparsed and threads of checkpointing alive: leave at once.
  os._exit(status)


class _Terminated(KeyboardInterrupt):
  """A SIGTERM where nothing waits for one, which like Ctrl-C no other code may catch."""


def _terminate(number: int, frame: Any) -> None:
  raise _Terminated


def _guarded(argv: Sequence[str]) -> None:
  signal.signal(signal.SIGTERM, _terminate)
  if not _DEBUG.value:
    # What fails in a library is raised here too: threads of the checkpoints' store log it, print it, and warn of what
    # they had begun, besides.
    logging.set_verbosity(logging.FATAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unused: None
  try:
    main(argv)
    sys.stdout.flush()
  except UsageError as error:
    _report(error, 2)
  except Interrupted as error:
    _report(error, 128 + error.number)
  except KeyboardInterrupt as error:
    number = signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT
    _report(error, 128 + number, "stopped; the same command continues from the last checkpoint")
  except RunError as error:
    _report(error, 1)
  except OSError as error:
    _report(error, 1, paths.explain(error))
  except Exception as error:  # Whatever went wrong, a user gets one line.
    _report(error, 1, _explain(error))


def _explain(error: Exception) -> str:
  from lfr_darts_jax.runtime import distributed

  text = f"{type(error).__name__}: {error}"
  # Without a device at all there is no count of processes either.
  if not distributed.connected() or "RESOURCE_EXHAUSTED" in text:
    return text
  return (
    f"another process of this run may have ended; the same command, started again on all of them, continues ({text})"
  )


def _report(error: BaseException, status: int, text: str = "") -> None:
  if _DEBUG.value:
    traceback.print_exception(error)
  _fail(text or str(error), status)


def _flags() -> dict[str, str]:
  """What every flag does."""
  own = (
    _WORKDIR,
    _GENOTYPE,
    _DEVICE,
    _IMAGES,
    _OUTPUT,
    _DISTRIBUTED,
    _COORDINATOR,
    _NUM_PROCESSES,
    _PROCESS_ID,
    _DEBUG,
  )
  return {
    "--mode=MODE": "What to do, see above.",
    "--config=NAME": "A preset, a Python file with get_config(), or JSON such as a run's config.json. Without it, the "
    "workdir's config, or else digits.",
    "--config.FIELD=VALUE": "Overrides a field of the config.",
    **{f"--{holder.name}": flags.FLAGS[holder.name].help or "" for holder in own},
    "--help, --helpfull": "This; the same with every field of the config.",
    "--version": "Name and versions.",
  }


def _answer(text: str) -> None:
  try:
    print(text, flush=True)
  except BrokenPipeError:  # Whoever reads it has seen enough.
    os._exit(0)
  except OSError as error:
    _fail(paths.explain(error), 1)


def run() -> None:
  """Entry point of the `lfr-darts` command."""
  sys.stdout = sys.stdout or open(os.devnull, "w")
  sys.stderr = sys.stderr or open(os.devnull, "w")
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of classes and files may hold what the terminal can't show.
    sys.stdout.reconfigure(errors="backslashreplace")
  given = {argument.lstrip("-") for argument in sys.argv[1:] if argument.startswith("-")}
  if given & {"h", "?", "help", "helpshort", "helpfull"}:
    _answer(usage.usage({name: mode.does for name, mode in MODES.items()}, _flags(), "helpfull" in given))
    return
  if "version" in given:
    _answer(usage.version())
    return
  jax_setup.set_flags()
  logging.set_verbosity(logging.ERROR)
  app.run(_guarded, flags_parser=_parse_flags)


if __name__ == "__main__":
  run()
