"""The command line as a user meets it, each call in a process of its own."""

import contextlib
from importlib import metadata
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings

from absl import flags
import pytest

from lfr_darts_jax import config as schema, main
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.fields import FIELDS

ROOT = pathlib.Path(__file__).parents[1]
TINY = [
  "--config.plan.name=darts",
  "--config.search.layers=3",
  "--config.search.epochs=40",
  "--config.search.batch_size=16",
  "--config.search.channels=4",
  "--config.search.nodes=1",
  "--config.search.operations=('skip_connect','avg_pool_3x3')",
  "--config.data.search_fraction=0.2",
  "--config.search.steps_per_chunk=1",
  "--config.network.channels=4",
  "--config.network.layers=3",
  "--config.train.epochs=1",
  "--config.train.steps_per_chunk=5",
]


def command(*arguments):
  return [sys.executable, "-m", "lfr_darts_jax.main", *arguments]


def call(*arguments):
  return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=500)


def test_describe_prints_one_line_of_json():
  done = call("--mode=describe", "--config=configs/cifar10.py", "--genotype=DARTS_V2")
  assert done.returncode == 0, done.stderr
  costs = json.loads(done.stdout.splitlines()[-1])
  assert costs["parameters"] == 3349342 and costs["layers"] == 20


def test_a_log_is_described_in_as_few_layers_as_its_cells_take(tmp_path):
  pairs = "[('skip_connect', 0), ('skip_connect', 1)]"
  line = f"10:02:03 genotype = Genotype(normal={pairs}, normal_concat=[2], reduce={pairs}, reduce_concat=[2])\n"
  (tmp_path / "log.txt").write_text(line.replace("skip_connect", "max_pool_3x3") + line)
  done = call("--mode=describe", f"--genotype={tmp_path / 'log.txt'}", "--config.network.layers=3")
  assert done.returncode == 0 and json.loads(done.stdout)["layers"] == 3, done.stderr
  assert done.stderr == f"genotype: {tmp_path / 'log.txt'}: the last of 2 is read, on line 2, column 21\n"


