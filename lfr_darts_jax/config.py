"""The schema: default, allowed values and source of every field.

The defaults are DARTS's protocol on CIFAR-10, with the plan of the paper; the note says what is ours. Presets, the files
under `configs/`, hold overrides only.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import inspect
import pathlib
import re
import runpy
from typing import Any

import ml_collections
from ml_collections import config_dict

from lfr_darts_jax.errors import UsageError, short

# The eight of DARTS, in its order: the columns of its alphas.
DARTS_OPERATIONS = (
  "none",
  "max_pool_3x3",
  "avg_pool_3x3",
  "skip_connect",
  "sep_conv_3x3",
  "sep_conv_5x5",
  "dil_conv_3x3",
  "dil_conv_5x5",
)


@dataclasses.dataclass(frozen=True)
class Field:
  """One field of the config.

  Attributes:
    default: its value in DARTS's protocol on CIFAR-10, or ours.
    kind: its type, or several that it may be of.
    allowed: the allowed values in words, for the error message.
    check: whether a value of that type is allowed.
    note: what it means, and where its default comes from.
    optional: whether None is allowed too.
  """

  default: Any
  kind: type | tuple[type, ...]
  allowed: str
  check: Callable[[Any], bool]
  note: str
  optional: bool = False

  @property
  def kinds(self) -> tuple[type, ...]:
    """The types that a value may be of: an integer stands for a number, a list for a tuple."""
    several = self.kind if isinstance(self.kind, tuple) else (self.kind,)
    return (*several, *(also for kind, also in ((float, int), (tuple, list)) if kind in several))


def _integer(default: Any, low: int, note: str, high: int = 10**9, optional: bool = False) -> Field:
  return Field(default, int, f"integers from {low} to {high}", lambda v: low <= v <= high, note, optional)


def _number(default: Any, low: float, high: float, note: str, optional: bool = False) -> Field:
  return Field(default, float, f"numbers from {low} to {high}", lambda v: low <= v <= high, note, optional)


def _choice(default: Any, choices: tuple[Any, ...], note: str) -> Field:
  return Field(default, type(default), ", ".join(map(str, choices)), lambda v: v in choices, note)


def _flag(default: bool, note: str) -> Field:
  return Field(default, bool, "True, False", lambda v: True, note)


def _text(default: Any, note: str, optional: bool = False) -> Field:
  # A null byte is in no path, a line break in no line of a table, and half of a surrogate pair in no file.
  plain = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,4096}").fullmatch
  allowed = "text in UTF-8 of 1 to 4096 characters, none of them a control character"
  return Field(default, str, allowed, lambda v: bool(plain(v)), note, optional)


PENALTY_NAMES, RAMP_NAMES = ("beta", "zero_one", "polarization", "complexity"), ("constant", "linear")


def _penalties(value: Any) -> bool:
  return all(
    isinstance(term, (tuple, list))
    and len(term) == 3
    and term[0] in PENALTY_NAMES
    and type(term[1]) in (int, float)
    and 0 <= term[1] <= 1e6
    and term[2] in RAMP_NAMES
    for term in value
  )


UNITS = ("multiply_adds", "parameters", "latency")


def _image_size(value: Any) -> bool:
  sides = (value, value) if isinstance(value, int) else value
  return len(sides) == 2 and all(type(side) is int and 4 <= side <= 1024 for side in sides)


def _class_weights(value: Any) -> bool:
  if isinstance(value, str):
    return value == "balanced"
  return len(value) >= 2 and all(type(weight) in (int, float) and 1e-6 <= weight <= 1e6 for weight in value)


def _budget(value: Any) -> bool:
  return all(
    isinstance(term, (tuple, list))
    and len(term) == 2
    and term[0] in UNITS
    and type(term[1]) in (int, float)
    and 0 < term[1] < 1e18
    for term in value
  ) and len({term[0] for term in value}) == len(value)


def _sections(value: Any) -> bool:
  whole = lambda v, high: type(v) is int and 1 <= v <= high
  return len(value) >= 1 and all(
    isinstance(s, (tuple, list)) and len(s) == 3 and whole(s[0], 32) and whole(s[1], 256) and s[2] in (1, 2)
    for s in value
  )


def _blocks(value: Any) -> bool:
  named = [isinstance(name, str) and bool(re.fullmatch("mb[1-9]_k[357]", name)) for name in value]
  return bool(named) and all(named) and len(set(value)) == len(value)


def _rounds(value: Any) -> bool:
  if not all(isinstance(r, (tuple, list)) and len(r) == 2 for r in value):
    return False
  shares, counts = [r[0] for r in value], [r[1] for r in value]
  return (
    all(type(s) is float and 0 < s < 1 for s in shares)
    and list(shares) == sorted(shares)
    and all(type(c) is int and c >= 2 for c in counts)
    and list(counts) == sorted(counts, reverse=True)
  )


# One row per field, however long: a table is read by its columns.
# fmt: off
FIELDS: dict[str, Field] = {
    "seed": _integer(0, 0, "of every random choice: initial values, order of data, split of the train set", 2**31 - 1),

    "data.name": _text("cifar10", "digits, folder, or the name of a TFDS image classification data set"),
    "data.dir": _text(None, "TFDS's data_dir, or the image folder that holds train/<class>/*, or <class>/*", optional=True),
    "data.labels": _text(None, "CSV file with the classes of a folder's images, columns file, label and, where it tells the splits, split; None: the names of their folders; our choice", optional=True),
    "data.train_split": _text(None, "the split to train on, by its name in TFDS, in the image folder or in data.labels, several joined by +, of TFDS slices too; None: the one that is called so; our choice", optional=True),
    "data.test_split": _text(None, "the same of the test; None: the one that is called so, or else the validation split, or else a fifth of every class of the train split; our choice", optional=True),
    "data.image_key": _text(None, "TFDS's name of the feature that holds the images; None: that of the data set's supervised_keys, or the only one; our choice", optional=True),
    "data.label_key": _text(None, "the same of the labels", optional=True),
    "data.skip_bad_files": _flag(False, "whether images that can't be decoded are left out and counted, instead of stopping the run; our choice"),
    "data.image_size": Field(32, (int, tuple), "integers from 4 to 1024, (height, width) of two of them", _image_size, "pixels of a side, or height and width; images are resized to it"),
    "data.channels": Field(3, int, "1, 3", lambda v: v in (1, 3), "1 grey, 3 RGB"),
    "data.num_classes": _integer(10, 2, "classes", 100_000),
    "data.search_fraction": _number(1.0, 1e-6, 1.0, "share of the train split used in the search, halved for weights and alphas; DARTS 1"),
    "data.split_seed": _integer(0, 0, "of the fifth of every class that is held out where there is no test split, the same for every seed; our choice", 2**31 - 1),
    "data.validation_fraction": _number(0.0, 0.0, 0.9, "share of the train split, the same for every seed, that takes the place of the test split, so that settings can be chosen without it; our choice 0"),
    "data.flip": _choice("random", ("random", "alternating", "none"), "horizontal flips; random: of half of the images, DARTS; alternating: of an image in every other epoch, at random in its first (airbench, Jordan 2024), not for streams"),
    "data.crop_padding": _integer(4, 0, "random crops from images padded by so many pixels; DARTS, on ImageNet 0", 64),
    "data.loading": _choice("device", ("device", "stream"), "whether all images lie decoded on the device, or are read and decoded while they are needed, for TFDS and folders too large for it; our choice"),
    "data.augmentation": _choice("cifar", ("cifar", "inception"), "cifar: random crops of padded images, see data.crop_padding, DARTS; inception: random parts of all sizes and shapes (Szegedy et al. 2015), for streams alone, DARTS on ImageNet"),
    "data.test_view": _choice("whole", ("whole", "centre"), "what the test sees of an image; whole: all of it, DARTS; centre: the square in its middle of 224/256 of its shorter side, for streams alone, DARTS on ImageNet"),
    "data.workers": _integer(None, 0, "processes per host that decode a stream, 0 for threads of the run; None: one per core up to 32; our choice", 1024, optional=True),
    "data.jitter": _number(0.0, 0.0, 1.0, "of a stream's colours: factors of brightness, contrast and saturation, from 1 - this to 1 + this; DARTS on ImageNet 0.4"),
    "data.hue": _number(0.0, 0.0, 0.5, "of a stream's colours: largest turn of the hue, as a share of the circle; DARTS on ImageNet 0.2"),
    "data.statistics_images": _integer(2000, 1, "images of a stream's train split, drawn by seed, from which mean and deviation per channel are taken; our choice"),

    "space.name": _choice("cells", ("cells", "mobile"), "what is chosen; cells: graphs of operations, DARTS; mobile: a block in every layer of a chain, as NAS-Bench-Macro"),
    "space.blocks": Field(("mb3_k3", "mb6_k5"), tuple, "different names of blocks, such as mb6_k5", _blocks, "candidates of a chain's layers beside the identity: inverted residuals (MobileNetV2) of an expansion and a kernel; NAS-Bench-Macro's two"),
    "space.sections": Field(((2, 2, 2), (3, 4, 2), (3, 8, 2)), tuple, "((layers, width, stride), ...), 1 to 32 layers, widths from 1 to 256, strides 1 or 2", _sections, "of a chain; widths are multiples of the stem's, strides of a section's first layer; NAS-Bench-Macro"),
    "space.head": _integer(40, 1, "features of a chain before its classifier, as a multiple of the stem's; NAS-Bench-Macro", 1024),

    "plan.name": _choice("lfr_darts", ("lfr_darts", "darts", "pdarts", "joint", "per_layer", "per_section"), "which cells are searched, in which order"),
    "plan.unit": _choice("layer", ("layer", "section"), "what lfr_darts searches at a time of a chain; our choice"),
    "plan.derived_copies": _integer(2, 1, "layers of every derived normal cell in the supernet; the paper: 'increasing the number of this cell'; our choice", 20),
    "plan.searched_copies": _integer(2, 1, "layers of the searched normal cell, which share its alphas; our choice", 20),
    "plan.window": _integer(None, 2, "states before a node that it may read; None for all, DARTS; 2 makes every cell as deep as it has nodes, after MR-DARTS", 16, optional=True),
    "plan.inherit_weights": _flag(False, "whether a deeper supernet starts from the weights of the one before; our choice, no by docs/evidence.md"),
    "plan.pdarts_layers": Field((5, 11, 17), tuple, "three increasing depths of at least 3", lambda v: len(v) == 3 and all(type(n) is int for n in v) and 3 <= v[0] < v[1] < v[2] <= 100, "layers per stage of pdarts (P-DARTS, section 4.2)"),
    "plan.pdarts_skip_dropout": Field((0.0, 0.4, 0.7), tuple, "three rates from 0 to 0.99", lambda v: len(v) == 3 and all(type(r) in (int, float) and 0 <= r <= 0.99 for r in v), "initial dropout on skip_connect per stage of pdarts (P-DARTS, section 4.2; the README of its code has 0.1 for the first)"),
    "plan.pdarts_max_skip_connects": _integer(2, 0, "cap of skip_connects in a normal cell of pdarts (P-DARTS, section 3.3)", 100),

    "search.epochs": _integer(50, 1, "epochs per stage of the plan; DARTS"),
    "search.batch_size": _integer(64, 2, "images per batch; DARTS", 65536),
    "search.channels": _integer(16, 2, "features of a node before the first reduction; DARTS", 4096),
    "search.layers": _integer(8, 3, "depth of the supernet of plans with a fixed depth, darts, joint and per_layer; DARTS 8", 100),
    "search.nodes": _integer(4, 1, "intermediate nodes of a cell; DARTS", 16),
    "search.operations": Field(DARTS_OPERATIONS, tuple, "at least two different names of operations", lambda v: all(isinstance(n, str) for n in v) and len(set(v)) == len(v) >= 2, "candidates of every edge; DARTS's eight"),
    "search.gate": _choice("softmax", ("softmax", "sigmoid", "gumbel", "sampled"), "from alphas to weights; softmax: DARTS; sigmoid: each by itself, FairDARTS; gumbel: one sampled operation per edge, GDAS; sampled: that while weights train, all of them while alphas move, after ProxylessNAS"),
    "search.temperatures": Field((10.0, 0.1), tuple, "two numbers from 0.001 to 1000", lambda v: len(v) == 2 and all(type(t) in (int, float) and 1e-3 <= t <= 1e3 for t in v), "of gumbel's soft sample at the first and the last step that moves alphas; GDAS"),
    "search.perturbation": _number(0.0, 0.0, 10.0, "largest random change of the alphas while weights train, from a tenth of it on; 0 for none, DARTS; SDARTS 0.3"),
    "search.perturbed_by": _choice("chance", ("chance", "adversary"), "chance: SDARTS-RS; adversary: seven steps that make the train loss worst, SDARTS-ADV"),
    "search.layer_alignment": _number(0.0, 0.0, 100.0, "how much weights are trained to have the layers that share a normal cell's alphas agree on them, rising over a stage; 0 not at all, DARTS; Lambda-DARTS 0.125"),
    "search.edge_weights": _flag(False, "whether edges into a node are weighted against each other by alphas of their own; PC-DARTS; DARTS not"),
    "search.partial_channels": _integer(1, 1, "one of so many channels is seen by mixed ops, the others pass by; 1 for all, DARTS; PC-DARTS 4", 64),
    "search.channel_choice": _choice("first", ("first", "attention"), "which channels these are; first: PC-DARTS; attention: those that an attention over channels ranks highest, after EPC-DARTS"),
    "search.auxiliary_skip": _flag(False, "whether unstrided mixed edges add their source, by a factor that falls from 1 to 0 over a stage; DARTS-; DARTS not"),
    "search.penalties": Field((), tuple, "((name, weight, ramp), ...), names beta, zero_one, polarization, complexity, weights from 0 to 1e6, ramps constant, linear", _penalties, "terms of the alphas' loss, see search/penalties.py; DARTS none"),
    "search.budget": Field((), tuple, "((unit, limit), ...), units multiply_adds, parameters, latency, each once, limits above 0", _budget, "what the final network may cost, for one image, as it stands under network.*; latency in seconds, see search.costs; () for any; our choice"),
    "search.costs": _text(None, "file of the latencies of a final network's choices, as benchmarks/latency.py measures them", optional=True),
    "search.price_rate": _number(0.0, 0.0, 100.0, "how fast the price of cost in the alphas' loss moves, per step and per budget that the expected network exceeds; 0 for no price; after DLW-NAS, its form our choice"),
    "search.measured_batches": _integer(0, 0, "validation batches through random paths of the last supernet of a chain, by whose losses its layers are chosen; 0: by the alphas; our choice", 10**6),
    "search.sample_weight_exponent": _number(0.0, 0.0, 10.0, "how much hard images count more in the alphas' loss; 0 not at all, DARTS; DARTS-PAP, its value our choice"),
    "search.num_seeds": _integer(1, 1, "searches, with this seed and those after it, of which the one whose last supernet has the best validation accuracy is kept; DARTS 4, trained for a short while to be compared", 1000),
    "search.order": _choice(1, (1, 2), "of the bilevel gradient: 1 takes the weights as they are, 2 differentiates through their next step (DARTS, section 2.3)"),
    "search.inner_learning_rate": _number(None, 0.0, 10.0, "xi of order 2; None: the weights' current rate, as DARTS", optional=True),
    "search.hypergradient": _choice("unrolled", ("unrolled", "neumann", "sampled_neumann"), "how order 2 looks through the weights; unrolled: one virtual step, DARTS; neumann: a series for weights at their optimum, sampled_neumann: one random power of it, after STO-DARTS"),
    "search.neumann_terms": _integer(2, 1, "of that series; our choice", 100),
    "search.warmup_fraction": _number(None, 0.0, 1.0, "share of a stage's steps that train weights alone; None: the plan's own, for darts 0 (DARTS), pdarts 0.4 (P-DARTS), lfr_darts and joint 0.3 (our choice)", optional=True),
    "search.steps_per_chunk": _integer(50, 1, "steps taken in one call of the device", 100_000),
    "search.learning_rate": _number(0.025, 1e-9, 10.0, "of the weights; DARTS"),
    "search.min_learning_rate": _number(0.001, 0.0, 10.0, "at the end of the cosine; DARTS"),
    "search.momentum": _number(0.9, 0.0, 0.9999, "of the weights; DARTS"),
    "search.weight_decay": _number(3e-4, 0.0, 1.0, "L2 of the weights; DARTS"),
    "search.gradient_clip": _number(5.0, 1e-6, 1e9, "global norm of the weights' gradient; DARTS"),
    "search.alpha_learning_rate": _number(3e-4, 1e-9, 10.0, "Adam's, of the alphas; DARTS; None: what lets them go as far in a search of any length as at its published one, 5.85 over the steps that move them, 2.34 for pdarts, at most 0.1; our choice for small searches", optional=True),
    "search.alpha_beta1": _number(0.5, 0.0, 0.9999, "Adam's, of the alphas; DARTS"),
    "search.alpha_beta2": _number(0.999, 0.0, 0.99999, "Adam's, of the alphas; DARTS"),
    "search.alpha_weight_decay": _number(1e-3, 0.0, 1.0, "L2 of the alphas, added to their gradient; DARTS"),
    "search.alpha_gradient_clip": _number(None, 1e-6, 1e9, "global norm of the alphas' gradient; None for none, as DARTS; P-DARTS 5", optional=True),
    "search.collapse_skip_share": _number(0.25, 0.0, 1.0, "share of skip_connects among a normal cell's connections above which, from two on, its search counts as collapsed: more than two of eight, as P-DARTS allows and where DARTS+ stops; other sizes in proportion, our choice"),
    "search.collapse_entropy": _number(0.99, 0.0, 1.0, "entropy of the alphas, as a share of the largest possible, below which they must have come in a stage; our choice"),
    "search.stop_on_collapse": _flag(False, "whether a search that counts as collapsed is stopped, instead of only reported; our choice"),

    "prune.rule": _choice("softmax", ("softmax", "gap", "random"), "which connections are weak; softmax: smallest softmax(alpha), our reading of 'prune out weak connections'; gap: what lies below the widest gap between alphas, after Fast progressive DARTS; random: a control"),
    "prune.fade": _number(0.0, 0.0, 1.0, "share of a stage in which what was pruned fades, instead of being cut; our choice, after Fast progressive DARTS"),
    "prune.edge_threshold": _number(0.0, 0.0, 1.0, "weight that the second edge into a node must reach to be derived; 0 for any, DARTS; FairDARTS 0.85"),
    "prune.rounds": Field(None, tuple, "((share of the stage, operations kept per edge), ...), shares rising in (0, 1), counts falling, at least 2", _rounds, "when operations are pruned; None: the plan's own", optional=True),

    "network.channels": _integer(36, 2, "features of a node before the first reduction in the final network; DARTS, on ImageNet 48", 4096),
    "network.layers": _integer(20, 3, "cells of the final network; DARTS, on ImageNet 14", 200),
    "network.stem": _choice("cifar", ("cifar", "imagenet"), "one convolution, or three that divide the resolution by 8"),
    "network.dtype": _choice("float32", ("float32", "bfloat16"), "of the computation; parameters, statistics of batch norms, losses and optimizers stay float32; our choice"),
    "network.activation": _choice("relu", ("relu", "lif"), "before convolutions; lif: leaky integrate-and-fire neurons, which spike; MA-DARTS, with constants of our choice"),
    "network.time_steps": _integer(2, 1, "of spiking neurons; MA-DARTS 2", 64),
    "network.cell_attention": _flag(False, "whether the output of every cell is scaled by an attention over its channels; MA-DARTS"),
    "network.batch_norm_group": _integer(None, 2, "images whose batch norms' statistics are taken together; None: the whole batch, over all devices, as DARTS; groups that lie on one device need no communication (Hoffer et al. 2017)", 65536, optional=True),
    "network.remat": _flag(False, "whether the backward pass computes the inside of every cell anew, which saves memory and costs time; our choice"),
    "network.depthwise": _choice("auto", ("auto", "shifts", "conv"), "depthwise convolutions as shifted multiply-adds or by XLA's convolution; auto: shifts on the CPU"),
    "network.edges": _choice("auto", ("auto", "scan", "star", "unroll"), "how cells are computed; scan: mixed ones edge by edge in a loop; star: all edges that leave a state at once; unroll: as DARTS writes them; auto: scan on the CPU, star elsewhere"),

    "train.epochs": _integer(600, 1, "DARTS, on ImageNet 250"),
    "train.init_from": _text(None, "workdir of a trained network, or its URL, whose weights the training starts from, with the same genotype and network; None for random ones, DARTS", optional=True),
    "train.batch_size": _integer(96, 2, "DARTS", 65536),
    "train.learning_rate": _number(0.025, 1e-9, 100.0, "peak; DARTS"),
    "train.schedule": _choice("cosine", ("cosine", "linear"), "decay to zero; DARTS cosine; linear: by epoch, as the code of P-DARTS on ImageNet"),
    "train.warmup_epochs": _integer(0, 0, "epochs of linear rise to the peak; DARTS 0, P-DARTS on ImageNet 5"),
    "train.momentum": _number(0.9, 0.0, 0.9999, "DARTS"),
    "train.weight_decay": _number(3e-4, 0.0, 1.0, "L2; DARTS, on ImageNet 3e-5"),
    "train.gradient_clip": _number(5.0, 1e-6, 1e9, "global norm; DARTS"),
    "train.label_smoothing": _number(0.0, 0.0, 0.99, "DARTS 0, on ImageNet 0.1"),
    "train.class_weights": Field(None, (str, tuple), "balanced, a tuple with a number from 1e-06 to 1e+06 for every class", _class_weights, "of an image's loss by its class, in search and training; balanced: all classes count alike, by their numbers of images in the train split; None for equal ones, DARTS", optional=True),
    "train.auxiliary_weight": _number(0.4, 0.0, 10.0, "of the auxiliary head's loss, 0 for none; DARTS"),
    "train.drop_path": _number(0.2, 0.0, 0.99, "probability of dropping an edge, rising from 0 by epoch; DARTS, on ImageNet 0"),
    "train.ema": _number(0.0, 0.0, 0.99999, "decay per step of an average of weights and statistics, which is tested in their place; smaller at first, step / (step + 9); 0 for none, DARTS"),
    "train.cutout": _integer(16, 0, "side of the square blanked in every image, pixels, 0 for none; DARTS, on ImageNet 0", 1024),
    "train.steps_per_chunk": _integer(100, 1, "steps taken in one call of the device", 100_000),

    "checkpoint.interval": _number(300.0, 0.0, 1e9, "seconds between checkpoints; 0: after every chunk"),
    "checkpoint.keep": _integer(2, 1, "checkpoints kept", 1000),

    "recovery.retries": _integer(3, 0, "how often a run goes back to its last good checkpoint, with another order of data, when numbers are no longer finite; our choice", 1000),

    "profile": _flag(False, "whether the first chunk of every stage and of the training is traced into DIR/profile, for XProf or TensorBoard; our choice"),
}
# fmt: on


# Under configs/ in a checkout; an installed package has those very files inside it.
_INSIDE = pathlib.Path(__file__).with_name("configs")
PRESETS = _INSIDE if _INSIDE.is_dir() else pathlib.Path(__file__).parents[1] / "configs"


def presets() -> dict[str, pathlib.Path]:
  """The files of the presets, by name."""
  return {path.stem: path for path in sorted(PRESETS.glob("*.py"))}


def get_config(preset: str | None = None) -> ml_collections.ConfigDict:
  """A config of its own: the defaults, or a preset, under the name that config files use for theirs.

  Args:
    preset: such as "digits", or "cifar10:quarter_hour" for one that has variants; None for the defaults.

  Raises:
    UsageError: where there is no such preset or variant.
  """
  if preset is not None:
    name, colon, variant = preset.partition(":")
    if name not in presets():
      raise UsageError(f"config: {short(preset)}; allowed are {', '.join(presets())}")
    return of_file(presets()[name], variant if colon else None)
  config = ml_collections.ConfigDict()
  for name, field in FIELDS.items():
    *groups, leaf = name.split(".")
    node = config
    for group in groups:
      if group not in node:
        node[group] = ml_collections.ConfigDict()
      node = node[group]
    # A placeholder takes None and values of its kind, whichever of them it has; of several kinds it takes any value.
    several = isinstance(field.kind, tuple)
    placed = config_dict.placeholder(object if several else field.kind)
    node[leaf] = placed if several or field.optional else field.default
    if field.default is not None:
      node[leaf] = field.default
  return config.lock()


def image_shape(config: ml_collections.ConfigDict) -> tuple[int, int, int]:
  """Height, width and channels of images as a network sees them."""
  size = config.data.image_size
  height, width = (size, size) if isinstance(size, int) else size
  return height, width, config.data.channels


def of_file(path: pathlib.Path, variant: str | None = None) -> ml_collections.ConfigDict:
  """What the `get_config()` of a Python file returns, which is given the variant where there is one.

  Raises:
    UsageError: where it has no such function, or one that knows no variants or returns something else.
  """
  get = runpy.run_path(str(path)).get("get_config")
  if not callable(get):
    raise UsageError(f"config: {path} has no get_config(); allowed is a Python file with one")
  if variant is not None and not inspect.signature(get).parameters:
    raise UsageError(f"config: {short(f'{path.stem}:{variant}')}; allowed is {path.stem} alone, which has no variants")
  config = get() if variant is None else get(variant)
  if not isinstance(config, ml_collections.ConfigDict):
    raise UsageError(f"config: {path}: get_config() returns {short(config)}; allowed is a ConfigDict")
  return config


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Dotted names to values; tuples as lists, so that it equals what JSON gives back."""
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f"{name}.{k}": v for k, v in flatten(value).items()}
    else:
      flat[name] = _lists(value)
  return flat


