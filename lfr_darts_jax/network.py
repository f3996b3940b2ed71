"""Stem, layers and heads: the supernet and the final network are one module with different cells and settings."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax import genotype
from lfr_darts_jax.cell import Cell
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.initializers import kernel_init
from lfr_darts_jax.norm import WHOLE_BATCH
from lfr_darts_jax.norm import Batching
from lfr_darts_jax.norm import batch_norm
from lfr_darts_jax.operations import convolution

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
    stem: "cifar" (one convolution) or "imagenet" (three strided ones, an eighth of the resolution).
    searching: see `operations.Operation`.
    auxiliary: whether there is an auxiliary head after the last reduction cell (computed in training only).
    edges: see `Cell`; "auto" takes "scan" on the CPU.
    depthwise: see `operations.Operation`.
    remat: whether the backward pass computes the inside of every cell anew instead of keeping it; where mixed cells
      loop over their edges, derived ones of a supernet then do too.
    dtype: "bfloat16" to compute in it, else in the type of the images; parameters, statistics and logits keep theirs.
    batching: see `norm.Batching`.
    conditional: see `Cell`.
  """

  layout: tuple[str, ...]
  cells: tuple[genotype.Cell, ...]
  operations: tuple[str, ...]
  channels: int
  num_classes: int
  stem: str = "cifar"
  searching: bool = False
  auxiliary: bool = False
  edges: str = "auto"
  depthwise: str = "auto"
  remat: bool = False
  dtype: str = "float32"
  batching: Batching = WHOLE_BATCH
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    mixtures: dict[str, jax.Array] | None = None,
    train: bool = False,
    drop_path: jax.Array | None = None,
    skip_dropout: jax.Array | None = None,
  ) -> Outputs:
    """Classifies images.

    Args:
      images: `[batch, height, width, channels]`, normalised.
      mixtures: `[edges, operations]` for every cell that is mixed.
      train: whether batch norms use and update the batch's statistics, and the auxiliary head is computed.
      drop_path: see `Cell`; needs the rng "dropout".
      skip_dropout: see `MixedOp`; needs the rng "dropout".
    """
    cells = {cell.name: cell for cell in self.cells}
    last_reduction = max(
      (i for i, name in enumerate(self.layout) if cells[name].kind == genotype.REDUCTION), default=-1
    )
    if self.dtype == "bfloat16":
      images = images.astype(jnp.bfloat16)
    if self.stem == "cifar":
      x = convolution(STEM_MULTIPLIER * self.channels, (3, 3), padding=1, name="stem")(images)
      before = previous = batch_norm(x, train, self.batching, name="stem_norm")
      reduced = False
    else:
      before, previous = ImagenetStem(self.channels, self.batching, name="stem")(images, train)
      reduced = True
    channels, auxiliary = self.channels, None
    for i, name in enumerate(self.layout):
      reducing = cells[name].kind == genotype.REDUCTION
      channels *= 2 if reducing else 1
      mixture = (mixtures or {}).get(name)
      looped = loops(self.edges) and (mixture is not None or (self.remat and self.searching))
      # A loop over edges recomputes by itself; other recomputation XLA's CPU backend takes for repetition and undoes.
      cell_class = nn.remat(Cell, static_argnums=(4,)) if self.remat and not looped else Cell
      how = "scan" if looped else "unroll"
      settings = channels, reduced, self.searching, self.operations, how, self.depthwise, self.batching
      cell = cell_class(cells[name], *settings, self.conditional, name=f"layer_{i}")
      before, previous = previous, cell(before, previous, mixture, train, drop_path, skip_dropout)
      reduced = reducing
      if self.auxiliary and i == last_reduction and (train or self.is_initializing()):
        norm_last = self.stem == "cifar"
        auxiliary = AuxiliaryHead(self.num_classes, norm_last, self.batching, name="auxiliary")(previous, train)
    features = jnp.mean(_at_least_float32(previous), axis=(1, 2))
    return Outputs(nn.Dense(self.num_classes, kernel_init=kernel_init, name="classifier")(features), auxiliary)

  def layer_features(self, image_size: int) -> list[tuple[int, int]]:
    """Of every layer's output: height and width in pixels, and features.

    Args:
      image_size: height and width of the images, pixels.
    """
    cells = {cell.name: cell for cell in self.cells}
    halved = lambda size: -(-size // 2)
    size, channels = image_size, self.channels
    if self.stem == "imagenet":
      size = halved(halved(halved(size)))
    features = []
    for name in self.layout:
      if cells[name].kind == genotype.REDUCTION:
        size, channels = halved(size), 2 * channels
      features.append((size, channels * len(cells[name].concat)))
    return features


class ImagenetStem(nn.Module):
  """DARTS's ImageNet stem: the first layer sees a quarter of the resolution from two before, an eighth from before."""

  channels: int
  batching: Batching

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    x = images
    outputs = []
    for i, (features, relu_first) in enumerate(
      ((self.channels // 2, False), (self.channels, True), (self.channels, True))
    ):
      x = nn.relu(x) if relu_first else x
      x = convolution(features, (3, 3), strides=2, padding=1, name=f"conv_{i}")(x)
      x = batch_norm(x, train, self.batching)
      outputs.append(x)
    return outputs[1], outputs[2]


class AuxiliaryHead(nn.Module):
  """DARTS's auxiliary classifier: average pooling to 2x2, then a 1x1, a 2x2 and a dense layer.

  DARTS pools 8x8 images by 5 with stride 3, and 7x7 ones by 5 with stride 2; other sizes follow the same pattern.

  Attributes:
    num_classes: size of the output.
    norm_last: batch norm after the second convolution; DARTS's ImageNet head lacks it.
    batching: see `norm.Batching`.
  """

  num_classes: int
  norm_last: bool
  batching: Batching

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    sizes = x.shape[1:3]
    window = tuple(min(max(5, n // 2 + 1), n - 1) for n in sizes)
    stride = tuple(n - w for n, w in zip(sizes, window, strict=False))
    x = nn.avg_pool(nn.relu(x), window, stride)
    x = nn.relu(batch_norm(convolution(128, (1, 1))(x), train, self.batching))
    x = convolution(768, (2, 2), padding="VALID")(x)
    x = nn.relu(batch_norm(x, train, self.batching) if self.norm_last else x)
    return nn.Dense(self.num_classes, kernel_init=kernel_init)(_at_least_float32(x.reshape(x.shape[0], -1)))


def _at_least_float32(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def loops(edges: str) -> bool:
  """Whether mixed cells loop over their edges, by `network.edges`: see `Network`."""
  return edges == "scan" or (edges == "auto" and jax.default_backend() == "cpu")


def supernet(
  config: ml_collections.ConfigDict,
  layout: tuple[str, ...],
  cells: tuple[genotype.Cell, ...],
  conditional: bool = False,
) -> Network:
  """The supernet of one iteration.

  Args:
    config: the config.
    layout: its layers.
    cells: their candidates.
    conditional: see `Cell`.

  Raises:
    UsageError: see `check_resolution`.
  """
  check_resolution(config, layout, cells)
  return Network(
    layout,
    cells,
    tuple(config.search.operations),
    config.search.channels,
    config.data.num_classes,
    stem=config.network.stem,
    searching=True,
    edges=config.network.edges,
    depthwise=config.network.depthwise,
    remat=config.network.remat,
    dtype=config.network.dtype,
    batching=Batching(group=config.network.batch_norm_group),
    conditional=conditional,
  )


def final_network(config: ml_collections.ConfigDict, cells: genotype.Genotype) -> Network:
  """The network that is trained from scratch: `network.layers` derived cells.

  Raises:
    UsageError: see `check_resolution`, and where the layers can't hold the genotype's cells.
  """
  layout = cells.layout(config.network.layers)
  auxiliary = config.train.auxiliary_weight > 0
  check_resolution(config, layout, cells.cells, auxiliary)
  return Network(
    layout,
    cells.cells,
    tuple(config.search.operations),
    config.network.channels,
    config.data.num_classes,
    stem=config.network.stem,
    auxiliary=auxiliary,
    edges=config.network.edges,
    depthwise=config.network.depthwise,
    remat=config.network.remat,
    dtype=config.network.dtype,
    batching=Batching(group=config.network.batch_norm_group),
  )


def check_resolution(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[genotype.Cell, ...], auxiliary: bool = False
) -> None:
  """Checks that every reduction still has an image to halve.

  Raises:
    UsageError: where `data.image_size` does not bear the layout's reductions, or the auxiliary head after them.
  """
  reductions = sum(cell.kind == genotype.REDUCTION for name in layout for cell in cells if cell.name == name)
  halvings = reductions + (3 if config.network.stem == "imagenet" else 0)
  # The last reduction needs two pixels to halve, and the auxiliary head needs two behind it.
  needed = 2 ** (halvings - 1) + 1 if not auxiliary or not reductions else 2**halvings + 1
  if halvings and config.data.image_size < needed:
    raise UsageError(
      f"config.data.image_size: {config.data.image_size}; {reductions} reductions"
      f"{' and the auxiliary head' if auxiliary else ''} behind the {config.network.stem} stem allow "
      f"{needed} or more"
    )
