"""Batch norm: of a batch that lies on one device or is split over several, as a whole or in groups.

A supernet has hundreds of batch norms, and statistics of the whole batch cost two small all-reduces each. Groups that
lie on one device cost none (Hoffer et al., "Train longer, generalize better", 2017, call that ghost batch norm).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp


class Batching(NamedTuple):
  """How the images of a batch belong together.

  Attributes:
    axis: name of the mesh axis that the batch is split over, None where all of it is at hand.
    group: images whose statistics are taken together, None for the whole batch. It holds whole shares of devices, or
      divides them.
  """

  axis: str | None = None
  group: int | None = None

  @property
  def shards(self) -> int:
    """Devices that the batch is split over."""
    return 1 if self.axis is None else lax.axis_size(self.axis)

  def own(self, values: jax.Array) -> jax.Array:
    """Of values for all images of the batch, `[batch, ...]`, those for the images at hand."""
    if self.axis is None:
      return values
    count = values.shape[0] // self.shards
    return lax.dynamic_slice_in_dim(values, lax.axis_index(self.axis) * count, count)


WHOLE_BATCH = Batching()


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
  def _by_group(self, x):
    groups = x.reshape(-1, self.group, *x.shape[1:])
    groups = groups.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(1, groups.ndim - 1))
    mean = jnp.mean(groups, axes)
    variance = jnp.maximum(jnp.mean(groups**2, axes) - mean**2, 0)
    for name, values in (("mean", mean), ("var", variance)):
      running = self.variable("batch_stats", name)
      running.value = self.momentum * running.value + (1 - self.momentum) * jnp.mean(values, 0)
    wide = lambda values: values.reshape(-1, *(1,) * len(axes), values.shape[-1])
    y = (groups - wide(mean)) * lax.rsqrt(wide(variance) + self.epsilon)
    if self.use_scale:
      y *= self.get_variable("params", "scale")
    if self.use_bias:
      y += self.get_variable("params", "bias")
    return y.reshape(x.shape)


def batch_norm(
  x: jax.Array, train: bool, batching: Batching, affine: bool = True, name: str | None = None
) -> jax.Array:
  """Applies batch norm with PyTorch's defaults: momentum 0.1 there is 0.9 here, epsilon 1e-5.

  Args:
    x: `[batch, height, width, channels]`.
    train: whether to use and update the statistics of the batch, instead of using the running ones.
    batching: what belongs together. Running statistics of groups differ between devices, until their mean is taken.
    affine: whether a scale and a bias are learnt.
    name: of the module.
  """
  axis, devices, group = batching.axis, None, None
  if batching.group is not None:
    together = batching.group // len(x)  # Devices whose images form a group.
    if together <= 1:
      axis, group = None, batching.group
    elif axis is not None:
      devices = [list(range(i, i + together)) for i in range(0, batching.shards, together)]
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
