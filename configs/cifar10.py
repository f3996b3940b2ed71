"""CIFAR-10 by DARTS's protocol: 16 channels, 50 epochs per iteration, then 20 layers, 36 channels, 600 epochs.

    python -m lfr_darts_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 --config.data.dir=DIR

For a GPU or TPU; not run here. The paper reports 2.45 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The defaults: DARTS's, with the plan of the paper."""
  return schema.get_config()
