"""CIFAR-10 by DARTS's protocol, for GPUs: configs/cifar10.py, 255 epochs of search per method.

python -m experiments.compare --study=experiments/cifar10_full.py --data-dir=DIR

The same comparisons as `cifar10_laptop.py`, and those under budgets of `budget_laptop.py`. It has not been run.
"""

from configs import cifar10
from experiments import budget_laptop, cifar10_laptop
from experiments.methods import budgeted
from experiments.study import Group, Study


def get_study():
  """The study."""
  config = cifar10.get_config()
  config.search.alpha_learning_rate = None  # The plan's own travel, since methods share the epochs out differently.
  return Study(
    name="cifar10_full",
    config=config,
    search_epochs=255,
    groups=cifar10_laptop.GROUPS
    | {
      "pilot": Group(cifar10_laptop.PILOT, cifar10_laptop.HELD_OUT),
      "within": Group(dict.fromkeys(budgeted(), budget_laptop.SEEDS)),
    },
    ranking=cifar10_laptop.RANKING,
    noise=cifar10_laptop.NOISE,
  )
