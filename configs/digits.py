"""What a command line without --config does: scikit-learn's 1,797 digits, to a layered genotype and a tested network.

python -m lfr_darts_jax.main --workdir=runs/digits

Two cores of an AMD EPYC, 2026-11-28: three of the 360 test images wrong after three minutes and a half.
"""

from lfr_darts_jax import config as schema


def get_config():
  """Small enough to run anywhere in minutes."""
  config = schema.get_config()
  config.data.update(name="digits", image_size=8, channels=1, flip="none", crop_padding=1)
  config.plan.update(derived_copies=1, searched_copies=1)
  config.search.update(epochs=6, batch_size=32, channels=8, nodes=3, steps_per_chunk=20, alpha_learning_rate=None)
  config.network.update(channels=16, layers=5)
  config.train.update(epochs=40, batch_size=32, drop_path=0.1, cutout=0)
  return config
