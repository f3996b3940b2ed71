"""CIFAR-10 on two CPU cores: small networks and short budgets, all of the data.

python -m experiments.compare --study=experiments/cifar10_laptop.py --data-dir=DIR
"""

from configs import laptop
from experiments.study import Group, Ranking, Study

SEARCH_EPOCHS = 15
# In the order in which they are run, seed by seed.
MAIN = {
  "lfr_darts": 5,
  "darts": 5,
  "random_layered": 10,
  "random_repeated": 5,
  "darts_v2": 3,
  "joint": 3,
  "pdarts": 3,
  "lfr_darts_order2": 3,
}
# Six seeds where three looked different, to tell whether they are.
ABLATIONS = {"lfr_darts": 6, "inherited": 6, "all_at_once": 3, "no_warmup": 3, "two_searched_copies": 3}
HELD_OUT = {"data.validation_fraction": 0.2}
PILOT = {"darts_v2": 5, "random_layered": 3}
# The pilot's searches took so long that all others have three fifths of its updates.
LONGER = {"data.search_fraction": 0.064}
# Four times the updates, about the computing of a search of `darts`.
FOURFOLD = {"data.search_fraction": 4 * 0.0384}
GROUPS = {
  "pilot": Group(PILOT, HELD_OUT | LONGER),
  "main": Group(MAIN),
  # On held-out images, so that the method may change by what they show.
  "ablations": Group(ABLATIONS, HELD_OUT),
  "matched": Group(MAIN, match="main"),
}
RANKING = Ranking("n1", 12, HELD_OUT)
# With all candidates to the end, as those of `darts`, whose gradients theirs are compared with.
NOISE = Group({"all_at_once": 1, "darts": 1}, HELD_OUT)


def set_budget(config):
  """What a job may take of one core: ten to forty minutes. Supernets are as deep as final networks."""
  config.data.search_fraction = 0.0384  # 29 updates per epoch, 23 where a fifth of the train split is held out.
  config.search.update(channels=4, layers=5)
  config.plan.pdarts_layers = (3, 4, 5)
  config.network.update(channels=8, layers=5)
  config.train.update(epochs=1, batch_size=32)


def get_study():
  """The study."""
  config = laptop.get_config("cifar10")
  set_budget(config)
  groups = GROUPS | {"fourfold": Group({"lfr_darts": 3}, HELD_OUT | FOURFOLD)}
  return Study("cifar10_laptop", config, SEARCH_EPOCHS, groups, RANKING, NOISE)
