"""How often neurons of a spiking network fire, which decides what it costs where only spikes do."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.training.predictor import Predictor, probabilities


def rate(trained: Predictor, images: np.ndarray) -> float:
  """Spikes per neuron and time step, from 0 to 1 (after MA-DARTS, arXiv 2411.00902, which names spikes a cost).

  Args:
    trained: a network whose `network.activation` is lif.
    images: uint8 `[n, height, width, channels]`.
  """

  def count(variables: Any, images: jax.Array) -> jax.Array:
    found = []

    def watch(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
      outputs = call(*args, **kwargs)
      if context.method_name == "activate":
        found.append((jnp.sum(outputs, dtype=jnp.float32), outputs.size))
      return outputs

    with nn.intercept_methods(watch):
      probabilities(trained.network, trained.statistics, variables, images)
    fired, neurons = zip(*found, strict=True)
    return sum(fired) / sum(neurons)

  # From the host, since one process of several may ask.
  return float(jax.jit(count)(jax.device_get(trained.variables), images))
