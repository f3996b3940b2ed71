"""Fashion-MNIST on two CPU cores, with the budgets of `cifar10_laptop.py`.

python -m experiments.compare --study=experiments/fashion_mnist_laptop.py --data-dir=DIR
"""

from configs import laptop
from experiments import cifar10_laptop
from experiments.study import Group, Study

MAIN = {"lfr_darts": 5, "darts": 5, "random_layered": 10}
# Whether fresh weights, chosen on CIFAR-10, serve here too.
ABLATIONS = {"lfr_darts": 3, "inherited": 3}


def get_study():
  """The study."""
  config = laptop.get_config("fashion_mnist")
  cifar10_laptop.set_budget(config)
  return Study(
    name="fashion_mnist_laptop",
    config=config,
    search_epochs=cifar10_laptop.SEARCH_EPOCHS,
    groups={
      "main": Group(MAIN),
      "ablations": Group(ABLATIONS, cifar10_laptop.HELD_OUT),
      "matched": Group(MAIN, match="main"),
    },
  )
