"""LFR-DARTS in JAX: differentiable architecture search, layer by layer."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from lfr_darts_jax.pipeline import search, train
  from lfr_darts_jax.runtime.config_file import get_config
  from lfr_darts_jax.runtime.jax_setup import set_flags
  from lfr_darts_jax.training.predictor import load

__all__ = ["get_config", "load", "search", "set_flags", "train"]
_HOMES = {
  "get_config": "runtime.config_file",
  "in_notebook": "report.page",
  "load": "training.predictor",
  "set_flags": "runtime.jax_setup",
  "train": "pipeline",
}


def __getattr__(name: str) -> Any:
  # On demand, since a worker process of the input needs nothing of it: a third of a gigabyte, and seconds.
  if name == "search":
    return importlib.import_module("lfr_darts_jax.search")  # A package that can be called.
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
  return value
