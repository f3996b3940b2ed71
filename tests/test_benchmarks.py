"""The benchmarks run, and their PyTorch side computes what ours does."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfr_darts_jax.fields import DARTS_OPERATIONS
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.search import bilevel, hypergradient, plans, pruning
from lfr_darts_jax.search.objective import Batch, Objective, supernet_loss
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.search_space.cell_spec import CellSpec
from tests.test_parity import kernel, unflatten

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SIZE = ("--channels=4", "--layers=3", "--batch=4", "--image-size=8", "--nodes=1")


def run(script, *flags):
  return subprocess.run(
    [sys.executable, str(BENCHMARKS / script), *flags], capture_output=True, text=True, timeout=1200
  )


def lines(done):
  assert done.returncode == 0, done.stderr
  return [json.loads(line) for line in done.stdout.splitlines()]


def check(result, framework, steps):
  assert result["framework"] == framework
  assert len(result["seconds_per_step_all"]) == steps
  assert result["seconds_per_step"] == pytest.approx(np.median(result["seconds_per_step_all"]))
  assert result["images_per_second"] == pytest.approx(2 * 4 / result["seconds_per_step"])
  for key in ("seconds_per_step", "peak_memory_bytes", "resident_bytes", "loss_first", "loss_last"):
    assert result[key] > 0
  for key in ("compile_seconds", "warm_compile_seconds"):
    assert (result[key] > 0) == (framework == "jax")


@pytest.mark.slow
def test_search_step_prints_one_line_of_json():
  (result,) = lines(run("search_step.py", *SIZE, "--steps=2", "--framework=jax", "--json"))
  check(result, "jax", 2)


@pytest.mark.parametrize(
  "script,flag,complaint",
  [
    ("search_step.py", "--steps=0", "argument --steps: '0'; allowed are integers from 1"),
    ("search_step.py", "--layers=2", "config.search.layers: 2; allowed are integers from 3"),
    ("search_cost.py", "--updates=7", "--updates=7: lfr_darts allows multiples of 5"),
    ("input_pipeline.py", "--workers=-1", "--workers=-1; allowed are integers from 0"),
    ("input_pipeline.py", "--folder=nowhere", "--folder=nowhere: it holds no train/<class>/*"),
  ],
)
def test_wrong_flags_are_answered_in_one_line(script, flag, complaint):
  done = run(script, flag, *(("--framework=jax",) if script == "search_step.py" else ()))
  assert done.returncode == 2
  assert complaint in done.stderr
  assert done.stderr.count("\n") == 1
  assert not done.stdout


@pytest.mark.long
def test_search_cost_keeps_compiling_and_updating_apart():
  flags = ("--channels=2", "--batch=8", "--nodes=1", "--layers=5", "--data=digits", "--updates=15")
  layered, shared = lines(run("search_cost.py", *flags, "--json"))
  assert (layered["plan"], shared["plan"]) == ("lfr_darts", "darts")
  assert (layered["iterations"], shared["iterations"]) == (5, 1)
  # Every iteration of lfr_darts compiles at its start and after its two rounds, at updates 2 and 2 of 3.
  assert (layered["compilations"], shared["compilations"]) == (10, 1)
  for result, cells in ((layered, ("n0", "r0", "n1", "r1", "n2")), (shared, ("normal", "reduction"))):
    assert result["updates"] == 15
    assert 0 < result["update_seconds"] < result["search_seconds"]
    assert 0 < result["compile_seconds"] + result["other_seconds"] < result["search_seconds"]
    assert [text.split()[0] for text in result["genotype"].split("; ")] == list(cells)


@pytest.mark.long
def test_2000_dispatches_hold_memory_flat():
  (result,) = lines(run("memory.py", "--dispatches=2000", "--json"))
  assert result["dispatches"] == 2000 and result["low_bytes"] > 100e6
  assert 0 <= result["growth"] < 0.02, result


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["darts", "lfr_darts"])
def test_both_frameworks_lose_alike(plan):
  pytest.importorskip("torch", reason="PyTorch, the extra 'torch', is not installed")
  ours, theirs = lines(run("search_step.py", *SIZE, "--steps=3", f"--plan={plan}", "--json"))
  check(ours, "jax", 3)
  check(theirs, "torch", 3)
  assert ours["layers"] == theirs["layers"] == {"darts": 3, "lfr_darts": 5}[plan]
  assert ours["loss_first"] == pytest.approx(theirs["loss_first"], rel=1e-5)
  assert ours["loss_last"] == pytest.approx(theirs["loss_last"], rel=1e-3)


class Pair:
  """The same supernet in both frameworks, in float64: mixed `n0` and `r0` around a derived `n1`.

  Images of an odd size have a pixel more to pad in front of the reduction.
  """

  layout = ("n0", "n1", "r0", "n0")
  statistics = (0.0,), (1.0,)

  def __init__(self, config, order, size=7, nodes=2, channels=4):
    torch = pytest.importorskip("torch", reason="PyTorch, the extra 'torch', is not installed")
    from benchmarks import torch_supernet

    self.torch, self.module = torch, torch_supernet
    config.search.update(order=order, batch_size=4, alpha_learning_rate=6e-3)
    rng = np.random.default_rng(0)
    kinds = {"n0": "normal", "n1": "normal", "r0": "reduction"}
    cells = {n: CellSpec.full(n, kind, nodes, DARTS_OPERATIONS) for n, kind in kinds.items()}
    shape = len(cells["n1"].candidates), len(DARTS_OPERATIONS)
    cells["n1"] = pruning.derive(cells["n1"], rng.random(shape), DARTS_OPERATIONS)
    cells = tuple(cells.values())
    torch.manual_seed(0)
    self.theirs = torch_supernet.Supernet(self.layout, cells, channels, 5).double()
    alphas = {name: rng.normal(size=shape) for name in ("n0", "r0")}
    self.their_alphas = {name: torch.tensor(a, requires_grad=True) for name, a in alphas.items()}
    self.bilevel = torch_supernet.Bilevel(self.theirs, self.their_alphas, config.search, 10)
    network = Network(self.layout, cells, DARTS_OPERATIONS, channels, 5, LayerSettings(True))
    stage = plans.Stage(self.layout, ("n0", "r0"), alpha_rate=config.search.alpha_learning_rate)
    self.steps = bilevel.SearchSteps(config, network, stage, 10, self.statistics)
    images = rng.normal(size=(2, 4, size, size, 3))
    labels = rng.integers(0, 5, (2, 4))
    batch = lambda i: Batch(jnp.asarray(images[i]), jnp.asarray(labels[i]), jax.random.PRNGKey(0))
    self.batches = batch(0), batch(1)
    self.their_batches = [
      torch_supernet.Batch(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y))
      for x, y in zip(images, labels, strict=True)
    ]
    self.network = network
    params, ours = self.weights(), {name: Alphas(jnp.asarray(a)) for name, a in alphas.items()}
    shapes = jax.eval_shape(
      network.init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct(images.shape[1:], jnp.float64), alphas
    )
    assert jax.tree.structure(shapes["params"]) == jax.tree.structure(params)
    variables = {"params": params, "batch_stats": jax.tree.map(lambda s: jnp.ones(s.shape), shapes["batch_stats"])}
    self.state = self.steps.initial_state(variables, ours, jax.random.PRNGKey(0))
    mask = {c.name: Alphas(jnp.array(c.mask(DARTS_OPERATIONS))) for c in cells if c.name != "n1"}
    self.loss = lambda params, alphas, batch: supernet_loss(
      network, Objective(), mask, params, alphas, self.state.batch_stats, batch
    )

  def weights(self, of=lambda parameter: parameter.detach()):
    """The PyTorch side's parameters, or what `of` takes from them, in our tree."""
    leaves = {}
    for name, parameter in self.theirs.named_parameters():
      value = of(parameter).numpy()
      ours = kernel(value) if value.ndim > 1 else value
      assert ours.shape == self.module.our_shape(parameter)
      leaves[self.module.our_path(name)] = ours.copy()
    return unflatten(leaves, self.network)


