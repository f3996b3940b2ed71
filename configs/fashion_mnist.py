"""Fashion-MNIST by DARTS's CIFAR-10 protocol, one channel, 28 pixels.

    python -m lfr_darts_jax.main --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist --config.data.dir=DIR

For a GPU or TPU; not run here. The paper reports 3.70 % test error.
"""

import pathlib
import runpy


def get_config():
  """`cifar10.py` with another data set."""
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10.py")))["get_config"]()
  config.data.update(name="fashion_mnist", image_size=28, channels=1)
  return config
