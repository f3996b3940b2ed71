"""CIFAR-10 by DARTS's protocol: 16 channels, 50 epochs per iteration, then 20 layers, 36 channels, 600 epochs.

    python -m lfr_darts_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 --config.data.dir=DIR

For a GPU or TPU; not run here. The paper reports 2.45 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The defaults of DARTS, and the plan of the paper."""
  config = schema.get_config()
  config.data.update(name="cifar10", image_size=32, channels=3, num_classes=10, flip=True, crop_padding=4)
  config.plan.update(derived_copies=2, searched_copies=2)
  config.search.update(
    epochs=50, batch_size=64, channels=16, nodes=4, alpha_learning_rate=3e-4, updates_per_dispatch=50
  )
  config.network.update(channels=36, layers=20)
  config.train.update(epochs=600, batch_size=96, drop_path=0.2, cutout=16)
  return config