def _lists(value: Any) -> Any:
  return [_lists(v) for v in value] if isinstance(value, (tuple, list)) else value


def unflatten(flat: dict[str, Any]) -> ml_collections.ConfigDict:
  """The config that `flatten` made a flat one of; whether its fields go together is left to `validate`.

  Raises:
    UsageError: for the first field that is unknown, of a wrong type or out of range.
  """
  for name, value in flat.items():
    check_name(name)
    _check_value(name, value)
  config = get_config()
  for name, value in flat.items():
    node = config
    *groups, leaf = name.split(".")
    for group in groups:
      node = node[group]
    with node.ignore_type():
      node[leaf] = _tuples(value)
  return config


RENAMED = {
  "search.updates_per_dispatch": "search.steps_per_chunk",
  "train.updates_per_dispatch": "train.steps_per_chunk",
}


# Fields that came later; what was written before them did without.
ADDED = (
  "space.name",
  "space.blocks",
  "space.sections",
  "space.head",
  "plan.unit",
  "data.labels",
  "data.train_split",
  "data.test_split",
  "data.image_key",
  "data.label_key",
  "plan.window",
  "train.ema",
  "train.class_weights",
  "train.init_from",
  "search.gate",
  "search.temperatures",
  "search.perturbation",
  "search.perturbed_by",
  "search.layer_alignment",
  "search.edge_weights",
  "search.partial_channels",
  "search.channel_choice",
  "search.auxiliary_skip",
  "search.penalties",
  "search.budget",
  "search.costs",
  "search.measured_batches",
  "search.price_rate",
  "search.sample_weight_exponent",
  "search.hypergradient",
  "search.neumann_terms",
  "prune.fade",
  "prune.edge_threshold",
  "network.activation",
  "network.time_steps",
  "network.cell_attention",
)


