"""Every system of configs/systems.py on CIFAR-10 and one CPU core per job, with the budgets of `cifar10_laptop.py`.

python -m experiments.compare --study=experiments/systems_laptop.py --data-dir=DIR
"""

from configs import laptop
from configs.systems import SYSTEMS
from experiments import cifar10_laptop
from experiments.methods import METHODS
from experiments.study import Group, Study

ONCE = ("lambda_darts", "sdarts_adv", "ma_darts")  # Several times as long as the others.
MAIN = {"lfr_darts": 3, **{name: 1 if name in ONCE else 3 for name in SYSTEMS}}
ON_DARTS = {"darts": 1, **{f"{name}_on_darts": 1 for name in SYSTEMS if f"{name}_on_darts" in METHODS}}


def get_study():
  """The study."""
  config = laptop.get_config("cifar10")
  cifar10_laptop.set_budget(config)
  groups = {"main": Group(MAIN), "matched": Group(MAIN, match="main"), "darts": Group(ON_DARTS)}
  return Study("systems_laptop", config, cifar10_laptop.SEARCH_EPOCHS, groups, mechanisms=True)
