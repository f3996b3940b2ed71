"""CIFAR-10 by DARTS's protocol: 16 channels, 50 epochs per iteration, then 20 layers, 36 channels, 600 epochs.

    python -m lfr_darts_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 --config.data.dir=DIR
    python -m lfr_darts_jax.main --config=configs/cifar10.py:quarter_hour --workdir=runs/quick --config.data.dir=DIR

For a GPU or TPU; neither was run here. The paper reports 2.45 % test error with its own budget. The second is a search
and a training for one H100 and a quarter of an hour, by the estimate in docs/performance.md: one copy of each cell,
large batches, then 28 channels and 8 cells for 80 epochs.
"""

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError

BUDGETS = ("darts", "quarter_hour")


def get_config(budget: str = "darts"):
  """The defaults, which are DARTS's with the plan of the paper, or what fits into a quarter of an hour."""
  if budget not in BUDGETS:
    raise UsageError(f"config: cifar10:{budget}; allowed are {', '.join(BUDGETS)}")
  config = schema.get_config()
  if budget == "quarter_hour":
    config.data.flip = "alternating"
    config.plan.update(derived_copies=1, searched_copies=1)
    config.search.update(epochs=20, batch_size=256, learning_rate=0.1, min_learning_rate=0.0, alpha_learning_rate=3e-3)
    config.network.update(channels=28, layers=8, dtype="bfloat16")
    config.train.update(
      epochs=80,
      batch_size=256,
      learning_rate=0.1,
      label_smoothing=0.1,
      ema=0.999,
      cutout=12,
      drop_path=0.0,
      auxiliary_weight=0.0,
    )
  return config
