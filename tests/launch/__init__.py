"""The launchers, as far as they can be tried on one machine; launch/slurm.sbatch has tests/slurm."""