def complete(flat: dict[str, Any]) -> dict[str, Any]:
  """A flat config that an earlier version may have written, with the names and fields of this one."""
  flat = {RENAMED.get(name, name): value for name, value in flat.items()}
  flat = {**{name: FIELDS[name].default for name in ADDED}, **flat}
  if isinstance(flat.get("data.flip"), bool):
    flat["data.flip"] = "random" if flat["data.flip"] else "none"
  if "data.augmentation" in flat:
    return flat
  streamed, folder = flat.get("data.loading") == "stream", flat.get("data.name") == "folder"
  missing = {
    "data.split_seed": flat.get("seed") if folder else 0,
    "data.augmentation": "inception" if streamed else "cifar",
    "data.test_view": "centre" if streamed else "whole",
  }
  return {**flat, **missing, **({"data.crop_padding": 0} if streamed else {})}


def add_choice(name: str, value: str) -> None:
  """Allows another value of a field, as a file does that adds a row to one of the tables of the search.

  Args:
    name: dotted name of a field, such as "search.gate".
    value: what is allowed besides.

  Raises:
    UsageError: where there is no such field.
  """
  check_name(name)
  field = FIELDS[name]
  check = lambda v: v == value or field.check(v)
  FIELDS[name] = dataclasses.replace(field, allowed=f"{field.allowed}, {value}", check=check)


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_name(name: str) -> None:
  """Checks that a dotted name is that of a field.

  Raises:
    UsageError: where it is not.
  """
  if name in FIELDS:
    return
  group = name.rpartition(".")[0]
  known = [f for f in FIELDS if group and f.rpartition(".")[0] == group] or sorted(
    {f.partition(".")[0] for f in FIELDS}
  )
  raise UsageError(f"config.{name}: unknown field; allowed are {', '.join(known)}")


