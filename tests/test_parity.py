"""Equal weights, equal numbers: our networks against the original PyTorch DARTS.

`supernet_c2_l3.npz` holds float64 numbers of the original's search network (quark0/darts, `cnn/model_search.py`) with 2
channels, 3 layers, 3 classes and 4 nodes: one forward and backward pass in training mode of 3 images of 8x8. `x` is
NCHW; alphas are those before the softmax; `p` and `g` are all weights and their gradients one after another, under
`names` with `shapes`.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.fields import DARTS_OPERATIONS
from lfr_darts_jax.models import edge_stacks
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.search.relaxation import Moment, softmax
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.cell_spec import CellSpec, edges
from lfr_darts_jax.training import losses

FILE = pathlib.Path(__file__).with_name("supernet_c2_l3.npz")
CONVOLUTIONS = {
  "1": "DepthwiseConv_0",
  "2": "Dense_0",
  "5": "DepthwiseConv_1",
  "6": "Dense_1",
  "conv_1": "even",
  "conv_2": "odd",
}


def kernel(value):
  """A PyTorch weight in our layout: dense OI, 1x1 OI11, depthwise and full OIHW."""
  if value.ndim == 2:
    return value.T
  if value.shape[2:] == (1, 1):
    return value[:, :, 0, 0].T
  return value.transpose(2, 3, 1, 0)


def search_path(name):
  """Our path of a parameter of the original's search network."""
  if match := re.fullmatch(r"cells\.(\d+)\.(preprocess[01])\.(?:op\.1|(conv_[12]))\.weight", name):
    layer, part, half = match.groups()
    return f"layer_{layer}", part, CONVOLUTIONS[half] if half else "Dense_0", "kernel"
  if match := re.fullmatch(r"cells\.(\d+)\._ops\.(\d+)\._ops\.(\d+)\.(?:op\.)?(\w+)\.weight", name):
    layer, edge, operation, position = match.groups()
    source, target = edges(4)[int(edge)]
    operation = DARTS_OPERATIONS[int(operation)]
    inner = ("FactorizedReduce_0",) if operation == "skip_connect" else ()
    return f"layer_{layer}", f"edge_{source}_{target}", operation, *inner, CONVOLUTIONS[position], "kernel"
  return {
    "stem.0.weight": ("stem", "kernel"),
    "stem.1.weight": ("stem_norm", "scale"),
    "stem.1.bias": ("stem_norm", "bias"),
    "classifier.weight": ("classifier", "kernel"),
    "classifier.bias": ("classifier", "bias"),
  }[name]


def unflatten(leaves, network):
  """A network's variables from the leaves by path, a subtree per edge."""
  tree = {}
  for path, leaf in leaves.items():
    node = tree
    for part in path[:-1]:
      node = node.setdefault(part, {})
    node[path[-1]] = jnp.asarray(leaf)
  return edge_stacks.of_network(edge_stacks.stack, network.layout, network.cells, tree)


