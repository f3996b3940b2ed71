"""Stem, layers and heads: the supernet and the final network are one module with different cells and settings."""

import functools
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models import edge_stacks, partial
from lfr_darts_jax.models.cell import NO_RATES, Cell, Rates
from lfr_darts_jax.models.cell_scan import ScanCell
from lfr_darts_jax.models.cell_star import StarCell
from lfr_darts_jax.models.layers.conv import convolution
from lfr_darts_jax.models.layers.init import kernel_init
from lfr_darts_jax.models.layers.norm import batch_norm
from lfr_darts_jax.models.layers.spiking import leaky_integrate_and_fire
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.models.partial import PartialChannels
from lfr_darts_jax.runtime import target
from lfr_darts_jax.runtime.distributed import BatchSharding
from lfr_darts_jax.search_space.cell_spec import REDUCTION, CellSpec
from lfr_darts_jax.search_space.genotype import Genotype

STEM_MULTIPLIER = 3  # DARTS: the CIFAR stem is three times as wide as the first node.


class Outputs(NamedTuple):
  """Logits `[batch, classes]` of the classifier, and of the auxiliary head where there is one."""

  logits: jax.Array
  auxiliary: jax.Array | None


class Network(nn.Module):
  """A layout of cells between a stem and a classifier.

  Attributes:
    layout: names of the layers' cells, shallow to deep.
    cells: the cells that the layout names.
    operations: names of the columns of every mixture.
    channels: features of a node before the first reduction; doubled by every reduction.
    num_classes: size of the output.
    settings: how layers compute.
    stem: "cifar" (one convolution) or "imagenet" (three strided ones, an eighth of the resolution).
    auxiliary: whether there is an auxiliary head after the last reduction cell (computed in training only).
    edges: the form of cells: "unroll" is `cell.Cell`; "scan" `cell_scan.ScanCell`, where they are mixed; "star"
      `cell_star.StarCell`; "auto" takes "scan" on the CPU and "star" elsewhere.
    remat: whether the backward pass computes the inside of every cell anew instead of keeping it; where mixed cells
      loop over their edges, derived ones of a supernet then do too.
    dtype: "bfloat16" to compute in it, else in the type of the images; parameters, statistics and logits keep theirs.
    skip_unweighted: see `ScanCell`.
    attention: whether every cell's output is scaled by an attention over its channels.
  """

  layout: tuple[str, ...]
  cells: tuple[CellSpec, ...]
  operations: tuple[str, ...]
  channels: int
  num_classes: int
  settings: LayerSettings = LayerSettings()
  stem: str = "cifar"
  auxiliary: bool = False
  edges: str = "auto"
  remat: bool = False
  dtype: str = "float32"
  skip_unweighted: bool = False
  attention: bool = False

  @nn.compact
  def __call__(
    self, images: jax.Array, mixtures: dict[str, jax.Array] | None = None, train: bool = False, rates: Rates = NO_RATES
  ) -> Outputs:
    """Classifies images.

    Args:
      images: `[batch, height, width, channels]`, normalised.
      mixtures: `[edges, operations]` for every cell that is mixed; of a layer, such as "layer_0", for it alone.
      train: whether batch norms use and update the batch's statistics, and the auxiliary head is computed.
      rates: of dropout.
    """
    chex.assert_rank(images, 4)
    cells = {cell.name: cell for cell in self.cells}
    last_reduction = max((i for i, name in enumerate(self.layout) if cells[name].kind == REDUCTION), default=-1)
    if self.dtype == "bfloat16":
      images = images.astype(jnp.bfloat16)
    sharding, steps = self.settings.sharding, self.settings.steps
    images = jnp.tile(images, (steps, 1, 1, 1)) if steps > 1 else images
    if self.stem == "cifar":
      x = convolution(STEM_MULTIPLIER * self.channels, (3, 3), padding=1, name="stem")(images)
      s0 = s1 = batch_norm(x, train, sharding, name="stem_norm")
      reduced = False
    else:
      s0, s1 = ImagenetStem(self.channels, sharding, name="stem")(images, train)
      reduced = True
    channels, auxiliary = self.channels, None
    for i, name in enumerate(self.layout):
      reducing = cells[name].kind == REDUCTION
      channels *= 2 if reducing else 1
      mixture = (mixtures or {}).get(f"layer_{i}", (mixtures or {}).get(name))
      cell = self._cell(cells[name], channels, reduced, mixture is not None, f"layer_{i}")
      s0, s1 = s1, self._attended(i, cell(s0, s1, mixture, train, rates))
      reduced = reducing
      if self.auxiliary and i == last_reduction and (train or self.is_initializing()):
        auxiliary = AuxiliaryHead(self.num_classes, self.stem == "cifar", sharding, name="auxiliary")(s1, train)
    features = jnp.mean(_at_least_float32(s1), axis=(1, 2))
    logits = nn.Dense(self.num_classes, kernel_init=kernel_init, name="classifier")(features)
    return Outputs(self._over_time(logits), None if auxiliary is None else self._over_time(auxiliary))

  def _over_time(self, x: jax.Array) -> jax.Array:
    """The mean over time steps, `[steps * batch, ...]` to `[batch, ...]`."""
    steps = self.settings.steps
    return x if steps == 1 else jnp.mean(x.reshape(steps, -1, *x.shape[1:]), axis=0)

  def _attended(self, layer: int, x: jax.Array) -> jax.Array:
    """A cell's output, its channels scaled by an attention over them where the network has one (after MA-DARTS)."""
    if not self.attention:
      return x
    kernel = self.param(f"attention_{layer}", partial.attention_init, (1, partial.attention_size(x.shape[-1])))[0]
    scale = partial.attention(self._over_time(_at_least_float32(x)), kernel)
    return (x * jnp.tile(scale, (self.settings.steps, 1))[:, None, None]).astype(x.dtype)

  def _cell(self, spec: CellSpec, channels: int, reduced: bool, mixed: bool, name: str) -> Cell:
    """The form of a layer's cell; all have the same variables."""
    settings = spec, channels, reduced, self.operations, self.settings
    form = "unroll" if self.is_initializing() else cell_form(self.edges)
    if form == "scan" and (mixed or (self.remat and self.settings.searching)):
      # A loop over edges recomputes by itself; other recomputation XLA's CPU backend takes for repetition and undoes.
      return ScanCell(*settings, self.skip_unweighted, name=name)
    cell_class: Any = StarCell if form == "star" else Cell
    cell_class = nn.remat(cell_class, static_argnums=(4,)) if self.remat else cell_class
    return (cell_class if form == "star" else _on_stacks(cell_class, spec))(*settings, name=name)

  def layer_features(self, height: int, width: int) -> list[tuple[int, int, int]]:
    """Of every layer's output: height and width in pixels, and features.

    Args:
      height, width: of the images, pixels.
    """
    cells = {cell.name: cell for cell in self.cells}
    halved = lambda size: tuple(-(-side // 2) for side in size)
    size, channels = (height, width), self.channels
    if self.stem == "imagenet":
      size = halved(halved(halved(size)))
    features = []
    for name in self.layout:
      if cells[name].kind == REDUCTION:
        size, channels = halved(size), 2 * channels
      features.append((*size, channels * len(cells[name].concat)))
    return features


def _on_stacks(cell_class: Any, spec: CellSpec) -> Any:
  """A class of cells with a subtree per edge, whose variables lie in the stacks of `edge_stacks`."""
  each = lambda of: lambda variables: {collection: of(spec, layer) for collection, layer in variables.items()}
  collections = ("params", "batch_stats")
  return nn.map_variables(cell_class, collections, each(edge_stacks.unstack), each(edge_stacks.stack), mutable=True)


class ImagenetStem(nn.Module):
  """DARTS's ImageNet stem: the first layer sees a quarter of the resolution from two before, an eighth from before."""

  channels: int
  sharding: BatchSharding

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    x = images
    outputs = []
    for i, (features, relu_first) in enumerate(
      ((self.channels // 2, False), (self.channels, True), (self.channels, True))
    ):
      x = nn.relu(x) if relu_first else x
      x = convolution(features, (3, 3), strides=2, padding=1, name=f"conv_{i}")(x)
      x = batch_norm(x, train, self.sharding)
      outputs.append(x)
    return outputs[1], outputs[2]


class AuxiliaryHead(nn.Module):
  """DARTS's auxiliary classifier: average pooling to 2x2, then a 1x1, a 2x2 and a dense layer.

  DARTS pools 8x8 images by 5 with stride 3, and 7x7 ones by 5 with stride 2; other sizes follow the same pattern.

  Attributes:
    num_classes: size of the output.
    norm_last: batch norm after the second convolution; DARTS's ImageNet head lacks it.
    sharding: see `LayerSettings`.
  """

  num_classes: int
  norm_last: bool
  sharding: BatchSharding

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    sizes = x.shape[1:3]
    window = tuple(min(max(5, n // 2 + 1), n - 1) for n in sizes)
    stride = tuple(n - w for n, w in zip(sizes, window, strict=False))
    x = nn.avg_pool(nn.relu(x), window, stride)
    x = nn.relu(batch_norm(convolution(128, (1, 1))(x), train, self.sharding))
    x = convolution(768, (2, 2), padding="VALID")(x)
    x = nn.relu(batch_norm(x, train, self.sharding) if self.norm_last else x)
    return nn.Dense(self.num_classes, kernel_init=kernel_init)(_at_least_float32(x.reshape(x.shape[0], -1)))


def _at_least_float32(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def cell_form(edges: str) -> str:
  """The form in which mixed cells are computed, by `network.edges`: see `Network`."""
  if target.is_any():
    return "unroll"
  return edges if edges != "auto" else "scan" if target.is_cpu() else "star"


def supernet(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[CellSpec, ...], skip_unweighted: bool = False
) -> Network:
  """The supernet of one stage.

  Args:
    config: the config.
    layout: its layers.
    cells: their candidates.
    skip_unweighted: see `ScanCell`.

  Raises:
    UsageError: see `check_resolution`.
  """
  check_resolution(config, layout, cells)
  fields = _fields(config, searching=True)
  return Network(layout, cells, channels=config.search.channels, skip_unweighted=skip_unweighted, **fields)


def final_network(config: ml_collections.ConfigDict, genotype: Genotype) -> Network:
  """The network that is trained from scratch: `network.layers` derived cells.

  Raises:
    UsageError: see `check_resolution`, and where the layers can't hold the genotype's cells.
  """
  layout = genotype.layout(config.network.layers)
  auxiliary = config.train.auxiliary_weight > 0
  check_resolution(config, layout, genotype.cells, auxiliary)
  fields = _fields(config, searching=False)
  return Network(layout, genotype.cells, channels=config.network.channels, auxiliary=auxiliary, **fields)


def _fields(config: ml_collections.ConfigDict, searching: bool) -> dict[str, Any]:
  """What both networks take from the config."""
  network = config.network
  sharding = BatchSharding(group=network.batch_norm_group)
  search = config.search
  part = PartialChannels(search.partial_channels, search.channel_choice == "attention")
  steps = network.time_steps if network.activation == "lif" else 1
  activation = functools.partial(leaky_integrate_and_fire, steps=steps) if network.activation == "lif" else nn.relu
  return {
    "operations": tuple(config.search.operations),
    "num_classes": config.data.num_classes,
    "settings": LayerSettings(searching, network.depthwise, sharding, activation, part, steps),
    "attention": network.cell_attention,
    "stem": network.stem,
    "edges": network.edges,
    "remat": network.remat,
    "dtype": network.dtype,
  }


def check_resolution(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[CellSpec, ...], auxiliary: bool = False
) -> None:
  """Checks that every reduction still has an image to halve.

  Raises:
    UsageError: where `data.image_size` does not bear the layout's reductions, or the auxiliary head after them.
  """
  reductions = sum(cell.kind == REDUCTION for name in layout for cell in cells if cell.name == name)
  halvings = reductions + (3 if config.network.stem == "imagenet" else 0)
  # The last reduction needs two pixels to halve, and the auxiliary head needs two behind it.
  needed = 2 ** (halvings - 1) + 1 if not auxiliary or not reductions else 2**halvings + 1
  if halvings and min(image_shape(config)[:2]) < needed:
    raise UsageError(
      f"config.data.image_size: {config.data.image_size}; {reductions} reductions"
      f"{' and the auxiliary head' if auxiliary else ''} behind the {config.network.stem} stem allow "
      f"{needed} or more"
    )
