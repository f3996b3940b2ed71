import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.models.layers.norm import batch_norm
from lfr_darts_jax.runtime.distributed import BatchSharding

BATCH, SHAPE = 12, (5, 4, 3)


class Norm(nn.Module):
  """One batch norm."""

  group: int | None
  affine: bool = True

  @nn.compact
  def __call__(self, x, train):
    return batch_norm(x, train, BatchSharding(group=self.group), self.affine, name="norm")


def arrays(dtype=jnp.float32):
  rng = np.random.default_rng(0)
  # Every image has a level of its own, so that it matters which are taken together.
  x = rng.normal(size=(BATCH, *SHAPE)) + np.arange(BATCH)[:, None, None, None]
  channels = lambda low: jnp.asarray(rng.uniform(low, 2, SHAPE[-1]), jnp.float32)
  variables = {
    "params": {"norm": {"scale": channels(0.5), "bias": channels(-1)}},
    "batch_stats": {"norm": {"mean": channels(-1), "var": channels(0.5)}},
  }
  return jnp.asarray(x, dtype), variables


@pytest.mark.parametrize("group", [2, 4, 6, BATCH, None])
def test_a_group_is_normalised_as_a_batch_of_its_own(group):
  x, variables = arrays()
  y, updated = Norm(group).apply(variables, x, True, mutable=["batch_stats"])
  flax = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
  theirs = {name: collection["norm"] for name, collection in variables.items()}
  parts = [flax.apply(theirs, part, mutable=["batch_stats"]) for part in jnp.split(x, BATCH // (group or BATCH))]
  np.testing.assert_allclose(y, jnp.concatenate([part for part, _ in parts]), rtol=2e-5, atol=2e-5)
  # The running statistics move by the mean over the groups.
  mean = jax.tree.map(lambda *values: sum(values) / len(values), *[s["batch_stats"] for _, s in parts])
  for name, values in mean.items():
    np.testing.assert_allclose(updated["batch_stats"]["norm"][name], values, rtol=1e-5)


def test_groups_have_no_effect_outside_of_training():
  x, variables = arrays()
  whole, grouped = (Norm(group).apply(variables, x, False) for group in (None, 2))
  np.testing.assert_array_equal(whole, grouped)
  norm = variables["batch_stats"]["norm"]
  affine = variables["params"]["norm"]
  expected = (x - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * affine["scale"] + affine["bias"]
  np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group", [None, 4])
def test_statistics_are_float32_where_images_are_bfloat16(group):
  x, variables = arrays(jnp.bfloat16)
  y, updated = Norm(group, affine=False).apply(variables, x, True, mutable=["batch_stats"])
  assert y.dtype == jnp.bfloat16
  assert {s.dtype for s in jax.tree.leaves(updated)} == {jnp.dtype(jnp.float32)}
  exact, _ = Norm(group, affine=False).apply(variables, x.astype(jnp.float32), True, mutable=["batch_stats"])
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.02)


def test_a_group_that_no_batch_fills_is_the_batch():
  x, variables = arrays()
  ours, theirs = (Norm(group).apply(variables, x, True, mutable=["batch_stats"])[0] for group in (2 * BATCH, None))
  np.testing.assert_array_equal(ours, theirs)