@pytest.mark.parametrize(
  "arguments,words",
  [
    (["--config.search.epoch=3"], "config.search.epoch: unknown field; allowed are search.epochs"),
    (["--config.train=3"], "config.train: unknown field; allowed are checkpoint, data"),
    (["--config.search.epochs=ten"], "config.search.epochs: 'ten'; allowed are integers from 1"),
    (["--config.search.order=3"], "config.search.order: 3; allowed are 1, 2"),
    (["--config.data.name=no_such_data"], "config.data.name: 'no_such_data'; allowed are"),
    (["--config=configs/nowhere.py"], "config: configs/nowhere.py is not there"),
    (["--config=README.md"], "README.md"),
    (["--config=configs/laptop.py:mars"], "laptop:mars; allowed are cifar10, fashion_mnist"),
    (["--config=mars"], "config: mars is not there or no config; allowed are cifar10, darts, digits"),
    (["--config=setup.py"], "config: setup.py is not there"),
    (["--config=tests/damage.py"], "config: tests/damage.py has no get_config()"),
    (["--workdir=~nobody_of_this_name/run"], "~nobody_of_this_name/run: this home directory is not known"),
    (["--genotype=~nobody_of_this_name/g.json"], "~nobody_of_this_name/g.json: this home directory is not known"),
    (["--config=~nobody_of_this_name/c.py"], "~nobody_of_this_name/c.py: this home directory is not known"),
    (
      ["--config.data.name=folder", "--config.data.dir=~nobody_of_this_name/d"],
      "~nobody_of_this_name/d: this home directory is not known",
    ),
    (["--config.train.class_weights=(1, 2)"], "config.train.class_weights: (1, 2); allowed are balanced, None, or a"),
    (
      ["--mode=search", "--config.train.class_weights=even"],
      "config.train.class_weights: 'even'; allowed are balanced",
    ),
    (["--mode=fly"], "mode"),
    (["--no_such_flag"], "no_such_flag"),
    (["--flagfile=nowhere"], "nowhere"),
    (["spurious"], "spurious"),
    (["--genotype=nowhere.json"], "genotype: nowhere.json is no file; allowed are a file, FILE:NAME, the text of a"),
    (
      ["--genotype=|none~0|+|skip_connect~0|none~1|"],
      "genotype: a string of NAS-Bench-201, which can't be read; allowed",
    ),
    (["--mode=report"], "has no config.json; allowed is the directory of a run"),
    (["--mode=predict"], "images: not given; --mode=predict allows an image, a folder, or a pattern"),
    (["--mode=predict", "--images=README.md"], "has no config.json; allowed is the directory of a run"),
    (["--mode=export"], "has no config.json; allowed is the directory of a run"),
    (["--mode=export", "--images=README.md"], "images: --mode=export does not use it; allowed with predict"),
    (["--output=x.csv"], "output: --mode=run does not use it; allowed with predict, export"),
    (["--mode=draw"], "genotype: not given; --mode=draw allows a file, a built-in name"),
    (["--config.search.batch_size=1000"], "config.search.batch_size: 1000; allowed are at most 718"),
    (["--config.data.image_size=4"], "config.data.image_size: 4; digits has 8x8, which alone is allowed"),
    (["--config.data.image_size=(8, 9)"], "config.data.image_size: (8, 9); digits has 8x8, which alone is allowed"),
    (["--config.data.image_size=8x8"], "config.data.image_size: '8x8'; allowed are integers from 4 to 1024, (height,"),
    (
      ["--mode=train", "--config.train.init_from=nowhere"],
      "config.train.init_from: nowhere has no config.json; allowed",
    ),
    (["--mode=search", "--genotype=DARTS_V2"], "genotype: --mode=search does not use it; allowed with run, train"),
    (["--mode=draw", "--config=configs/darts.py"], "config: --mode=draw does not use it; allowed with run, search"),
    (["--mode=evaluate", "--config.search.epochs=3"], "config.search.epochs: --mode=evaluate does not use it; allowed"),
    (["--mode=report", "--config.seed=3"], "config.seed: --mode=report does not use it; allowed are none"),
    (["--mode=describe", "--distributed"], "distributed: --mode=describe does not use it; allowed with run"),
  ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, words):
  done = call(f"--workdir={tmp_path / 'run'}", *arguments)
  assert done.returncode == 2, done.stderr
  assert len(done.stderr.splitlines()) == 1 and words in done.stderr, done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
  "arguments,words",
  [
    (["--config.prune.rounds=" + "-" * 100_000 + "1"], "config.prune.rounds: nested too deeply; allowed are"),
    (["--config.train.class_weights=" + "-" * 100_000 + "1"], "config.train.class_weights: nested too deeply; allowed"),
    (["--config.seed=" + "9" * 5000], "config.seed: '9{56}...; allowed are"),
    (["--config.data.name=a\x1b\n\udcff: b", "--config.data.name"], "Missing value for flag --config.data.name"),
    (["--config", "configs/nowhere.py"], "config: configs/nowhere.py is not there or no config; allowed are"),
    (["--config"], "Missing value for flag --config"),
    (["--config=" + "x" * 5000], "config: x+ .* is not there or no config; allowed are"),
    (["--flagfile=nowhere"], "nowhere"),
  ],
)
def test_flags_that_are_refused(arguments, words):
  with pytest.raises(UsageError, match=words) as error, warnings.catch_warnings():
    warnings.simplefilter("error")
    main.parse_flags(["lfr-darts", *arguments], flags.FlagValues())
  assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
  "arguments,expected", [(["None"], None), (["0.1", "None"], None), (["None", "0.1"], 0.1), (["0.1"], 0.1)]
)
def test_the_last_of_several_values_counts_none_too(arguments, expected):
  values = flags.FlagValues()
  given = [
    f"--config.search.{name}={value}" for value in arguments for name in ("alpha_learning_rate", "warmup_fraction")
  ]
  main.parse_flags(["lfr-darts", "--config=configs/cifar10.py", *given], values)
  assert values.config.search.alpha_learning_rate == values.config.search.warmup_fraction == expected


