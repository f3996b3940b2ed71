"""Configs: made from `fields.FIELDS` and presets, as flat dictionaries, and whether their fields go together.

Presets, the files under `configs/`, hold overrides only.
"""

from collections.abc import Iterator, Sequence
import inspect
import pathlib
import runpy
from typing import Any

import ml_collections
from ml_collections import config_dict

from lfr_darts_jax.errors import UsageError, short
from lfr_darts_jax.fields import FIELDS, check_name, check_value

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
    check_value(name, value)
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


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


PHASES = ("search", "train")
# Beginnings of the names of fields that the test of a trained network uses, and of those that decide its cost.
_TESTED = ("name", "dir", "labels", "image_key", "label_key", "loading", "workers", "test_view", "skip_bad_files")
_SPLIT = ("split_seed", "train_split", "test_split", "validation_fraction")
TEST_FIELDS = tuple(f"data.{name}" for name in (*_TESTED, *_SPLIT))
BUDGET_FIELDS = ("search.budget", "search.costs", "network.")
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
    check_value(name, flat[name])
  for name, wrong, allowed in _together(config, phases):
    if wrong and name.startswith(fields):
      raise UsageError(f"config.{name}: {short(flat[name])}; allowed {allowed}")


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
