"""Cells under a budget, on CIFAR-10 and one CPU core per job, with the budgets of `cifar10_laptop.py`.

python -m experiments.compare --study=experiments/budget_laptop.py --data-dir=DIR

`lfr_darts` and `darts` within 60 and 80 % of the multiply-adds that they choose freely, seed by seed, and chance within
the same.
"""

from configs import laptop
from experiments import cifar10_laptop
from experiments.methods import budgeted
from experiments.study import Group, Study

SEEDS = 3


def get_study():
  """The study."""
  config = laptop.get_config("cifar10")
  cifar10_laptop.set_budget(config)
  main = Group({"lfr_darts": SEEDS, "darts": SEEDS})
  within = Group(dict.fromkeys(budgeted(), SEEDS))
  return Study("budget_laptop", config, cifar10_laptop.SEARCH_EPOCHS, {"main": main, "within": within})
