"""The space "mobile": a stem, a chain of layers that each choose a block, and a head (NAS-Bench-Macro, section 4)."""

import math
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models.cell import CHOSEN, NO_RATES, Rates, drop
from lfr_darts_jax.models.cell_scan import MaskedMixedOp
from lfr_darts_jax.models.layers.conv import convolution, pointwise
from lfr_darts_jax.models.layers.depthwise import DepthwiseConv
from lfr_darts_jax.models.layers.init import kernel_init
from lfr_darts_jax.models.layers.norm import batch_norm
from lfr_darts_jax.models.network import Outputs
from lfr_darts_jax.models.operations import LayerSettings, Operation
from lfr_darts_jax.runtime.distributed import BatchSharding
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import CellSpec, GenotypeError
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.search_space.operation_names import block


class Identity(Operation):
  """What came in; a 1x1 convolution and a batch norm where resolution or features change."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if self.stride == 1 and x.shape[-1] == self.channels:
      return x
    return self.batch_norm(pointwise(self.channels)(x[:, :: self.stride, :: self.stride]), train)


class InvertedResidual(Operation):
  """MobileNetV2's block: 1x1, depthwise, 1x1, the input added where the shape stays (Sandler et al., figure 3).

  Attributes:
    expansion: features inside, as a multiple of the input's.
    size: of the depthwise kernel, pixels.
    drop_path: rate at which samples lose all but the input, in training; None for none.
  """

  expansion: int = 6
  size: int = 3
  drop_path: jax.Array | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = self.activate(self.batch_norm(pointwise(self.expansion * x.shape[-1])(x), train))
    y = DepthwiseConv(self.size, self.stride, method=self.settings.depthwise)(y)
    y = self.batch_norm(pointwise(self.channels)(self.activate(self.batch_norm(y, train))), train)
    if self.stride != 1 or x.shape[-1] != self.channels:
      return y
    if self.drop_path is not None and train:
      y = drop(y, self.drop_path, self.make_rng("dropout"), self.settings, per_sample=True)
    return x + y


class ChainLayer(MaskedMixedOp):
  """A layer: one of its candidates, or all of them weighted; see `MaskedMixedOp`."""

  def module(self, name: str, rates: Rates) -> Operation:
    """See `MixedOp`."""
    made, shape = (self.channels, self.stride, self.settings), block(name)
    if shape is None:
      return Identity(*made, name=name)
    return InvertedResidual(*made, *shape, drop_path=rates.path, name=name)


class Chain(nn.Module):
  """A chain of layers between a stem and a head; of a shallower one the first layers alone.

  Attributes:
    layout: names of the layers' cells, shallow to deep.
    cells: the cells that the layout names, of kind "layer".
    operations: names of the columns of every mixture.
    channels: features of the stem.
    num_classes: size of the output.
    geometry: section, width and stride of every layer of the whole chain.
    head: features before the classifier, as a multiple of the stem's.
    settings: how layers compute.
    dtype: see `Network`.
  """

  layout: tuple[str, ...]
  cells: tuple[CellSpec, ...]
  operations: tuple[str, ...]
  channels: int
  num_classes: int
  geometry: tuple[spaces.Layer, ...]
  head: int
  settings: LayerSettings = LayerSettings()
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, images: jax.Array, mixtures: dict[str, jax.Array] | None = None, train: bool = False, rates: Rates = NO_RATES
  ) -> Outputs:
    """Classifies images; arguments as of `Network`."""
    chex.assert_rank(images, 4)
    cells, sharding = {cell.name: cell for cell in self.cells}, self.settings.sharding
    x = images.astype(jnp.bfloat16) if self.dtype == "bfloat16" else images
    x = convolution(self.channels, (3, 3), padding=1, name="stem")(x)
    x = nn.relu(batch_norm(x, train, sharding, name="stem_norm"))
    for i, (name, layer) in enumerate(zip(self.layout, self.geometry, strict=False)):
      (candidates,), mixture = cells[name].candidates, (mixtures or {}).get(f"layer_{i}", (mixtures or {}).get(name))
      weights: Any = CHOSEN
      if mixture is not None:
        weights = mixture[0][jnp.array([self.operations.index(n) for n in candidates])]
      # Initial values are wanted of all candidates.
      mask = None if mixture is None or self.is_initializing() else weights > 0
      made = ChainLayer(candidates, layer.width * self.channels, layer.stride, self.settings, mask, name=f"layer_{i}")
      x = made(x, weights, train, rates)
    x = nn.relu(batch_norm(pointwise(self.head * self.channels, name="head")(x), train, sharding, name="head_norm"))
    features = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))
    return Outputs(nn.Dense(self.num_classes, kernel_init=kernel_init, name="classifier")(features), None)

  def layer_features(self, height: int, width: int) -> list[tuple[int, int, int]]:
    """See `Network.layer_features`."""
    strides = [layer.stride for layer in self.geometry]
    down = [math.prod(strides[: i + 1]) for i in range(len(self.layout))]
    layers = zip(down, self.geometry, strict=False)
    return [(-(-height // stride), -(-width // stride), layer.width * self.channels) for stride, layer in layers]


def supernet(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[CellSpec, ...], skip_unweighted: bool = False
) -> Chain:
  """The supernet of one stage; arguments as of `network.supernet`.

  Raises:
    UsageError: where `data.image_size` does not bear the strides.
  """
  return _chain(config, layout, cells, config.search.channels, searching=True)


def final_network(config: ml_collections.ConfigDict, genotype: Genotype) -> Chain:
  """The network that is trained from scratch.

  Raises:
    UsageError: as of `supernet`, and where the genotype is none of this chain.
  """
  depth = len(spaces.layers(config))
  if genotype.space != spaces.MOBILE or len(genotype.cells) != depth:
    raise GenotypeError(
      f"genotype: {len(genotype.cells)} {'layers' if genotype.space == spaces.MOBILE else 'cells'}; config.space "
      f"allows {depth} layers of a chain"
    )
  layout = tuple(cell.name for cell in genotype.cells)
  return _chain(config, layout, genotype.cells, config.network.channels, searching=False)


def _chain(
  config: ml_collections.ConfigDict,
  layout: tuple[str, ...],
  cells: tuple[CellSpec, ...],
  channels: int,
  searching: bool,
) -> Chain:
  strides = math.prod(layer.stride for layer in spaces.layers(config))
  if min(image_shape(config)[:2]) < strides:
    raise UsageError(
      f"config.data.image_size: {config.data.image_size}; the strides of config.space.sections allow {strides} or more"
    )
  network = config.network
  sharding = BatchSharding(group=network.batch_norm_group)
  return Chain(
    layout,
    cells,
    spaces.operations(config),
    channels,
    config.data.num_classes,
    spaces.layers(config),
    config.space.head,
    LayerSettings(searching, network.depthwise, sharding),
    network.dtype,
  )
