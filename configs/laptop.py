"""Real data on two CPU cores in under an hour: a short search on a tenth of the train split, then five epochs.

python -m lfr_darts_jax.main --config=configs/laptop.py --workdir=runs/laptop --config.data.dir=DIR
python -m lfr_darts_jax.main --config=configs/laptop.py:fashion_mnist --workdir=runs/fashion --config.data.dir=DIR

One core of an AMD EPYC, 2026-11-29, seeds 0 and 1: CIFAR-10 18.22 and 18.53 % test error after 28 and 30 minutes of
search and training, Fashion-MNIST 7.34 and 7.57 % after 35 and 27, with other jobs on the core for a part of the time
(commit d35790f).
No search ends with a sign of collapse. With alphas at 6e-3, as until 2026-11-27, seed 0 had 19.42 and 7.84 % on two
cores, after 22 and 20 minutes.
"""

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError

SHAPES = {"cifar10": (32, 3), "fashion_mnist": (28, 1)}


def get_config(name: str = "cifar10"):
  """The config for "cifar10" or "fashion_mnist"."""
  if name not in SHAPES:
    raise UsageError(f"config: laptop:{name}; allowed are {', '.join(SHAPES)}")
  config = schema.get_config()
  size, channels = SHAPES[name]
  config.data.update(name=name, image_size=size, channels=channels, search_fraction=0.1)
  config.plan.update(derived_copies=1, searched_copies=1)
  config.search.update(epochs=2, batch_size=32, channels=8, steps_per_chunk=20, alpha_learning_rate=None)
  config.network.update(channels=16, layers=5)
  config.train.update(epochs=5, batch_size=32, drop_path=0.0, cutout=0)
  return config
