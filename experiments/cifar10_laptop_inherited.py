"""`cifar10_laptop.py` as it was run first, with supernets that start from the weights of the one before.

python -m experiments.compare --study=experiments/cifar10_laptop_inherited.py --tables

Its pilot set the budgets, and its ablations are why weights are fresh now: `docs/evidence.md`.
"""

import dataclasses

from experiments import cifar10_laptop
from experiments.cifar10_laptop import ABLATIONS
from experiments.cifar10_laptop import HELD_OUT
from experiments.cifar10_laptop import LONGER
from experiments.cifar10_laptop import PILOT
from experiments.study import Group


def get_study():
  """The study."""
  study = cifar10_laptop.get_study()
  study.config.plan.inherit_weights = True
  groups = {
    **study.groups,
    "pilot": Group(PILOT | {"slow_alphas": 1, "lfr_darts": 1}, HELD_OUT | LONGER),
    "ablations": Group({name: seeds for name, seeds in ABLATIONS.items() if name != "inherited"}, HELD_OUT),
  }
  return dataclasses.replace(study, name="cifar10_laptop_inherited", groups=groups)
