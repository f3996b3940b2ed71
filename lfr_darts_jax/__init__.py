"""LFR-DARTS in JAX: differentiable architecture search, layer by layer."""

from lfr_darts_jax.config import get_config
from lfr_darts_jax.pipeline import search
from lfr_darts_jax.pipeline import train
from lfr_darts_jax.predictor import load

__all__ = ["get_config", "load", "search", "train"]