def close(ours, theirs, tolerance):
  largest = max(np.abs(v).max() for v in jax.tree.leaves(theirs))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-3 * largest)),
    ours,
    theirs,
  )


def numpy_of(alphas, of):
  return {name: Alphas(of(alpha).numpy()) for name, alpha in alphas.items()}


@pytest.mark.slow
def test_the_pytorch_supernet_equals_ours(x64, config):
  pair = Pair(config, order=1)
  (value, _), (by_weights, by_alphas) = jax.jit(jax.value_and_grad(pair.loss, argnums=(0, 1), has_aux=True))(
    pair.state.params, pair.state.alphas, pair.batches[0]
  )
  loss = pair.bilevel.loss(pair.their_batches[0])
  loss.backward()
  np.testing.assert_allclose(value, loss.item(), rtol=1e-9)
  close(by_weights, pair.weights(lambda p: p.grad), 1e-9)
  close(by_alphas, numpy_of(pair.their_alphas, lambda a: a.grad), 1e-9)


@pytest.mark.slow
def test_three_updates_of_pytorch_equal_ours(x64, config):
  pair = Pair(config, order=1)
  train, validation = pair.batches
  state = pair.state

  @jax.jit
  def update(state):
    by_alphas = jax.grad(lambda a: pair.loss(state.params, a, validation)[0])(state.alphas)
    state = pair.steps.apply_alpha_gradient(state, by_alphas)
    loss, by_weights = jax.value_and_grad(lambda p: pair.loss(p, state.alphas, train)[0])(state.params)
    return pair.steps.apply_weight_gradient(state, by_weights, state.batch_stats), loss

  for _ in range(3):
    state, loss = update(state)
    np.testing.assert_allclose(loss, pair.bilevel.update(*pair.their_batches).item(), rtol=1e-6)
  # PyTorch's clipping adds 1e-6 to the norm.
  close(state.params, pair.weights(), 1e-6)
  close(state.alphas, numpy_of(pair.their_alphas, lambda a: a.detach()), 1e-6)


