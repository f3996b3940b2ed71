"""A Slurm cluster on this machine, and launch/slurm.sbatch on it: `python -m tests.slurm --help`."""
