"""Starts a Slurm cluster of two nodes on this machine, or stops it, to try launch/slurm.sbatch by hand.

    python -m tests.slurm start /tmp/cluster
    export SLURM_CONF=/tmp/cluster/slurm.conf
    JAX_PLATFORMS=cpu sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=1 --cpus-per-task=1 launch/slurm.sbatch ...
    python -m tests.slurm stop /tmp/cluster

Needs Debian's packages slurm-wlm and munge.
"""

import argparse
import pathlib
import sys

from tests.slurm import cluster


def main() -> int:
  """Returns the exit status: 1 where a daemon does not start."""
  parser = argparse.ArgumentParser(
    "python -m tests.slurm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("command", choices=("start", "stop"))
  parser.add_argument("directory", type=pathlib.Path, help="of the cluster; its path must be short")
  given = parser.parse_args()
  if absent := cluster.missing():
    print(f"not installed: {', '.join(absent)}", file=sys.stderr)
    return 1
  try:
    getattr(cluster.Cluster(given.directory), given.command)()
  except RuntimeError as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