@pytest.mark.parametrize(
  "name,text,value",
  [
    ("data.image_size", "64", 64),
    ("data.image_size", "(48,64)", (48, 64)),
    ("train.class_weights", "balanced", "balanced"),
    ("train.class_weights", "None", None),
    ("train.class_weights", "(1, 2.5)", (1, 2.5)),
  ],
)
def test_fields_that_take_values_of_several_kinds(name, text, value):
  values = defined()
  main.parse_flags(["lfr-darts", "--config=laptop", f"--config.{name}={text}"], values)
  group, leaf = name.split(".")
  assert values.config[group][leaf] == value
  schema.validate(values.config)


@pytest.mark.parametrize("place", [["--workdir={}"], ["--workdir", "{}"]])
def test_without_a_config_that_of_the_workdir_is_taken(tmp_path, place):
  here = [argument.format(tmp_path) for argument in place]
  read = lambda *more: main.parse_flags(["lfr-darts", *here, *more], values) and values.config
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  assert read().data.name == "digits"
  (tmp_path / "config.json").write_text(json.dumps(schema.flatten(schema.get_config()) | {"seed": 7}))
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  found = read("--config.train.epochs=3")
  assert (found.data.name, found.seed, found.train.epochs) == ("cifar10", 7, 3)
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  assert read("--config=configs/fashion_mnist.py").data.name == "fashion_mnist"


def defined():
  values = flags.FlagValues()
  for name, default in (("workdir", None), ("mode", "run"), ("genotype", None)):
    flags.DEFINE_string(name, default, "", flag_values=values)
  return values


@pytest.mark.parametrize(
  "arguments",
  [
    ["--mode", "search", "--config", "laptop:fashion_mnist", "--config.seed=3"],
    ["--config.seed=3", "--config=laptop:fashion_mnist"],
    ["-config=darts", "--config.seed", "3", "--config=configs/laptop.py:fashion_mnist"],
  ],
)
def test_a_config_may_stand_anywhere_and_the_last_one_counts(arguments):
  values = defined()
  assert main.parse_flags(["lfr-darts", *arguments, "more"], values) == ["lfr-darts", "more"]
  assert (values.config.data.name, values.config.network.layers, values.config.seed) == ("fashion_mnist", 5, 3)


def test_a_workdir_behind_another_flag_is_seen(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(schema.flatten(schema.get_config()) | {"seed": 7}))
  values = defined()
  main.parse_flags(["lfr-darts", "--mode", "train", "--workdir", str(tmp_path)], values)
  assert (values.config.data.name, values.config.seed) == ("cifar10", 7)


@pytest.mark.parametrize("mode,refused", [("draw", False), ("report", False), ("train", True), ("describe", True)])
def test_a_mode_reads_no_config_that_it_does_not_use(tmp_path, mode, refused):
  (tmp_path / "config.json").write_text('{"of another": "version"}')
  arguments = ["lfr-darts", f"--mode={mode}", f"--workdir={tmp_path}"]
  with pytest.raises(UsageError, match="of another") if refused else contextlib.nullcontext():
    main.parse_flags(arguments, defined())


