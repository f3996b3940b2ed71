import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.fields import DARTS_OPERATIONS
from lfr_darts_jax.models.cell import Cell, MixedOp, Rates, drop
from lfr_darts_jax.models.operations import OPERATIONS, LayerSettings
from lfr_darts_jax.models.partial import PartialChannels
from lfr_darts_jax.search_space.cell_spec import CellSpec


def uneven(cell):
  """Candidates that differ from edge to edge, one edge without any."""
  sets = (
    ("none", "sep_conv_3x3", "max_pool_3x3"),
    ("skip_connect", "dil_conv_3x3"),
    (),
    ("sep_conv_3x3", "avg_pool_3x3"),
    ("skip_connect",),
  )
  return dataclasses.replace(
    cell, candidates=tuple(tuple(o for o in DARTS_OPERATIONS if o in sets[i % 5]) for i in range(len(cell.candidates)))
  )


def test_mixtures_differ_in_bfloat16_by_less_than_it_resolves():
  x = jnp.asarray(np.indices((4, 4)).sum(0) % 2 * 2 - 1, jnp.bfloat16)[None, :, :, None]  # A checkerboard of -1 and 1.
  weights = jnp.array([0.501, 0.499])
  op = MixedOp(("max_pool_3x3", "skip_connect"), 1, 1, LayerSettings())
  y = op.apply({}, x, weights, False)
  assert y.dtype == jnp.bfloat16
  # Where x is -1 the pool has 1: 0.501 - 0.499, where both weights are 0.5 in bfloat16.
  np.testing.assert_allclose(y[0, ..., 0].astype(jnp.float32), np.where(x[0, ..., 0] > 0, 1, 0.002), rtol=0.01)


@pytest.mark.parametrize("nodes,candidates", [pytest.param(2, None, marks=pytest.mark.slow), (3, uneven)])
def test_scanned_equals_unrolled(x64, supernet, nodes, candidates):
  results = []
  for edges in ("scan", "unroll"):
    net = supernet(nodes=nodes, edges=edges, candidates=candidates)

    def loss(params, alphas, net=net):
      mixtures = net.mixtures(alphas)
      outputs, updated = net.network.apply(
        {"params": params, "batch_stats": net.batch_stats}, net.images, mixtures, True, mutable=["batch_stats"]
      )
      return jnp.sum(jnp.sin(outputs.logits)), updated["batch_stats"]

    results.append(jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(net.params, net.alphas))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *results)


def test_scanned_equals_unrolled_with_running_statistics(supernet):
  logits = []
  for edges in ("scan", "unroll"):
    net = supernet(edges=edges, candidates=uneven)
    mixtures = net.mixtures()
    logits.append(
      net.network.apply({"params": net.params, "batch_stats": net.batch_stats}, net.images, mixtures).logits
    )
  np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-5)


def test_mixed_op_is_the_weighted_sum_of_its_candidates():
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
  names = ("none", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")
  mixed, weights = MixedOp(names, 4, 1, LayerSettings(True)), jnp.array([0.4, 0.3, 0.2, 0.1])
  variables = mixed.init(jax.random.key(1), x, weights, True)
  expected = 0
  for name, weight in zip(names, weights, strict=True):
    own = {c: variables[c][name] for c in variables if name in variables[c]}
    expected += weight * OPERATIONS[name](4, 1, LayerSettings(True)).apply(own, x, True, mutable=["batch_stats"])[0]
  got, _ = mixed.apply(variables, x, weights, True, mutable=["batch_stats"])
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_nodes_sum_their_edges_and_concat_picks_states():
  # Two identities into node 2, one from node 2 into node 3; the output is node 3, then node 2.
  spec = CellSpec("n0", "normal", (("skip_connect",), ("skip_connect",), (), (), ("skip_connect",)), (3, 2))
  cell = Cell(spec, 2, False, DARTS_OPERATIONS, LayerSettings(True))
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
  out, variables = cell.init_with_output(jax.random.key(1), x, y, None, True)
  pre = lambda name, v: _preprocess(variables["params"][name], v)
  node = pre("preprocess0", x) + pre("preprocess1", y)
  np.testing.assert_allclose(out, jnp.concatenate([node, node], -1), rtol=1e-4, atol=1e-5)


def test_parallel_operations_add_up():
  spec = CellSpec("n0", "normal", (("skip_connect",) * 2, ("skip_connect",)), (2,), parallel=True)
  cell = Cell(spec, 2, False, DARTS_OPERATIONS, LayerSettings(True))
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
  out, variables = cell.init_with_output(jax.random.key(1), x, y, None, True)
  pre = lambda name, v: _preprocess(variables["params"][name], v)
  np.testing.assert_allclose(out, 2 * pre("preprocess0", x) + pre("preprocess1", y), rtol=1e-4, atol=1e-5)


def test_parallel_operations_are_dropped_one_by_one():
  spec = CellSpec("n0", "normal", ((), ("avg_pool_3x3",) * 2), (2,), parallel=True)
  cell = Cell(spec, 1, False, DARTS_OPERATIONS, LayerSettings(True))
  # Of one colour each, so that pools are identities.
  x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (400, 1, 1, 3)), (400, 4, 4, 3))
  variables = cell.init(jax.random.key(1), x, x, None, True)
  rates, rngs = Rates(path=jnp.float32(0.5)), {"dropout": jax.random.key(2)}
  out, _ = cell.apply(variables, x, x, None, True, rates, rngs=rngs, mutable=["batch_stats"])
  times = (out / _preprocess(variables["params"]["preprocess1"], x))[:, 0, 0, 0]
  counts = dict(zip(*np.unique(np.round(times, 3), return_counts=True), strict=True))
  # Both dropped, one, none; each that is kept weighs 1 / 0.5.
  assert set(counts) == {0, 2, 4} and 150 < counts[2] < 250 and 60 < min(counts[0], counts[4])


