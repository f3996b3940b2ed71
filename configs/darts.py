"""DARTS on CIFAR-10: one normal and one reduction cell, searched in 8 layers by the protocol of its paper.

    python -m lfr_darts_jax.main --config=configs/darts.py --workdir=runs/darts --config.data.dir=DIR

For a GPU or TPU; not run here. With `--config.search.order=2` DARTS reports 2.76 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The defaults, which are DARTS's, with its plan."""
  config = schema.get_config()
  config.plan.name = "darts"
  return config