def test_a_config_that_fails_is_one_line(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config():\n  return false\n")
  with pytest.raises(UsageError, match="mine.py: NameError: name 'false' is not defined") as error:
    main.parse_flags(["lfr-darts", f"--config={path}"], flags.FlagValues())
  assert "\n" not in str(error.value)


def test_the_json_of_a_run_is_a_config(tmp_path):
  path = tmp_path / "config.json"
  path.write_text(json.dumps({"seed": 5, "data": {"name": "digits"}, "network.layers": 8}))
  values = defined()
  main.parse_flags(["lfr-darts", f"--config={path}", "--config.network.channels=4"], values)
  network = values.config.network
  assert (values.config.seed, values.config.data.name, network.layers, network.channels) == (5, "digits", 8, 4)


@pytest.mark.parametrize("flag", ["--help", "-h", "-help", "--helpfull"])
def test_help_tells_every_mode_and_flag_and_preset(flag):
  done = call(f"--workdir={ROOT / 'nowhere'}", flag)
  assert done.returncode == 0 and done.stderr == ""
  for name, mode in main.MODES.items():
    assert f"  {name} " in done.stdout and mode.does in done.stdout
  known = flags.FLAGS.get_flags_for_module("lfr_darts_jax.main")
  assert len(known) >= 9 and all(f"  --{known_flag.name}" in done.stdout for known_flag in known)
  assert all(f"  {path.stem} " in done.stdout for path in (ROOT / "configs").glob("*.py"))
  fields = [name for name in FIELDS if f"  {name} = " in done.stdout]
  assert fields or all(len(line) <= 100 for line in done.stdout.splitlines())
  assert fields == (list(FIELDS) if flag == "--helpfull" else [])


def test_help_may_be_read_in_part():
  for end, status, said in (("| :", 0, ""), ("> /dev/full", 1, "lfr-darts: no space left on device; the same command")):
    line = f"set -o pipefail; {shlex.join(command('--helpfull'))} {end}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status and done.stderr.startswith(said) and "Traceback" not in done.stderr, done.stderr
    assert bool(done.stderr) == bool(said)


def test_version_tells_that_of_jax_too():
  done = call("--version")
  assert done.returncode == 0 and done.stderr == ""
  assert re.fullmatch(rf"lfr-darts-jax \S+, jax {re.escape(metadata.version('jax'))}\n", done.stdout)


def test_a_terminal_that_knows_ascii_alone_ends_no_run(tmp_path):
  arguments = command("--mode=draw", "--genotype=DARTS_V2", f"--workdir={tmp_path / 'ü'}")
  environment = os.environ | {"PYTHONIOENCODING": "ascii"}
  done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0 and done.stdout.count("\\xfc") == 4, done.stderr


def test_without_stdout_the_exit_status_tells(tmp_path):
  told = ["--mode=describe", "--genotype=DARTS_V2"]
  for argument, status in (("--config.network.layers=8", 0), ("--config.network.layers=2", 2)):
    line = shlex.join(command(*told, argument)) + " >&- 2>&-"
    assert subprocess.run(line, shell=True, cwd=ROOT).returncode == status


def test_an_odd_escape_in_a_value_says_nothing_on_stderr():
  values = flags.FlagValues()
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    main.parse_flags(["lfr-darts", r"--config.search.operations=('\d', 'b')"], values)
  assert values.config.search.operations == (r"\d", "b")


def test_a_workdir_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  done = call(f"--workdir={tmp_path / 'file' / 'run'}")
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "can't be written" in done.stderr


@pytest.mark.slow
def test_a_collapsed_search_is_one_line_and_status_1(tmp_path):
  tiny = [flag for flag in TINY if "search.operations" not in flag]
  flags = ["--config.search.operations=('none','skip_connect')", "--config.search.alpha_learning_rate=1.0"]
  done = call(f"--workdir={tmp_path}", *tiny, *flags, "--config.search.stop_on_collapse")
  assert done.returncode == 1, done.stderr
  assert done.stderr == (
    "lfr-darts: the search has collapsed: normal: 2 of 2 connections are skip_connects, a sign of collapse above 25 %; "
    "its state is saved: --mode=report shows it, --config.search.stop_on_collapse=False goes on\n"
  )
  assert "normal: 2 of 2 connections are skip_connects, a sign of collapse above 25 % (DARTS+" in done.stdout
  assert call(f"--workdir={tmp_path}", "--mode=report").returncode == 0
  page = (tmp_path / "report" / "index.html").read_text()
  assert "Iteration 1, normal: 2 of 2 connections are skip_connects" in page


def test_draw_needs_no_run(tmp_path):
  done = call("--mode=draw", "--genotype=DARTS_V2", f"--workdir={tmp_path}")
  assert done.returncode == 0, done.stderr
  paths = done.stdout.splitlines()
  assert len(paths) == 4 and all(pathlib.Path(p).is_file() for p in paths)


def test_a_missing_workdir():
  done = call()
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "workdir" in done.stderr


def test_a_malformed_genotype_file(tmp_path):
  path = tmp_path / "g.json"
  path.write_text('{"format": ' + "[" * 100_000)
  done = call("--mode=describe", f"--genotype={path}")
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "deeply" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_where_nothing_waits_for_one(number):
  # A shell that starts a command in the background has it ignore SIGINT.
  raises = (
    "from lfr_darts_jax import main; import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "main.main = lambda argv: signal.raise_signal({}); main.run()"
  )
  done = subprocess.run([sys.executable, "-c", raises.format(int(number))], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 128 + number
  assert done.stderr == "lfr-darts: stopped; the same command continues from the last checkpoint\n"


FAIL = """
import {module}
from lfr_darts_jax import main
def fail(argv):
  raise {error}
main.main = fail
main.run()
"""


@pytest.mark.parametrize(
  "module,error,line",
  [
    (
      "errno",
      "OSError(errno.ENOSPC, '', 'a/b')",
      "a/b: no space left on device; the same command continues once there is space",
    ),
    ("errno", "OSError(errno.EACCES, 'Denied', 'a/b')", "PermissionError: [Errno 13] Denied: 'a/b'"),
    ("lfr_darts_jax.errors", "lfr_darts_jax.errors.RunError('a stop')", "a stop"),
    ("math", "ValueError('one\\ntwo')", "ValueError: one two"),
  ],
)
def test_what_fails_is_one_line_and_status_1(module, error, line):
  program = FAIL.format(module=module, error=error)
  done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 1 and done.stderr == f"lfr-darts: {line}\n" and done.stdout == ""
  debugged = subprocess.run([sys.executable, "-c", program, "--debug"], cwd=ROOT, capture_output=True, text=True)
  assert debugged.returncode == 1 and "in fail" in debugged.stderr and debugged.stderr.endswith(done.stderr)


def test_a_full_disk_behind_stdout():
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      command("--mode=describe", "--genotype=DARTS_V2"), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "lfr-darts: no space left on device; the same command continues once there is space\n"
    done = subprocess.run(command("--mode=describe", "--genotype=DARTS_V2"), cwd=ROOT, stdout=full, stderr=full)
    assert done.returncode == 1


@pytest.mark.slow
def test_interrupted_and_continued_run_equals_an_undisturbed_one(tmp_path):
  whole = call(f"--workdir={tmp_path / 'whole'}", *TINY)
  assert whole.returncode == 0, whole.stderr
  result = json.loads((tmp_path / "whole" / "result.json").read_text())
  assert f"test error         {result['test_error']:.2f} %" in whole.stdout
  # Line by line, and nothing but the program's own words.
  assert "\r" not in whole.stdout and "\x1b" not in whole.stdout and whole.stderr == ""
  page = tmp_path / "whole" / "report" / "index.html"
  assert whole.stdout.splitlines()[-1].split() == ["page", str(page)] and page.exists()
  process = subprocess.Popen(
    command(f"--workdir={tmp_path / 'parts'}", *TINY),
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  metrics = tmp_path / "parts" / "metrics.jsonl"
  while not metrics.exists() and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 130 and "the same command continues" in errors.splitlines()[-1], errors
  again = call(f"--workdir={tmp_path / 'parts'}", *TINY)
  assert again.returncode == 0, again.stderr
  # On a fast machine the signal may come as late as the training.
  assert "continuing the " in again.stdout
  for name in ("genotype.json", "metrics.jsonl"):
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
  assert json.loads((tmp_path / "parts" / "result.json").read_text())["test_error"] == result["test_error"]
  page.unlink()
  assert call("--mode=report", f"--workdir={tmp_path / 'whole'}").stdout.split() == [str(page)] and page.exists()
  evaluated = call("--mode=evaluate", f"--workdir={tmp_path / 'parts'}")
  assert json.loads(evaluated.stdout.splitlines()[-1])["test_error"] == result["test_error"]


@pytest.mark.slow
@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_a_compile_is_obeyed_before_it_ends(tmp_path, number, status):
  process = subprocess.Popen(
    command(f"--workdir={tmp_path}", "--config.plan.name=darts", "--config.search.layers=4"),
    cwd=ROOT,
    env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"},
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  assert any(line.startswith("compiling a supernet of 4 layers") for line in process.stdout)
  # Out of Python's tracing, into the compiler, which takes several times as long.
  time.sleep(5)
  process.send_signal(number)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == status and output == "", output
  assert errors.splitlines()[-1].endswith("the same command continues")
  assert [path.name for path in (tmp_path / "search").iterdir()] == ["0"]
