"""The study of `experiments/macro.py` at half and at full width of the benchmark, for a GPU; not run yet.

python -m experiments.macro_gpu --table=FILE --data-dir=DIR

The same jobs, settings and tables, one folder of results per width. At full width a step of all branches takes 154 M
multiply-adds per image, against 12 M at a quarter.
"""

import sys

from experiments import command, macro

WIDTHS = {"half": 16, "full": 32}  # Features of the stem.


def main(argv: list[str]) -> int:
  """Runs the study at every width; returns the exit status."""
  for name, channels in WIDTHS.items():
    where = [f"--results={macro.RESULTS.with_name(f'macro_{name}')}", f"--workdir=runs/macro_{name}"]
    macro.main([f"--channels={channels}", *where, *argv])
  return 0


if __name__ == "__main__":
  command.run("macro_gpu", lambda: main(sys.argv[1:]))
