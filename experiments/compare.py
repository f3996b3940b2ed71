"""Runs a study, as far as it is not done yet, and makes its tables and plots; killed, it goes on where it was.

python -m experiments.compare --study=experiments/cifar10_laptop.py --data-dir=DIR [--groups=main,ablations]
python -m experiments.compare --study=experiments/cifar10_laptop.py --tables
python -m experiments.compare --study=experiments/cifar10_laptop.py --data-dir=DIR --repeat=main/lfr_darts/0

The first may be started several times, say once per GPU: each process takes jobs that no other has. The second makes
the tables anew from the lines of JSON. The third does one job again from nothing and compares.
"""

import argparse
from collections.abc import Callable, Mapping
import json
import pathlib
import sys
import tempfile

from benchmarks.common import Parser, place
from experiments import claims, command, lines, noise, pages, ranking, runner, study as studies
from experiments.study import Study
from lfr_darts_jax.errors import UsageError

RESULTS = pathlib.Path(__file__).parent / "results"
# What a study does besides its groups, in files of their own.
MORE: Mapping[str, Callable[[Study, pathlib.Path, pathlib.Path], None]] = {"ranking": ranking.run, "noise": noise.run}


def load(path: pathlib.Path) -> Study:
  """The study that a Python file's `get_study` returns.

  Raises:
    UsageError: where there is none.
  """
  if not path.is_file():
    raise UsageError(f"study: {path} is not there; allowed is a Python file with get_study()")
  names: dict = {"__name__": path.stem}
  exec(compile(path.read_text(), str(path), "exec"), names)
  made = names["get_study"]() if "get_study" in names else None
  if not isinstance(made, Study):
    raise UsageError(f"study: {path} has no get_study() that returns a Study")
  return made


def found(study: Study, results: pathlib.Path) -> dict[str, list[lines.Line]]:
  """The lines of all groups so far, by group."""
  names = [*study.groups, "diagnostics", *MORE]
  return {name: lines.read(results / study.name / f"{name}.jsonl") for name in names}


def run_group(study: Study, name: str, workdir: pathlib.Path, results: pathlib.Path) -> None:
  """Does what is left of a group and what no other process is at."""
  folder = results / study.name
  before = found(study, results)
  first = study.groups[name].match
  if first and any(job.method == studies.REFERENCE for job in studies.jobs(study, first, before)):
    print(f"== {name} waits for {studies.REFERENCE} of {first}, which its sizes are matched to", flush=True)
    return
  for job in studies.jobs(study, name, before):
    with claims.due(workdir, job.place, folder / f"{name}.jsonl", job.key) as own:
      if own:
        line, course = (job.line, []) if job.line else runner.run(job, workdir)
        with claims.turn(workdir):
          lines.add(folder / f"{name}.jsonl", [line])
          lines.add(folder / "diagnostics.jsonl", course)


def repeat(study: Study, place: str, results: pathlib.Path) -> bool:
  """Does a finished job again, from nothing; whether it ends with the same genotype and test error."""
  name = place.partition("/")[0]
  if name not in study.groups:
    raise UsageError(f"repeat: {place}; allowed is GROUP/METHOD/SEED, of the groups {', '.join(study.groups)}")
  before = found(study, results)
  line = next((li for li in before[name] if f"{name}/{li['method']}/{li['seed']}" == place), None)
  if line is None:
    raise UsageError(f"repeat: {place} has no result yet; allowed are the jobs in {results / study.name / name}.jsonl")
  job = studies.job(study, name, line["method"], line["seed"], before)
  assert job is not None
  with tempfile.TemporaryDirectory() as folder:
    again, _ = runner.run(job, pathlib.Path(folder))
  same = all(again[key] == line[key] for key in ("genotype", "test_error", "parameters"))
  print(json.dumps({"job": place, "before": line["test_error"], "again": again["test_error"], "same": same}))
  return same


def parse(argv: list[str]) -> argparse.Namespace:
  """The flags."""
  parser = Parser(__doc__)
  parser.add_argument("--study", type=place, required=True, help="a file with get_study()")
  parser.add_argument("--data-dir", help="TFDS's data_dir, or the image folder")
  parser.add_argument("--groups", help=f"which to run, separated by commas; all, and {', '.join(MORE)}, by default")
  parser.add_argument("--workdir", type=place, default=pathlib.Path("runs/evidence"), help="where the runs lie")
  parser.add_argument("--results", type=place, default=RESULTS, help="where lines and tables go")
  parser.add_argument("--tables", action="store_true", help="only make the tables anew")
  parser.add_argument("--repeat", metavar="GROUP/METHOD/SEED", help="does one job again from nothing and compares")
  return parser.parse_args(argv)


def main(argv: list[str]) -> int:
  """Does what the flags say; returns the exit status."""
  options = parse(argv)
  study = load(options.study)
  if options.data_dir:
    study.config.data.dir = options.data_dir
  if options.repeat:
    return 0 if repeat(study, options.repeat, options.results) else 1
  allowed = [*study.groups, *(name for name in MORE if getattr(study, name))]
  names = options.groups.split(",") if options.groups else allowed
  unknown = set(names) - set(allowed)
  if unknown:
    raise UsageError(f"groups: {min(unknown)}; allowed are {', '.join(allowed)}")
  for name in [] if options.tables else names:
    if name in MORE:
      MORE[name](study, options.workdir / study.name, options.results / study.name / f"{name}.jsonl")
    else:
      run_group(study, name, options.workdir / study.name, options.results)
  for path in pages.write(study, found(study, options.results), options.results / study.name):
    print(path)
  return 0


def run() -> None:
  """Entry point: errors as one line and an exit status."""
  command.run("compare", lambda: main(sys.argv[1:]))


if __name__ == "__main__":
  run()