@pytest.mark.slow
def test_pytorchs_order_2_tends_to_ours(x64, config, monkeypatch):
  pair = Pair(config, order=2, size=8)
  pair.bilevel.update(*pair.their_batches)  # After one update there is momentum.
  momentum = pair.weights(lambda p: pair.bilevel._weight_optimizer.state[p]["momentum_buffer"])
  state = pair.state.replace(
    params=pair.weights(),
    alphas=jax.tree.map(jnp.asarray, numpy_of(pair.their_alphas, lambda a: a.detach())),
    opt_state=optax.tree.set(pair.state.opt_state, trace=momentum),
  )
  rate = pair.bilevel._schedule.get_last_lr()[0]
  train, validation = pair.batches
  search = config.search

  @jax.jit
  def exact_gradient(params, alphas):
    gradient = jax.grad(lambda p: pair.loss(p, alphas, train)[0])(params)
    ahead = hypergradient.unrolled_params(gradient, params, momentum, rate, search.momentum, search.weight_decay)
    by_weights, by_alphas = jax.grad(lambda p, a: pair.loss(p, a, validation)[0], argnums=(0, 1))(ahead, alphas)
    correction = hypergradient.mixed_derivative(lambda p, a: pair.loss(p, a, train), params, alphas, by_weights)
    return jax.tree.map(lambda g, c: g - rate * c, by_alphas, correction)

  exact = exact_gradient(state.params, state.alphas)
  # DARTS's own difference crosses kinks of so small a network.
  monkeypatch.setattr(pair.module, "DIFFERENCE", 1e-8)
  gradients = dict(zip(pair.their_alphas, pair.bilevel.unrolled_gradient(*pair.their_batches), strict=True))
  close(exact, numpy_of(gradients, lambda g: g.detach()), 1e-5)
  close(pair.weights(), state.params, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_input_keeps_up_with_decoding(workers):
  flags = ("--batch=32", "--batches=10", "--rounds=3", f"--workers={workers}")
  (result,) = lines(run("input_pipeline.py", *flags, "--json"))
  assert result["data"] == "photographs" and result["workers"] == workers and len(result["share_all"]) == 3
  assert result["share"] == pytest.approx(np.median(result["share_all"]))
  for key in ("stream_per_core", "decode_per_core", "stream_per_second", "decode_per_second"):
    assert result[key] > 0
  # What docs/performance.md has is more; here other tests run beside it.
  assert 0.25 < result["share"] < 1.5, result


@pytest.mark.long
def test_batches_on_the_device_cost_next_to_nothing():
  (result,) = lines(run("input_pipeline.py", "--data=digits", "--json"))
  assert result["dispatches"] == len(result["outside_seconds"]) == 7
  assert 0 < result["batch_seconds"] < 0.02 * result["dispatch_seconds"]
  assert 0 < result["share"] < 0.02, result
  assert result["share"] < result["share_all"] < 0.2, result


def latency():
  sys.path.insert(0, str(BENCHMARKS))
  try:
    import latency
  finally:
    sys.path.pop(0)
  return latency


def test_latencies_are_fitted_to_networks_by_hand():
  # Two classes of 1 and 3 seconds, and half a second of what all have.
  rows = np.array([[0, 0], [1, 0], [0, 1], [2, 1]], float)
  np.testing.assert_allclose(latency().fit(rows, 0.5 + rows @ [1, 3]), [1, 3, 0.5], atol=1e-9)


@pytest.mark.slow
def test_latencies_of_a_chain(tmp_path):
  small = ["space.sections=[[1, 2, 2], [1, 3, 1]]", "space.head=4", "network.channels=4", "data.image_size=8"]
  flags = [f"--set={setting}" for setting in small]
  config = pathlib.Path(__file__).parents[1] / "configs" / "mobile.py"
  done = run("latency.py", f"--config={config}:macro,laptop", f"--out={tmp_path / 'costs.json'}", "--rounds=3", *flags)
  (line,) = lines(done)
  found = json.loads((tmp_path / "costs.json").read_text())
  assert found["operations"] == ["identity", "mb3_k3", "mb6_k5"] and found["networks"] == line["networks"] >= 7
  assert {name: (len(rows), len(rows[0])) for name, rows in found["cells"].items()} == {"l0": (1, 3), "l1": (1, 3)}
  assert min(value for rows in found["cells"].values() for row in rows for value in row) >= 0
  assert run("latency.py", "--config=nowhere.py", "--out=x").returncode == 2
