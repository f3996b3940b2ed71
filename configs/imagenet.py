"""ImageNet's mobile setting: 14 layers, 48 channels, 224 pixels, under 600 M multiply-adds, 250 epochs.

    python -m lfr_darts_jax.main --config=configs/imagenet.py --workdir=runs/imagenet --config.data.dir=DIR
    python -m lfr_darts_jax.main --config=configs/imagenet.py:small --workdir=runs/imagenet_small --config.data.dir=DIR

DIR is TFDS's data_dir with `imagenet2012` prepared as array_record files; from the two tars of the images
(ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar in DIR/downloads/manual) the first run prepares it, with TensorFlow.
For GPUs or TPUs, and a core per thousand images a second; not run here. The paper reports 25.5 % test error. `small` is
the same at the smallest size, for a CPU and some dozens of images: to see that it runs, not to learn anything.
"""

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError

VARIANTS = ("full", "small")


def get_config(variant: str = "full"):
  """DARTS's network, its augmentation, trained as P-DARTS does: batch 1024, linear decay after warm-up."""
  if variant not in VARIANTS:
    raise UsageError(f"config: imagenet:{variant}; allowed are {', '.join(VARIANTS)}")
  config = schema.get_config()
  config.data.update(
    name="imagenet2012",
    loading="stream",
    augmentation="inception",
    test_view="centre",
    image_size=224,
    channels=3,
    num_classes=1000,
    search_fraction=0.1,
    crop_padding=0,
    jitter=0.4,
    hue=0.2,
  )
  config.plan.searched_copies = 1
  config.search.steps_per_chunk = 20
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
    steps_per_chunk=10,
  )
  if variant == "small":
    config.data.update(image_size=64, search_fraction=1.0, workers=2)
    config.plan.update(derived_copies=1)
    config.search.update(epochs=1, batch_size=8, channels=4, nodes=2, steps_per_chunk=2)
    config.prune.rounds = ()  # Every round compiles anew.
    config.network.update(channels=4, layers=5)
    config.train.update(epochs=2, batch_size=16, warmup_epochs=1)
  return config
