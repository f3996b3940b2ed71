"""Layered search judged by ground truth: NAS-Bench-Macro's 6,561 networks, each of which was really trained.

python -m experiments.macro --table=FILE --data-dir=DIR
python -m experiments.macro --table=FILE --tables

FILE is NAS-Bench-Macro's JSON, with one or three trainings of every network. The first may be started several times, on
a core each: every process takes jobs that no other has; killed, it goes on where it was. The second makes tables and
plots anew from the lines, of which `experiments/macro_study.py` says what they hold.
"""

import argparse
import pathlib
import sys

from benchmarks.common import Parser, positive
from experiments import claims, command, lines, macro_study, macro_tables
from experiments.macro_space import Table

RESULTS = pathlib.Path(__file__).parent / "results" / "macro"


def parse(argv: list[str]) -> argparse.Namespace:
  """The flags."""
  parser = Parser(__doc__ or "")
  parser.add_argument("--table", type=pathlib.Path, required=True, help="NAS-Bench-Macro's JSON")
  parser.add_argument("--data-dir", help="TFDS's data_dir, with CIFAR-10")
  parser.add_argument("--group", choices=[*macro_study.GROUPS], default="main", help="which jobs")
  parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/macro"), help="where the runs lie")
  parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where lines and tables go")
  parser.add_argument("--channels", type=positive, default=macro_study.CHANNELS, help="of the supernet's stem")
  parser.add_argument("--tables", action="store_true", help="only make the tables anew")
  return parser.parse_args(argv)


def main(argv: list[str]) -> int:
  """Does what the flags say; returns the exit status."""
  options = parse(argv)
  table, path = Table.read(options.table), options.results / f"{options.group}.jsonl"
  for job in [] if options.tables else macro_study.GROUPS[options.group]:
    with claims.due(options.workdir, job.place, path, (job.method, job.seed)) as own:
      if own:
        line, scores = macro_study.run(job, options.data_dir, options.workdir / job.place, options.channels)
        with claims.turn(options.workdir):
          macro_study.save_scores(options.results / line["scores"], scores)
          lines.add(path, [line])
  for written in macro_tables.write(options.results, table):
    print(written)
  return 0


if __name__ == "__main__":
  command.run("macro", lambda: main(sys.argv[1:]))
