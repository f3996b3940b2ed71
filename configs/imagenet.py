"""ImageNet's mobile setting: 14 layers, 48 channels, 224 pixels, under 600 M multiply-adds, 250 epochs.

    python -m lfr_darts_jax.main --mode=describe --config=configs/imagenet.py --genotype=DARTS_V2

The data set does not fit on a device and its streaming input is not written yet: only `describe` works. The paper
reports 25.5 % test error.
"""

from lfr_darts_jax import config as schema


def get_config():
  """DARTS's network, trained as P-DARTS does: batch 1024, linear decay after warm-up, label smoothing."""
  config = schema.get_config()
  config.data.update(
    name="imagenet2012", image_size=224, channels=3, num_classes=1000, search_fraction=0.1, flip=True, crop_padding=0
  )
  config.plan.update(derived_copies=2, searched_copies=1)
  config.search.update(epochs=50, batch_size=64, channels=16, nodes=4, alpha_learning_rate=3e-4)
  config.network.update(channels=48, layers=14, stem="imagenet")
  config.train.update(
    epochs=250,
    batch_size=1024,
    learning_rate=0.5,
    schedule="linear",
    warmup_epochs=5,
    weight_decay=3e-5,
    label_smoothing=0.1,
    drop_path=0.0,
    cutout=0,
  )
  return config
