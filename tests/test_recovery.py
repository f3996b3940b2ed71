import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax import recovery
from lfr_darts_jax.errors import RunError
from lfr_darts_jax.state import TrainState


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_array_that_went_wrong_is_named(dtype, value):
  tree = {"a": jnp.ones(3, dtype), "b": {"kernel": jnp.array([1, value], dtype), "count": jnp.int32(1)}}
  with pytest.raises(recovery.NotFinite, match="update 7: b/kernel is not finite"):
    recovery.check(7, tree)


def test_finite_numbers_integers_and_keys_pass():
  recovery.check(7, {"a": jnp.ones(3, jnp.bfloat16), "n": jnp.int32(1), "key": jax.random.PRNGKey(0)})


def test_retries_are_counted_and_end():
  said, error = [], recovery.NotFinite(7, "b/kernel")
  assert recovery.retry(error, "training", 1, 2, said.append) == 2
  assert "training, update 7: b/kernel is not finite" in said[0] and "(2 of 2)" in said[0]
  with pytest.raises(RunError, match="after 2 retries"):
    recovery.retry(error, "training", 2, 2, said.append)


def test_another_order_depends_on_the_count_alone():
  state = TrainState(jnp.int32(0), {}, {}, {}, jax.random.PRNGKey(0))
  keys = [tuple(recovery.another_order(state, n).key.tolist()) for n in (1, 1, 2)]
  assert keys[0] == keys[1] != keys[2] and keys[0] != tuple(state.key.tolist())
