"""Chains of blocks: the space of NAS-Bench-Macro (Su et al., CVPR 2021), searched layer by layer.

    python -m lfr_darts_jax.main --config=configs/mobile.py:macro --workdir=runs/macro --config.data.dir=DIR
    python -m lfr_darts_jax.main --config=configs/mobile.py:macro,laptop --workdir=runs/m --config.data.dir=DIR

`macro` trains what it finds by the benchmark's protocol: 50 epochs, SGD at 0.1, weight decay on all weights, crops and
flips. `laptop` has a quarter of the width, two epochs of search and two of training.
"""

from lfr_darts_jax import config as schema

SIZES = ("", "laptop")


def get_config(name: str = "macro"):
  """The config for "macro" or "macro,laptop"."""
  name, _, size = name.partition(",")
  if name != "macro" or size not in SIZES:
    raise ValueError(f"configs/mobile.py:{name},{size}; allowed are macro, and macro,laptop")
  config = schema.get_config()
  config.space.name = "mobile"
  config.plan.inherit_weights = True
  # Weights of evenly sampled paths, whose losses choose: on the pilot's seeds that ranked far better than alphas.
  config.search.update(gate="sampled", warmup_fraction=1.0, measured_batches=1000)
  config.search.update(channels=8, epochs=10, alpha_learning_rate=None)
  config.network.update(channels=32)
  config.train.update(
    epochs=50, batch_size=256, learning_rate=0.1, weight_decay=5e-4, auxiliary_weight=0.0, drop_path=0.0, cutout=0
  )
  if size:
    config.search.update(epochs=2, measured_batches=130)
    config.network.update(channels=8)
    config.train.update(epochs=2)
  return config
