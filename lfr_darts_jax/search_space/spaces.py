"""What the config says of a search space: its candidates, and the layers of a chain.

"cells" is DARTS's: graphs of operations, laid out in depth. "mobile" is a chain of layers, each a choice among inverted
residual blocks (Sandler et al., CVPR 2018) and the identity; NAS-Bench-Macro (Su et al., CVPR 2021) is one of these.
"""

from typing import NamedTuple

import ml_collections

from lfr_darts_jax.search_space.operation_names import IDENTITY

CELLS, MOBILE = "cells", "mobile"


def operations(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Names of the candidates of every edge, or of every layer."""
  return (IDENTITY, *config.space.blocks) if config.space.name == MOBILE else tuple(config.search.operations)


class Layer(NamedTuple):
  """A layer of a chain: the number of its section, its features as a multiple of the stem's, and its stride."""

  section: int
  width: int
  stride: int


def layers(config: ml_collections.ConfigDict) -> tuple[Layer, ...]:
  """The layers of the chain, shallow to deep; the first of a section has its stride."""
  return tuple(
    Layer(i, width, stride if position == 0 else 1)
    for i, (depth, width, stride) in enumerate(config.space.sections)
    for position in range(depth)
  )
