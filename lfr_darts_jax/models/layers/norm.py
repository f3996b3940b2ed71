"""Batch norm of a batch on one device or split over several, as a whole or in groups.

A supernet has hundreds of batch norms, and statistics of the whole batch cost two small all-reduces each. Groups that
lie on one device cost none (Hoffer et al., "Train longer, generalize better", 2017, call that ghost batch norm).
"""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.runtime.distributed import BatchSharding

MOMENTUM, EPSILON = 0.9, 1e-5  # PyTorch's defaults; its momentum of 0.1 is 0.9 here.


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
  """Applies batch norm with PyTorch's defaults.

  Args:
    x: `[batch, height, width, channels]`.
    train: whether to use and update the statistics of the batch, instead of using the running ones.
    sharding: how the batch is split and grouped. Running statistics of groups differ between devices until their mean
      is taken.
    affine: whether a scale and a bias are learnt.
    name: of the module.
  """
  # Whose statistics are taken together matters where they are taken; a batch of any size has no number to divide.
  axis, devices, group = _together(sharding, len(x)) if train else (None, None, None)
  norm = BatchNorm(
    use_running_average=not train,
    momentum=MOMENTUM,
    epsilon=EPSILON,
    use_scale=affine,
    use_bias=affine,
    axis_name=axis,
    axis_index_groups=devices,
    group=group,
    name=name,
  )
  return norm(x)


def _together(sharding: BatchSharding, images: int) -> tuple[str | None, list[list[int]] | None, int | None]:
  """Whose statistics are taken together: axis and groups of devices, and a group of this device's images."""
  axis, devices, group = sharding.axis, None, None
  if sharding.group is not None:
    together = sharding.group // images  # Devices whose images form a group.
    if together <= 1:
      axis, group = None, sharding.group
    elif axis is not None:
      devices = [list(range(i, i + together)) for i in range(0, sharding.shards, together)]
  return axis, devices, group


class Moments(NamedTuple):
  """Mean and variance `[groups, ...]` of the features of groups of images."""

  mean: jax.Array
  variance: jax.Array


def moments(arrays: Sequence[jax.Array], sharding: BatchSharding) -> list[Moments]:
  """The statistics of several batch norms: one pass over each array, and one small kernel, one collective, for all.

  Args:
    arrays: each `[batch, height, width, ...]`, of this device.
    sharding: see `batch_norm`.

  Returns:
    Of every array, with the axes of its features, in float32 at least.
  """
  if not arrays:
    return []
  images = len(arrays[0])
  axis, devices, group = _together(sharding, images)

  def sums(x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:3], -1).astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.stack([jnp.mean(x, (1, 2)), jnp.mean(x * x, (1, 2))])

  joined = jnp.concatenate([sums(x) for x in arrays], axis=-1)
  joined = joined.reshape(2, -1, group or images, joined.shape[-1]).mean(2)
  if axis is not None:
    joined = lax.pmean(joined, axis, axis_index_groups=devices)
  mean, square = joined
  both = mean, jnp.maximum(square - mean**2, 0)
  ends = np.cumsum([math.prod(x.shape[3:]) for x in arrays])[:-1].tolist()
  parts = zip(*(jnp.split(m, ends, axis=-1) for m in both), strict=True)
  return [Moments(*(m.reshape(-1, *x.shape[3:]) for m in own)) for x, own in zip(arrays, parts, strict=True)]


def running(old: dict[str, jax.Array], mean: jax.Array, variance: jax.Array) -> dict[str, jax.Array]:
  """Running statistics `mean` and `var` after a batch of such moments, from which nothing is learnt."""
  new = {"mean": mean, "var": variance}
  return {k: MOMENTUM * old[k] + (1 - MOMENTUM) * lax.stop_gradient(jnp.mean(v, 0)) for k, v in new.items()}
