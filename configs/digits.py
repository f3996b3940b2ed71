"""What a command line without --config does: scikit-learn's 1,797 digits, to a layered genotype and a tested network.

python -m lfr_darts_jax.main --workdir=runs/digits

Two cores of an AMD EPYC, 2026-11-28: three of the 360 test images wrong after three minutes and a half.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The preset of that name."""
  return schema.get_config("digits")