PHASES = ("search", "train")
# Beginnings of the names of fields that the test of a trained network uses, and of those that decide its cost.
_TESTED = ("name", "dir", "labels", "image_key", "label_key", "loading", "workers", "test_view", "skip_bad_files")
_SPLIT = ("split_seed", "train_split", "test_split", "validation_fraction")
TEST_FIELDS = tuple(f"data.{name}" for name in (*_TESTED, *_SPLIT))
COST_FIELDS = ("space.", "data.image_size", "data.channels", "data.num_classes", "network.", "train.auxiliary_weight")


def validate(
  config: ml_collections.ConfigDict, phases: Sequence[str] = PHASES, fields: tuple[str, ...] = ("",)
) -> None:
  """Checks the fields that are used, and those that depend on each other.

  Args:
    config: the config.
    phases: of a run that it is for.
    fields: beginnings of the names of the fields that are used.

  Raises:
    UsageError: for the first field that is unknown, missing, of a wrong type or out of range.
  """
  flat = flatten(config)
  for name in flat:
    check_name(name)
  for name, field in FIELDS.items():
    if not name.startswith(fields):
      continue
    if name not in flat:
      raise UsageError(f"config.{name}: missing; allowed are {field.allowed}")
    _check_value(name, flat[name])
  for name, wrong, allowed in _together(config, phases):
    if wrong and name.startswith(fields):
      raise UsageError(f"config.{name}: {short(flat[name])}; allowed {allowed}")


