"""DARTS on CIFAR-10: one normal and one reduction cell, searched in 8 layers by the protocol of its paper.

    python -m lfr_darts_jax.main --config=configs/darts.py --workdir=runs/darts --config.data.dir=DIR

For a GPU or TPU; not run here. With `--config.search.order=2` DARTS reports 2.76 % test error.
"""

import pathlib
import runpy


def get_config():
  """`cifar10.py` with the plan of DARTS, whose alphas move from the first update on."""
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10.py")))["get_config"]()
  config.plan.name = "darts"
  config.search.update(layers=8, warmup_fraction=0.0)
  return config
