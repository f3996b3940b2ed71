"""Cells with several operations on one edge: those of NASNet-A and AmoebaNet-A as DARTS lists them, and a small one."""

from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype

# Zoph et al., CVPR 2018, figure 4; Real et al., AAAI 2019, figure 5.
MODULE = """
NASNet = Genotype(
  normal = [
    ('sep_conv_5x5', 1), ('sep_conv_3x3', 0),
    ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 1), ('skip_connect', 0),
    ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
    ('sep_conv_3x3', 1), ('skip_connect', 1),
  ],
  normal_concat = [2, 3, 4, 5, 6],
  reduce = [
    ('sep_conv_5x5', 1), ('sep_conv_7x7', 0),
    ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
    ('avg_pool_3x3', 1), ('sep_conv_5x5', 0),
    ('skip_connect', 3), ('avg_pool_3x3', 2),
    ('sep_conv_3x3', 2), ('max_pool_3x3', 1),
  ],
  reduce_concat = [4, 5, 6],
)

AmoebaNet = Genotype(
  normal = [
    ('avg_pool_3x3', 0), ('max_pool_3x3', 1),
    ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
    ('sep_conv_3x3', 0), ('avg_pool_3x3', 3),
    ('sep_conv_3x3', 1), ('skip_connect', 1),
    ('skip_connect', 0), ('avg_pool_3x3', 1),
  ],
  normal_concat = [4, 5, 6],
  reduce = [
    ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),
    ('max_pool_3x3', 0), ('sep_conv_7x7', 2),
    ('sep_conv_7x7', 0), ('avg_pool_3x3', 1),
    ('max_pool_3x3', 0), ('max_pool_3x3', 1),
    ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5),
  ],
  reduce_concat = [3, 4, 6],
)
BEST = AmoebaNet
"""
_, SECOND = MODULE.split("\n\n")
NASNET, AMOEBANET = formats.parse(MODULE.replace(SECOND, "")), formats.parse(SECOND)
_OPERATIONS = (("sep_conv_3x3",) * 2, ("skip_connect", "max_pool_3x3"), (), ("dil_conv_3x3",), ("avg_pool_3x3",) * 3)
SMALL = Genotype(tuple(CellSpec(kind, kind, _OPERATIONS, (2, 3), True) for kind in ("normal", "reduction")))
