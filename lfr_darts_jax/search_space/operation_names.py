"""Names of the candidate operations, so that genotypes are read without JAX; `models.operations` has their modules."""

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
