"""Names of the candidate operations, so that genotypes are read without JAX; `models` has their modules."""

import re

NONE, SKIP_CONNECT = "none", "skip_connect"
OPERATION_NAMES = (
  NONE,
  "max_pool_3x3",
  "avg_pool_3x3",
  SKIP_CONNECT,
  "sep_conv_3x3",
  "sep_conv_5x5",
  "sep_conv_7x7",
  "dil_conv_3x3",
  "dil_conv_5x5",
  "conv_7x1_1x7",
  "dw_conv_3x3",
  "dw_conv_5x5",
  "shuffle_conv_3x3",
  "ghost_conv_3x3",
  "multi_conv_3x3_5x5",
  "multi_dil_conv_3x3_5x5",
  "bin_conv_3x3",
  "bin_conv_5x5",
  "bin_dil_conv_3x3",
  "bin_dil_conv_5x5",
)
# Of the space "mobile": the identity, and inverted residual blocks such as mb6_k5.
IDENTITY = "identity"


def block(name: str) -> tuple[int, int] | None:
  """Expansion and kernel size of an inverted residual block, 6 and 5 of mb6_k5; None where the name is not of one."""
  found = re.fullmatch(r"mb([1-9])_k([357])", name)
  return (int(found[1]), int(found[2])) if found else None
