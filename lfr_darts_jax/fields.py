"""Every field of the config: its default, what it may be, and where the default comes from.

The defaults are DARTS's protocol on CIFAR-10, with the plan of the paper; the note says what is ours.
"""

from collections.abc import Callable
import dataclasses
import re
from typing import Any

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


def _rows(value: Any, *checks: Callable[[Any], bool]) -> bool:
  """Whether all rows are tuples with one entry for every check, which it passes."""
  return all(
    isinstance(row, (tuple, list))
    and len(row) == len(checks)
    and all(check(entry) for check, entry in zip(checks, row, strict=True))
    for row in value
  )


PENALTY_NAMES, RAMP_NAMES = ("beta", "zero_one", "polarization", "complexity"), ("constant", "linear")
UNITS = ("multiply_adds", "parameters", "latency")


def _penalties(value: Any) -> bool:
  weight = lambda v: type(v) in (int, float) and 0 <= v <= 1e6
  return _rows(value, lambda v: v in PENALTY_NAMES, weight, lambda v: v in RAMP_NAMES)


def _image_size(value: Any) -> bool:
  sides = (value, value) if isinstance(value, int) else value
  return len(sides) == 2 and all(type(side) is int and 4 <= side <= 1024 for side in sides)


def _class_weights(value: Any) -> bool:
  if isinstance(value, str):
    return value == "balanced"
  return len(value) >= 2 and all(type(weight) in (int, float) and 1e-6 <= weight <= 1e6 for weight in value)


def _budget(value: Any) -> bool:
  limit = lambda v: type(v) in (int, float) and 0 < v < 1e18
  return _rows(value, lambda v: v in UNITS, limit) and len({unit for unit, _ in value}) == len(value)


def _sections(value: Any) -> bool:
  whole = lambda high: lambda v: type(v) is int and 1 <= v <= high
  return len(value) >= 1 and _rows(value, whole(32), whole(256), lambda v: v in (1, 2))


def _blocks(value: Any) -> bool:
  named = [isinstance(name, str) and bool(re.fullmatch("mb[1-9]_k[357]", name)) for name in value]
  return bool(named) and all(named) and len(set(value)) == len(value)


def _rounds(value: Any) -> bool:
  share, count = lambda v: type(v) is float and 0 < v < 1, lambda v: type(v) is int and v >= 2
  if not _rows(value, share, count):
    return False
  shares, counts = [r[0] for r in value], [r[1] for r in value]
  return shares == sorted(shares) and counts == sorted(counts, reverse=True)


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


def check_value(name: str, value: Any) -> None:
  """Checks a value by itself.

  Args:
    name: dotted name of a field.
    value: of it.

  Raises:
    UsageError: where it is of a wrong type or out of range.
  """
  field = FIELDS[name]
  if value is None and field.optional:
    return
  if (
    not isinstance(value, field.kinds) or (isinstance(value, bool) and field.kind is not bool) or not field.check(value)
  ):
    raise UsageError(
      f"config.{name}: {short(value)}; allowed are {field.allowed}{' or None' if field.optional else ''}"
    )
