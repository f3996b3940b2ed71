"""The presets of published methods, field by field, against the flags of their originals.

Sources: quark0/darts, folder `cnn`, and chenxin061/pdarts, both with the defaults of their argument parsers and the
flags of their READMEs. Where a script of P-DARTS has had several defaults, those that its paper tells (Chen
et al. 2019, "Progressive differentiable architecture search", ICCV).
"""

import pathlib
import runpy

import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.search import plans

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"

# What has no counterpart there: where things lie, how they run, and fields of other plans.
OURS = {
  *("seed", "profile", "checkpoint.interval", "checkpoint.keep", "recovery.retries"),
  *("data.dir", "data.skip_bad_files", "data.validation_fraction", "data.workers", "data.statistics_images"),
  *("data.image_key", "data.label_key", "data.split_seed", "data.labels", "data.train_split", "data.test_split"),
  *("train.init_from", "plan.derived_copies", "plan.searched_copies", "plan.inherit_weights"),
  *("search.steps_per_chunk", "train.steps_per_chunk", "search.num_seeds", "search.inner_learning_rate"),
  *("search.collapse_skip_share", "search.collapse_entropy", "search.stop_on_collapse"),
  *("network.batch_norm_group", "network.remat", "network.depthwise", "network.edges"),
}
OF_PDARTS = {"plan.pdarts_layers", "plan.pdarts_skip_dropout", "plan.pdarts_max_skip_connects", "search.layers"}

# What later methods added; of DARTS, and of P-DARTS after it, nothing.
OFF = {
  "space.name": "cells",
  "plan.window": None,
  "search.budget": [],  # Flattened, as JSON has it.
  "search.costs": None,
  "search.price_rate": 0.0,
  "search.measured_batches": 0,
  "search.gate": "softmax",
  "search.perturbation": 0.0,
  "search.layer_alignment": 0.0,
  "search.edge_weights": False,
  "search.partial_channels": 1,
  "search.auxiliary_skip": False,
  "search.penalties": [],
  "search.sample_weight_exponent": 0.0,
  "search.hypergradient": "unrolled",
  "prune.fade": 0.0,
  "prune.edge_threshold": 0.0,
  "network.activation": "relu",
  "network.cell_attention": False,
  "train.class_weights": None,
}
# How these are, where they are.
DETAILS = {
  *("space.blocks", "space.sections", "space.head", "plan.unit"),
  *("search.temperatures", "search.perturbed_by", "search.channel_choice", "search.neumann_terms"),
  "network.time_steps",
}

DARTS = {
  **OFF,
  # train_search.py: CIFAR_CLASSES; utils.py: RandomCrop(32, padding=4), RandomHorizontalFlip, no cutout unless asked.
  "data.name": "cifar10",
  "data.image_size": 32,
  "data.channels": 3,
  "data.num_classes": 10,
  "data.augmentation": "cifar",
  "data.crop_padding": 4,
  "data.flip": "random",
  "data.test_view": "whole",
  "data.loading": "device",
  "data.jitter": 0.0,
  "data.hue": 0.0,
  # train_search.py: --train_portion 0.5, so that both halves are the whole.
  "data.search_fraction": 1.0,
  "plan.name": "darts",
  # train_search.py: --batch_size, --learning_rate, --learning_rate_min, --momentum, --weight_decay, --epochs,
  # --init_channels, --layers, --grad_clip, --arch_learning_rate, --arch_weight_decay; --unrolled is off.
  "search.batch_size": 64,
  "search.learning_rate": 0.025,
  "search.min_learning_rate": 0.001,
  "search.momentum": 0.9,
  "search.weight_decay": 3e-4,
  "search.epochs": 50,
  "search.channels": 16,
  "search.layers": 8,
  "search.gradient_clip": 5,
  "search.alpha_learning_rate": 3e-4,
  "search.alpha_weight_decay": 1e-3,
  "search.order": 1,
  # architect.py: Adam with these betas, whose gradient is not clipped, from the first step on.
  "search.alpha_beta1": 0.5,
  "search.alpha_beta2": 0.999,
  "search.alpha_gradient_clip": None,
  "search.warmup_fraction": None,  # The plan's own: see WARM_UP.
  # model_search.py: steps; formats.py: PRIMITIVES; genotype() takes the largest softmax, once, at the end.
  "search.nodes": 4,
  "search.operations": [
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
  ],
  "prune.rule": "softmax",
  "prune.rounds": None,  # The plan's own, which has none.
  # train.py: --init_channels, --layers, --epochs, --batch_size, --learning_rate, --momentum, --weight_decay,
  # --grad_clip, --auxiliary_weight, --drop_path_prob, --cutout_length; README: --auxiliary --cutout.
  "network.channels": 36,
  "network.layers": 20,
  "network.stem": "cifar",
  "network.dtype": "float32",
  "train.epochs": 600,
  "train.batch_size": 96,
  "train.learning_rate": 0.025,
  "train.schedule": "cosine",
  "train.warmup_epochs": 0,
  "train.momentum": 0.9,
  "train.weight_decay": 3e-4,
  "train.gradient_clip": 5,
  "train.label_smoothing": 0.0,
  "train.auxiliary_weight": 0.4,
  "train.drop_path": 0.2,
  "train.ema": 0.0,
  "train.cutout": 16,
}

