"""The study of `experiments/macro.py` at half and at full width of the benchmark, for a GPU; not run yet.

python -m experiments.macro_gpu --table=FILE --data-dir=DIR

The same jobs, settings and tables, one folder of results per width. At full width a step of all branches takes 154 M
multiply-adds per image, against 12 M at a quarter.
"""

import sys

from experiments import macro

WIDTHS = {"half": 16, "full": 32}  # Features of the stem.


def run() -> None:
  """Entry point."""
  for name, channels in WIDTHS.items():
    where = [f"--results={macro.RESULTS.with_name(f'macro_{name}')}", f"--workdir=runs/macro_{name}"]
    macro.guarded([f"--channels={channels}", *where, *sys.argv[1:]])


if __name__ == "__main__":
  run()
