"""P-DARTS on CIFAR-10: 5, 11 and 17 layers of 25 epochs each, ten of them warm-up.

    python -m lfr_darts_jax.main --config=configs/pdarts.py --workdir=runs/pdarts --config.data.dir=DIR

For a GPU or TPU; not run here. P-DARTS reports 2.50 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """The defaults with the plan and the settings of P-DARTS (section 4.2, and its code where the paper is silent)."""
  config = schema.get_config()
  config.plan.name = "pdarts"
  config.search.update(
    epochs=25, batch_size=96, min_learning_rate=0.0, alpha_learning_rate=6e-4, alpha_gradient_clip=5.0
  )
  config.train.update(batch_size=128, drop_path=0.3)
  return config
