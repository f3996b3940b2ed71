import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.runtime import nan_guard
from lfr_darts_jax.training.train import TrainState


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_array_that_went_wrong_is_named(dtype, value):
  tree = {"a": jnp.ones(3, dtype), "b": {"kernel": jnp.array([1, value], dtype), "count": jnp.int32(1)}}
  with pytest.raises(nan_guard.NotFinite, match="update 7: b/kernel is not finite"):
    nan_guard.check(7, tree)


def test_finite_numbers_integers_and_keys_pass():
  nan_guard.check(7, {"a": jnp.ones(3, jnp.bfloat16), "n": jnp.int32(1), "key": jax.random.PRNGKey(0)})


def test_another_order_depends_on_the_count_alone():
  state = TrainState(jnp.int32(0), {}, {}, {}, jax.random.PRNGKey(0))
  keys = [tuple(nan_guard.reshuffle(state, n).key.tolist()) for n in (1, 1, 2)]
  assert keys[0] == keys[1] != keys[2] and keys[0] != tuple(state.key.tolist())
