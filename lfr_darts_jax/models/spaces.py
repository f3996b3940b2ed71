"""The networks of a search space: the supernet of a stage, and the final network of a genotype."""

from collections.abc import Callable
from typing import Any

import ml_collections

from lfr_darts_jax.models import chain, network
from lfr_darts_jax.models.chain import Chain
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.runtime.distributed import BatchSharding
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype

AnyNetwork = Network | Chain
# By `space.name`: what makes a supernet, and what a final network.
NETWORKS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
  "cells": (network.supernet, network.final_network),
  "mobile": (chain.supernet, chain.final_network),
}


def supernet(
  config: ml_collections.ConfigDict, layout: tuple[str, ...], cells: tuple[CellSpec, ...], skip_unweighted: bool = False
) -> AnyNetwork:
  """The supernet of one stage.

  Args:
    config: the config.
    layout: its layers.
    cells: their candidates.
    skip_unweighted: see `ScanCell`; chains always do.

  Raises:
    UsageError: where the images are too small for it.
  """
  made: AnyNetwork = NETWORKS[config.space.name][0](config, layout, cells, skip_unweighted)
  return made


def final_network(config: ml_collections.ConfigDict, genotype: Genotype) -> AnyNetwork:
  """The network that is trained from scratch.

  Raises:
    UsageError: where the images are too small for it, or the genotype is none of `config.space` or does not fit it.
  """
  made: AnyNetwork = NETWORKS[config.space.name][1](config, genotype)
  return made


def with_sharding(network: AnyNetwork, sharding: BatchSharding) -> AnyNetwork:
  """The same network on other devices."""
  return network.clone(settings=network.settings._replace(sharding=sharding))