@pytest.mark.parametrize("edges", ["scan", pytest.param("unroll", marks=pytest.mark.slow)])
def test_supernet_equals_the_original(x64, edges):
  data = np.load(FILE)
  shapes = [shape[shape > 0] for shape in data["shapes"]]
  ends = np.cumsum([np.prod(shape) for shape in shapes])

  cells = tuple(CellSpec.full(k, k, 4, DARTS_OPERATIONS) for k in ("normal", "reduction"))
  network = Network(
    ("normal", "reduction", "reduction"), cells, DARTS_OPERATIONS, 2, 3, LayerSettings(True), edges=edges
  )

  def ours(values):
    parts = [v.reshape(shape) for v, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)]
    named = zip(map(search_path, data["names"]), parts, strict=True)
    return unflatten({path: kernel(v) if v.ndim > 1 else v for path, v in named}, network)

  alphas = {"normal": jnp.asarray(data["alphas_normal"]), "reduction": jnp.asarray(data["alphas_reduce"])}
  images, params = jnp.asarray(data["x"].transpose(0, 2, 3, 1)), ours(data["p"])
  mask = Alphas(jnp.ones((14, 8), bool))
  initial = network.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(images.shape, jnp.float64), alphas)
  assert jax.tree.structure(initial["params"]) == jax.tree.structure(params)
  statistics = jax.tree.map(lambda s: s.astype(jnp.float64), initial["batch_stats"])

  def loss(params, alphas):
    mixtures = {k: softmax(Alphas(a), mask, Moment()) for k, a in alphas.items()}
    outputs, _ = network.apply(
      {"params": params, "batch_stats": statistics}, images, mixtures, True, mutable=["batch_stats"]
    )
    return losses.cross_entropy(outputs.logits, jnp.asarray(data["y"])), outputs.logits

  (value, logits), (by_params, by_alphas) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
    params, alphas
  )
  np.testing.assert_allclose(logits, data["logits"], rtol=1e-9)
  np.testing.assert_allclose(value, data["loss"], rtol=1e-9)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(np.abs(b).max(), 1e-3))
  close(by_alphas["normal"], data["galpha_normal"])
  close(by_alphas["reduction"], data["galpha_reduce"])
  jax.tree.map(close, by_params, ours(data["g"]))


@pytest.mark.slow
@pytest.mark.parametrize("stem,size", [("cifar", 32), ("imagenet", 224)])
def test_final_network_equals_a_plain_pytorch_one(x64, stem, size):
  torch = pytest.importorskip("torch", reason="PyTorch, the extra 'torch', is not installed")
  from tests import torch_darts

  torch.manual_seed(0)
  theirs = torch_darts.EvaluationNetwork(formats.DARTS_V2, 4, 6, 7, stem).double().train()
  for parameter in theirs.parameters():  # Fresh norms are the identity, which would hide a swap.
    if parameter.ndim == 1:
      torch.nn.init.uniform_(parameter, 0.5, 1.5)
  ours = Network(formats.DARTS_V2.layout(6), formats.DARTS_V2.cells, DARTS_OPERATIONS, 4, 7, stem=stem, auxiliary=True)
  x = np.random.default_rng(0).normal(size=(3, size, size, 3))
  labels = np.array([0, 3, 6])
  params = unflatten(
    {torch_darts.our_path(n): _leaf(n, p.detach().numpy()) for n, p in theirs.named_parameters()}, ours
  )
  initial = ours.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(x.shape, jnp.float64))
  assert jax.tree.structure(initial["params"]) == jax.tree.structure(params)
  statistics = jax.tree.map(lambda s: s.astype(jnp.float64), initial["batch_stats"])

  def loss(params):
    outputs, _ = ours.apply(
      {"params": params, "batch_stats": statistics}, jnp.asarray(x), None, True, mutable=["batch_stats"]
    )
    return losses.training_loss(outputs, jnp.asarray(labels), 0.4, 0.0), outputs

  (value, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  logits, auxiliary = theirs(torch.tensor(x.transpose(0, 3, 1, 2)))
  entropy = lambda o: torch.nn.functional.cross_entropy(o, torch.tensor(labels))
  total = entropy(logits) + 0.4 * entropy(auxiliary)
  total.backward()
  np.testing.assert_allclose(outputs.logits, logits.detach(), rtol=1e-9)
  np.testing.assert_allclose(outputs.auxiliary, auxiliary.detach(), rtol=1e-9)
  np.testing.assert_allclose(value, total.item(), rtol=1e-9)
  expected = unflatten({torch_darts.our_path(n): _leaf(n, p.grad.numpy()) for n, p in theirs.named_parameters()}, ours)
  largest = max(np.abs(g).max() for g in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(np.abs(b).max(), 1e-3 * largest)),
    gradient,
    expected,
  )


def _leaf(name, value):
  if value.ndim == 1:
    return value
  # The auxiliary head's convolutions are full ones, its 1x1 included.
  return value.transpose(2, 3, 1, 0) if name.startswith("auxiliary.conv") else kernel(value)
