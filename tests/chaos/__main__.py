"""Kills the digits job at a tiny budget at random and at chosen moments, and prints a table of what came of it.

    python -m tests.chaos --kills=200 --jobs=2

Stopped and started again with the same command it goes on where it was.
"""

import argparse
import datetime
import os
import pathlib
import sys
import tempfile

from absl import logging

from tests.chaos import table
from tests.chaos.campaign import Campaign

DIRECTORY = pathlib.Path(tempfile.gettempdir()) / f"lfr_darts_jax_chaos_{os.getuid()}"


def main() -> int:
  """Returns the exit status: 1 where a run ended otherwise than one that was left alone."""
  parser = argparse.ArgumentParser(
    "python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kills", type=int, default=200, help="how many, at least (default 200)")
  parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
  parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
  parser.add_argument(
    "--output", type=pathlib.Path, default=DIRECTORY, help="directory of the log (default %(default)s)"
  )
  given = parser.parse_args()
  logging.set_verbosity(logging.ERROR)
  campaign = Campaign(given.output, given.seed)
  try:
    campaign.measure()
    campaign.go_on(given.kills, given.jobs, lambda text: print(text, flush=True))
  except KeyboardInterrupt:
    # Their processes got the signal too; what the threads make of that is no outcome.
    os._exit(130)
  print(f"\n`python -m tests.chaos {' '.join(sys.argv[1:])}`, {datetime.date.today()}\n")
  print("\n".join(table.lines(campaign.reference, campaign.trials.values())))
  return int(any(outcome["problems"] for outcome in campaign.trials.values()))


if __name__ == "__main__":
  sys.exit(main())
