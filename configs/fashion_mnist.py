"""Fashion-MNIST by DARTS's CIFAR-10 protocol, one channel, 28 pixels.

    python -m lfr_darts_jax.main --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist --config.data.dir=DIR

For a GPU or TPU; not run here. The paper reports 3.70 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The defaults with another data set."""
  config = schema.get_config()
  config.data.update(name="fashion_mnist", image_size=28, channels=1)
  return config
