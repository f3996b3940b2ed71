"""Batch norm of a batch on one device or split over several, as a whole or in groups.

A supernet has hundreds of batch norms, and statistics of the whole batch cost two small all-reduces each. Groups that
lie on one device cost none (Hoffer et al., "Train longer, generalize better", 2017, call that ghost batch norm).
"""

from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from lfr_darts_jax.runtime.distributed import BatchSharding


class BatchNorm(nn.BatchNorm):
  """Flax's, with groups, and an output of the input's type; statistics and the norm are in float32 at least.

  Attributes:
    group: images on one device whose statistics are taken together, None for all of them.
  """

  group: int | None = None

  def __call__(
    self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
  ) -> jax.Array:
    """Normalises `[batch, height, width, channels]`; arguments as of Flax's."""
    if self.group is None or self.use_running_average or self.is_initializing():
      y = super().__call__(x, use_running_average, mask=mask)
    else:
      y = self._by_group(x)
    return y.astype(x.dtype)

  @nn.compact
  def _by_group(self, x: jax.Array) -> jax.Array:
    groups = x.reshape(-1, self.group, *x.shape[1:])
    groups = groups.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(1, groups.ndim - 1))
    mean = jnp.mean(groups, axes)
    variance = jnp.maximum(jnp.mean(groups**2, axes) - mean**2, 0)
    for name, values in (("mean", mean), ("var", variance)):
      running: Any = self.variable("batch_stats", name)
      running.value = self.momentum * running.value + (1 - self.momentum) * jnp.mean(values, 0)
    wide = lambda values: values.reshape(-1, *(1,) * len(axes), values.shape[-1])
    y = (groups - wide(mean)) * lax.rsqrt(wide(variance) + self.epsilon)
    if self.use_scale:
      y *= self.get_variable("params", "scale")
    if self.use_bias:
      y += self.get_variable("params", "bias")
    return y.reshape(x.shape)


def batch_norm(
  x: jax.Array, train: bool, sharding: BatchSharding, affine: bool = True, name: str | None = None
) -> jax.Array:
  """Applies batch norm with PyTorch's defaults: momentum 0.1 there is 0.9 here, epsilon 1e-5.

  Args:
    x: `[batch, height, width, channels]`.
    train: whether to use and update the statistics of the batch, instead of using the running ones.
    sharding: how the batch is split and grouped. Running statistics of groups differ between devices until their mean
      is taken.
    affine: whether a scale and a bias are learnt.
    name: of the module.
  """
  axis, devices, group = sharding.axis, None, None
  if sharding.group is not None:
    together = sharding.group // len(x)  # Devices whose images form a group.
    if together <= 1:
      axis, group = None, sharding.group
    elif axis is not None:
      devices = [list(range(i, i + together)) for i in range(0, sharding.shards, together)]
  norm = BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    use_scale=affine,
    use_bias=affine,
    axis_name=axis,
    axis_index_groups=devices,
    group=group,
    name=name,
  )
  return norm(x)
