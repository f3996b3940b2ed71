"""LFR-DARTS in JAX: differentiable architecture search, layer by layer."""

import importlib
from typing import TYPE_CHECKING
from typing import Any

from lfr_darts_jax import xla

if TYPE_CHECKING:
  from lfr_darts_jax.config import get_config
  from lfr_darts_jax.pipeline import search
  from lfr_darts_jax.pipeline import train
  from lfr_darts_jax.predictor import load

__all__ = ["get_config", "load", "search", "train"]
_HOMES = {"get_config": "config", "load": "predictor", "search": "pipeline", "train": "pipeline"}

xla.set_flags()


def __getattr__(name: str) -> Any:
  # On demand, since a worker process of the input needs nothing of it: a third of a gigabyte, and seconds.
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
  return value