def test_an_auxiliary_skip_adds_the_source():
  spec = CellSpec.full("n0", "normal", 1, ("none", "skip_connect"))
  cell = Cell(spec, 2, False, ("none", "skip_connect"), LayerSettings(True))
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
  nothing = jnp.array([[1.0, 0.0]] * 2)
  variables = cell.init(jax.random.key(1), x, y, nothing, True)
  run = lambda rates, train=True: cell.apply(variables, x, y, nothing, train, rates, mutable=["batch_stats"])[0]
  pre = lambda name, v: _preprocess(variables["params"][name], v)
  both = pre("preprocess0", x) + pre("preprocess1", y)
  np.testing.assert_allclose(run(Rates(auxiliary_skip=jnp.float32(0.25))), 0.25 * both, rtol=1e-4, atol=1e-5)
  assert not run(Rates()).any() and not run(Rates(auxiliary_skip=jnp.float32(1)), train=False).any()


def test_what_passes_by_weighs_as_much_as_its_edge():
  spec, operations = CellSpec.full("n0", "normal", 1, ("none", "skip_connect")), ("none", "skip_connect")
  cell = Cell(spec, 2, False, operations, LayerSettings(True, partial=PartialChannels(2)))
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
  mixture = jnp.array([[0.15, 0.1], [0.25, 0.5]])  # Edges weigh a quarter and three quarters.
  variables = cell.init(jax.random.key(1), x, y, mixture, True)
  out, _ = cell.apply(variables, x, y, mixture, True, mutable=["batch_stats"])
  s0, s1 = (_preprocess(variables["params"][name], v) for name, v in (("preprocess0", x), ("preprocess1", y)))
  expected = jnp.stack([0.1 * s0[..., 0] + 0.5 * s1[..., 0], 0.25 * s0[..., 1] + 0.75 * s1[..., 1]], axis=-1)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def _preprocess(params, x):
  y = jax.nn.relu(x) @ params["Dense_0"]["kernel"]
  return (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-5)


def test_drop_path_spares_identities_and_keeps_the_mean():
  x = jax.random.normal(jax.random.key(0), (64, 4, 4, 2))
  run = lambda ops, key: Cell(CellSpec("n0", "normal", ops, (2,)), 2, False, DARTS_OPERATIONS, LayerSettings())
  identities, pools = (("skip_connect",), ("skip_connect",)), (("avg_pool_3x3",), ("avg_pool_3x3",))
  for ops, changes in ((identities, False), (pools, True)):
    cell = run(ops, None)
    variables = cell.init(jax.random.key(1), x, x, None, True)
    plain, dropped = (
      cell.apply(
        variables, x, x, None, True, Rates(path=rate), rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"]
      )[0]
      for rate in (None, jnp.float32(0.5))
    )
    assert bool(jnp.any(plain != dropped)) == changes
  dropped = drop(jnp.ones((4000, 2, 2, 1)), jnp.float32(0.25), jax.random.key(3), per_sample=True)
  assert set(np.unique(dropped).round(4)) == {0, np.float32(1 / 0.75).round(4)}
  assert np.all(dropped == dropped[:, :1, :1]) and abs(float(dropped.mean()) - 1) < 0.05


def test_skip_dropout_touches_unstrided_skips_alone(supernet):
  net = supernet(layout=("n0",), operations=("skip_connect", "max_pool_3x3"))
  variables = {"params": net.params, "batch_stats": net.batch_stats}
  mixture = lambda first: {"n0": jnp.tile(jnp.array([[first, 1.0 - first]]), (5, 1))}
  run = lambda first, rate: (
    net.network.apply(
      variables,
      net.images,
      mixture(first),
      True,
      Rates(skip=rate),
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )[0].logits
  )
  np.testing.assert_allclose(run(0.0, None), run(0.0, jnp.float32(0.5)), rtol=1e-5)
  assert np.any(np.abs(run(1.0, None) - run(1.0, jnp.float32(0.5))) > 1e-3)