PDARTS = DARTS | {
  "plan.name": "pdarts",
  # train_search.py: --layers 5, --add_layers 6 and 12; paper, section 4.2.1: 0.0, 0.4 and 0.7 on CIFAR-10 (the README
  # has 0.1 for the first), and at most two skip_connects.
  "plan.pdarts_layers": [5, 11, 17],
  "plan.pdarts_skip_dropout": [0.0, 0.4, 0.7],
  "plan.pdarts_max_skip_connects": 2,
  # train_search.py: --epochs, --batch_size, --learning_rate_min, --arch_learning_rate; --grad_clip, of the alphas too.
  "search.epochs": 25,
  "search.batch_size": 96,
  "search.min_learning_rate": 0.0,
  "search.alpha_learning_rate": 6e-4,
  "search.alpha_gradient_clip": 5,
  # train_cifar.py: --batch_size, --drop_path_prob.
  "train.batch_size": 128,
  "train.drop_path": 0.3,
}

# train_imagenet.py, for what is trained; what is searched is DARTS's, but for the deviations below.
IMAGENET = DARTS | {
  # RandomResizedCrop(224), CenterCrop(224) of Resize(256).
  "data.image_size": 224,
  "data.augmentation": "inception",
  "data.crop_padding": 0,
  "data.test_view": "centre",
  "data.num_classes": 1000,
  "data.jitter": 0.4,  # ColorJitter's brightness, contrast and saturation.
  "data.hue": 0.2,
  # --init_channels, --layers, --epochs, --weight_decay, --label_smooth, --drop_path_prob, --lr_scheduler; paper,
  # section 4.3.2: batch 1024, rate 0.5, both in its newest version; the first five epochs are warm-up.
  "network.channels": 48,
  "network.layers": 14,
  "network.stem": "imagenet",
  "train.epochs": 250,
  "train.batch_size": 1024,
  "train.learning_rate": 0.5,
  "train.schedule": "linear",
  "train.warmup_epochs": 5,
  "train.weight_decay": 3e-5,
  "train.label_smoothing": 0.1,
  "train.drop_path": 0.0,
  "train.cutout": 0,
}
# Nobody published a layered search on ImageNet to compare with.
IMAGENET_DEVIATIONS = {
  "data.name": "imagenet2012",
  "data.loading": "stream",
  "data.search_fraction": 0.1,
  "plan.name": "lfr_darts",
}

WARM_UP = {"darts": 0.0, "pdarts": 10 / 25}  # train_search.py of P-DARTS: eps_no_archs, of --epochs.
TABLES = {"darts": DARTS, "pdarts": PDARTS, "imagenet": IMAGENET | IMAGENET_DEVIATIONS}


def preset(name):
  return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()


def differing(config, table):
  """The fields that differ from a table, and those that nothing is said of."""
  flat = schema.flatten(config)
  unsaid = set(flat) - set(table) - OURS - OF_PDARTS - DETAILS
  return sorted(unsaid) + [name for name, value in table.items() if flat[name] != value]


@pytest.mark.parametrize("name", TABLES)
def test_preset_equals_its_original(name):
  assert differing(preset(name), TABLES[name]) == []


@pytest.mark.parametrize("name", WARM_UP)
def test_warm_up_equals_that_of_the_original(name):
  config = preset(name)
  epochs = config.search.epochs
  for stage in plans.make(config).stages:
    assert stage.warmup_steps(epochs) == WARM_UP[name] * epochs


def test_the_defaults_are_those_of_darts_with_another_plan():
  assert schema.flatten(preset("cifar10")) == schema.flatten(schema.get_config())
  assert differing(schema.get_config(), DARTS) == ["plan.name"]