def _check_value(name: str, value: Any) -> None:
  field = FIELDS[name]
  if value is None and field.optional:
    return
  if (
    not isinstance(value, field.kinds) or (isinstance(value, bool) and field.kind is not bool) or not field.check(value)
  ):
    raise UsageError(
      f"config.{name}: {short(value)}; allowed are {field.allowed}{' or None' if field.optional else ''}"
    )


CHAIN_PLANS = ("lfr_darts", "joint", "per_section")
# Fields of which chains know one value alone.
OF_CELLS = {
  "plan.window": None,
  "search.layer_alignment": 0,
  "search.edge_weights": False,
  "search.partial_channels": 1,
  "search.auxiliary_skip": False,
  "network.activation": "relu",
  "network.cell_attention": False,
  "network.stem": "cifar",
  "train.auxiliary_weight": 0,
}


def _together(config: ml_collections.ConfigDict, phases: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
  """What fields that depend on each other are held to in these phases: a field, whether it is wrong, and what is allowed.

  Rows of a phase may count on fields that are each for itself valid.
  """
  data, search, network, train = config.data, config.search, config.network, config.train
  folder, digits, streamed = data.name == "folder", data.name == "digits", data.loading == "stream"
  plan, mobile, inception = config.plan.name, config.space.name == "mobile", data.augmentation == "inception"
  group, searched, trained = network.batch_norm_group, search.batch_size, train.batch_size
  because = lambda name: f"as config.{name} is {config[name.split('.')[0]][name.split('.')[1]]}"
  on_device = f"{because('data.loading')}, where all images have one size already"
  no_features, colours = f"is None, {because('data.name')}, which has no features", f"is 0, {because('data.loading')}"
  no_groups, fewest = f"is None, {because('network.activation')}", "are 5 or more, one for every cell of the plan"
  flat, labelled = flatten(config), f"is None, {because('data.name')}"
  # fmt: off
  yield from [
    ("data.dir", folder and not data.dir, "is a folder that holds train/<class>/*, or <class>/*, as config.data.name is folder"),
    ("data.labels", not folder and data.labels is not None, labelled),
    ("data.train_split", digits and data.train_split is not None, labelled),
    ("data.test_split", digits and data.test_split is not None, labelled),
    ("data.loading", streamed and digits, f"is device, {because('data.name')}"),
    ("data.validation_fraction", streamed and data.validation_fraction, f"is 0, {because('data.loading')}"),
    ("data.augmentation", not streamed and inception, f"is cifar, {on_device}"),
    ("data.test_view", not streamed and data.test_view != "whole", f"is whole, {on_device}"),
    ("data.crop_padding", inception and data.crop_padding, f"is 0, {because('data.augmentation')}"),
    ("data.image_key", (folder or digits) and data.image_key is not None, no_features),
    ("data.label_key", (folder or digits) and data.label_key is not None, no_features),
    ("data.flip", streamed and data.flip == "alternating", f"are random, none, {because('data.loading')}"),
    ("data.jitter", not streamed and data.jitter, f"{colours}, where colours stay"),
    ("data.hue", not streamed and data.hue, f"{colours}, where colours stay"),
  ]
  if phases:
    yield from [
      ("network.batch_norm_group", group and network.activation == "lif", no_groups),
      *((name, mobile and flat[name] != value, f"is {value}, {because('space.name')}") for name, value in OF_CELLS.items()),
    ]
  if "search" in phases:
    yield from [
      ("search.min_learning_rate", search.min_learning_rate > search.learning_rate, f"are numbers up to config.search.learning_rate, {search.learning_rate}"),
      ("search.partial_channels", search.channels % search.partial_channels, f"are divisors of config.search.channels, {search.channels}"),
      ("search.partial_channels", search.partial_channels > 1 and search.gate == "sigmoid", f"is 1, {because('search.gate')}, whose weights say nothing of what passes by"),
      ("search.channel_choice", search.channel_choice != "first" and search.partial_channels == 1, f"is first, {because('search.partial_channels')}"),
      ("search.costs", not search.costs and "latency" in dict(search.budget), "is a file that benchmarks/latency.py wrote, as config.search.budget has latency"),
      ("search.price_rate", search.price_rate and not search.budget, "is 0, as config.search.budget is ()"),
      ("search.measured_batches", search.measured_batches and not mobile, f"is 0, {because('space.name')}"),
      ("search.budget", search.budget and plan == "pdarts", f"is (), {because('plan.name')}, which bounds skip_connects instead"),
      ("search.budget", search.budget and config.prune.edge_threshold, f"is (), {because('prune.edge_threshold')}"),
      ("plan.name", mobile and plan not in CHAIN_PLANS, f"are {', '.join(CHAIN_PLANS)}, {because('space.name')}"),
      ("plan.name", not mobile and plan == "per_section", f"are lfr_darts, darts, pdarts, joint, per_layer, {because('space.name')}"),
      ("search.gate", mobile and search.gate == "gumbel", f"is another, {because('space.name')}: the batch norm behind a sampled layer hides its scale, so that no gradient reaches its alphas; sampled is meant for chains"),
      ("search.layer_alignment", search.layer_alignment and plan == "lfr_darts" and config.plan.searched_copies < 2, f"is 0, {because('plan.searched_copies')} and one layer has nothing to agree with"),
      ("search.layer_alignment", search.layer_alignment and plan == "per_layer", f"is 0, {because('plan.name')}, where no layers share alphas"),
      ("search.layers", plan in ("joint", "per_layer") and not mobile and search.layers < 5, fewest),
      ("network.batch_norm_group", group and searched % group, f"are divisors of config.search.batch_size, {searched}"),
    ]
  if "train" in phases:
    yield from [
      ("network.batch_norm_group", group and trained % group, f"are divisors of config.train.batch_size, {trained}"),
      ("train.cutout", train.cutout > 2 * max(image_shape(config)[:2]), f"are at most twice config.data.image_size, {data.image_size}"),
      ("train.warmup_epochs", train.warmup_epochs >= train.epochs, f"are fewer than config.train.epochs, {train.epochs}"),
    ]
  if {"search", "train"} <= {*phases}:
    where = "is None, where a search chooses the network; --mode=train trains that of the directory"
    yield "train.init_from", train.init_from is not None, where
  if {"search", "train"} <= {*phases} and not mobile:
    yield from [
      ("network.layers", plan in ("lfr_darts", "joint") and network.layers < 5, fewest),
      ("network.layers", plan == "per_layer" and network.layers != search.layers, f"is config.search.layers, {search.layers}, since every layer has a cell of its own"),
    ]
  # fmt: on
