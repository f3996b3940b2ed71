"""Leaky integrate-and-fire neurons, whose time steps lie side by side in the batch (after MA-DARTS, arXiv 2411.00902).

Convolutions and batch norms see every time step as an image of its own; only the neurons know their order.
"""

import jax
import jax.numpy as jnp

TIME_CONSTANT = 2.0  # Steps.
THRESHOLD = 1.0


# As a jvp, so that second derivatives exist in both modes.
@jax.custom_jvp
def spike(potential: jax.Array) -> jax.Array:
  """1 from the threshold on, else 0; its derivative counts as that of an arc tangent (Fang et al. 2021)."""
  return (potential >= THRESHOLD).astype(potential.dtype)


@spike.defjvp
def _spike_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  slope = 1 / (1 + (jnp.pi * (primals[0] - THRESHOLD)) ** 2)
  return spike(primals[0]), slope.astype(primals[0].dtype) * tangents[0]


def leaky_integrate_and_fire(x: jax.Array, steps: int) -> jax.Array:
  """Spikes of neurons that are reset when they fire; no gradient goes through the reset.

  Args:
    x: currents `[steps * batch, ...]`, the first step of all images first.
    steps: time steps.

  Returns:
    Zeros and ones in the shape of `x`.
  """
  currents = x.reshape(steps, -1, *x.shape[1:])
  spikes, potential = [], jnp.zeros_like(currents[0])
  for current in currents:
    potential = potential + (current - potential) / TIME_CONSTANT
    fired = spike(potential)
    potential = potential * (1 - jax.lax.stop_gradient(fired))
    spikes.append(fired)
  return jnp.concatenate(spikes)
