"""What other systems propose, on the same supernets and by the same protocol: systems:NAME or systems:NAME,laptop.

    python -m lfr_darts_jax.main --config=configs/systems.py:pc_darts --workdir=runs/pc_darts --config.data.dir=DIR
    python -m lfr_darts_jax.main --config=configs/systems.py:pc_darts,laptop --workdir=runs/pc --config.data.dir=DIR

Every system is DARTS's protocol with the plan of LFR-DARTS, and the overrides of its row; `--config.plan.name=darts`
asks the same of one cell for all depths. `laptop` takes the size of configs/laptop.py. docs/systems.md tells of every
row what is of its paper and what is ours: of most there is the abstract alone.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.fields import DARTS_OPERATIONS

WITHOUT_NONE = DARTS_OPERATIONS[1:]


@dataclasses.dataclass(frozen=True)
class System:
  """A row of the table.

  Attributes:
    source: paper, and how much of it was to be had: its equations, its abstract, or a relative.
    ours: what the row decides without the paper.
    overrides: of the config.
  """

  source: str
  ours: str
  overrides: Mapping[str, Any]


SYSTEMS = {
  "gdas": System(
    "GDAS (Dong & Yang, CVPR 2019): equation",
    "the artefact of its code is left out: weights of what was not sampled are zero",
    {"search.gate": "gumbel"},
  ),
  "pc_darts": System(
    "PC-DARTS (Xu et al., ICLR 2020): equation",
    "warm-up by the plan",
    {"search.partial_channels": 4, "search.edge_weights": True, "search.warmup_fraction": 0.3},
  ),
  "epc_darts": System(
    "EPC-DARTS: abstract, and the code of its successor alpha-ADARTS",
    "one attention per state, ranks of the whole batch, no shuffle",
    {"search.partial_channels": 4, "search.channel_choice": "attention", "search.edge_weights": True},
  ),
  "beta_darts": System(
    "beta-DARTS (Ye et al., CVPR 2022): equation",
    "the weight grows with the bilevel steps alone",
    {"search.penalties": (("beta", 25.0, "linear"),)},
  ),
  "fair_darts": System(
    "FairDARTS (Chu et al., ECCV 2020): equation",
    "one operation per edge, two edges per node at most",
    {
      "search.gate": "sigmoid",
      "search.operations": WITHOUT_NONE,
      "search.penalties": (("zero_one", 10.0, "constant"),),
      "prune.edge_threshold": 0.85,
    },
  ),
  "darts_pap": System(
    "DARTS-PAP: abstract; polarization of Zhuang et al. (NeurIPS 2020)",
    "both forms, weights and exponent",
    {"search.penalties": (("polarization", 1.0, "linear"),), "search.sample_weight_exponent": 1.0},
  ),
  "dlw_nas": System(
    "DLW-NAS: abstract and part of the introduction",
    "form and weight of the cost, light operations, threshold",
    {
      "search.operations": (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "dw_conv_3x3",
        "dw_conv_5x5",
        "shuffle_conv_3x3",
        "ghost_conv_3x3",
      ),
      "search.penalties": (("complexity", 0.5, "constant"),),
      "prune.edge_threshold": 0.2,
    },
  ),
  "sto_darts": System(
    "STO-DARTS: abstract; iDARTS and Lorraine et al. (AISTATS 2020)",
    "two terms of the series, no look-ahead",
    {"search.order": 2, "search.hypergradient": "neumann"},
  ),
  "sto_darts_sampled": System(
    "STO-DARTS: abstract; Ghadimi & Wang (2018)",
    "three terms, of which a power is drawn",
    {"search.order": 2, "search.hypergradient": "sampled_neumann", "search.neumann_terms": 3},
  ),
  "darts_minus": System(
    "DARTS- (Chu et al., ICLR 2021): equation", "the factor falls by a cosine", {"search.auxiliary_skip": True}
  ),
  "sdarts_rs": System("SDARTS (Chen & Hsieh, ICML 2020): equation", "nothing", {"search.perturbation": 0.3}),
  "sdarts_adv": System(
    "SDARTS (Chen & Hsieh, ICML 2020): equation",
    "nothing",
    {"search.perturbation": 0.3, "search.perturbed_by": "adversary"},
  ),
  "lambda_darts": System(
    "Lambda-DARTS (Movahedi et al., ICLR 2023): equation",
    "the exact derivative in place of a difference",
    {"search.layer_alignment": 0.125, "plan.searched_copies": 2},
  ),
  "mr_darts": System(
    "MR-DARTS: abstract",
    "windows of two states, both operations",
    {"plan.window": 2, "search.operations": (*DARTS_OPERATIONS, "multi_conv_3x3_5x5", "multi_dil_conv_3x3_5x5")},
  ),
  "d_darts": System(
    "D-DARTS (Wang et al., 2021): equation",
    "without its ablation term, which has no gradient in its code",
    {
      "plan.name": "per_layer",
      "network.layers": 8,
      "search.gate": "sigmoid",
      "search.operations": WITHOUT_NONE,
      "search.penalties": (("zero_one", 10.0, "constant"),),
      "prune.edge_threshold": 0.85,
    },
  ),
  "fp_darts": System(
    "Fast progressive DARTS: abstract", "granules lie between gaps, and fade", {"prune.rule": "gap", "prune.fade": 0.1}
  ),
  "binary": System(
    "Universal binary networks: title; BNAS (Kim et al., ECCV 2020; Chen et al., AAAI 2020)",
    "operations, shortcuts, decay of the real weights",
    {
      "search.operations": (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "bin_conv_3x3",
        "bin_conv_5x5",
        "bin_dil_conv_3x3",
        "bin_dil_conv_5x5",
      )
    },
  ),
  "ma_darts": System(
    "MA-DARTS (arXiv 2411.00902): abstract; SpikeDHS",
    "neurons' constants, DARTS's operations",
    {"network.activation": "lif", "network.cell_attention": True},
  ),
}


def get_config(name: str = "gdas"):
  """The config of a system, in DARTS's size or a laptop's."""
  system, _, size = name.partition(",")
  if system not in SYSTEMS or size not in ("", "laptop"):
    raise UsageError(f"config: systems:{name}; allowed are {', '.join(SYSTEMS)}, each alone or with ,laptop")
  config = schema.get_config(size or None)
  return schema.unflatten({**schema.flatten(config), **SYSTEMS[system].overrides})
