"""P-DARTS on CIFAR-10: 5, 11 and 17 layers of 25 epochs each, ten of them warm-up.

    python -m lfr_darts_jax.main --config=configs/pdarts.py --workdir=runs/pdarts --config.data.dir=DIR

For a GPU or TPU; not run here. P-DARTS reports 2.50 % test error.
"""

import pathlib
import runpy


def get_config():
  """`cifar10.py` with the plan and schedule of P-DARTS (section 4.2)."""
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10.py")))["get_config"]()
  config.plan.name = "pdarts"
  config.search.update(epochs=25, batch_size=96, warmup_fraction=0.4, alpha_learning_rate=6e-4)
  return config
