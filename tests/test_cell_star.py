import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.fields import DARTS_OPERATIONS
from lfr_darts_jax.models import cell_star, star_operations
from lfr_darts_jax.models.cell import NO_RATES, Rates
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.models.partial import PartialChannels
from lfr_darts_jax.runtime import target
from lfr_darts_jax.runtime.distributed import BatchSharding
from lfr_darts_jax.search import bilevel
from lfr_darts_jax.search_space import formats
from tests.conftest import ONE_OF_EACH_KIND
from tests.parallel_cells import SMALL
from tests.test_bilevel import STATISTICS, make, stage
from tests.test_cell import uneven

close = functools.partial(jax.tree.map, lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11))


def both(network, variables, images, mixtures, rates=NO_RATES, train=True, forms=("unroll", "star")):
  """A loss, statistics, and gradients by parameters, mixtures and images, by two forms of the cell."""
  results = []
  for form in forms:

    def loss(params, mixtures, images, form=form):
      outputs, updated = network.clone(edges=form).apply(
        variables | {"params": params},
        images,
        mixtures,
        train,
        rates,
        rngs={"dropout": jax.random.key(1)},
        mutable=True,
      )
      # Batch norms make the mean over the batch nearly zero.
      direction = np.random.default_rng(2).normal(size=outputs.logits.shape)
      return jnp.sum(jnp.sin(outputs.logits) * direction), updated.get("batch_stats")

    results.append(
      jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(variables["params"], mixtures, images)
    )
  return results


def of(net, **more):
  """`both` for a small supernet."""
  variables = {"params": net.params, "batch_stats": net.batch_stats}
  return both(net.network, variables, net.images, net.mixtures(), **more)


@pytest.mark.parametrize(
  "size,nodes,candidates",
  [
    ((7, 10), 3, uneven),
    pytest.param(8, 2, None, marks=pytest.mark.slow),
    pytest.param(9, 4, uneven, marks=pytest.mark.slow),
    pytest.param(8, 5, uneven, marks=pytest.mark.slow),
  ],
)
def test_star_equals_the_reference(x64, supernet, size, nodes, candidates):
  close(*of(supernet(nodes=nodes, size=size, candidates=candidates)))


def test_with_running_statistics(x64, supernet):
  close(*of(supernet(nodes=3, candidates=uneven), train=False))


def test_pruned_candidates_weigh_nothing(x64, supernet):
  net = supernet(operations=ONE_OF_EACH_KIND)
  net.mask = {n: m._replace(operations=m.operations.at[:, 3].set(False)) for n, m in net.mask.items()}
  (_, by_reference), (_, by_star) = results = of(net)
  close(*results)
  for params, *_ in (by_reference, by_star):
    assert max(jnp.abs(g).max() for g in jax.tree.leaves(params["layer_0"]["stride_1"]["sep_conv_3x3"])) == 0


@pytest.mark.parametrize("forms", [("unroll", "star"), ("unroll", "scan")])
def test_all_forms_drop_the_same_skips(x64, supernet, forms):
  # Dropout makes equal pixels, of which rounding would let one or the other win in a max pool.
  net = supernet(operations=("skip_connect", "avg_pool_3x3"))
  dropped = of(net, rates=Rates(skip=jnp.float64(0.4)), forms=forms)
  close(*dropped)
  assert abs(dropped[0][0][0] - of(net)[0][0][0]) > 1e-3


@pytest.mark.parametrize("form", ["scan", "star"])
@pytest.mark.parametrize("attention", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_partial_channels_in_all_forms(x64, supernet, form, attention):
  settings = LayerSettings(True, partial=PartialChannels(2, attention))
  net = supernet(operations=ONE_OF_EACH_KIND, size=(7, 10), settings=settings)
  results = of(net, forms=("unroll", form))
  close(*results)
  widths = {leaf.shape[-1] for leaf in jax.tree.leaves(net.params["layer_0"]["stride_1"])}
  assert widths == {2} and ("attention" in net.params["layer_0"]) == attention
  if attention:
    assert jnp.abs(results[0][1][0]["layer_1"]["attention"]).min() > 0


@pytest.mark.parametrize("form", ["scan", "star"])
def test_auxiliary_skips_in_all_forms(x64, supernet, form):
  net = supernet(operations=("none", "avg_pool_3x3"))
  forms, rates = ("unroll", form), Rates(auxiliary_skip=jnp.float64(0.5))
  added = of(net, rates=rates, forms=forms)
  close(*added)
  assert abs(added[0][0][0] - of(net)[0][0][0]) > 1e-3
  tested, plain = (of(net, rates=rates, train=False, forms=forms), of(net, train=False))
  close(tested[0], plain[0])  # They serve the search alone.


def test_statistics_of_groups(x64, supernet):
  net = supernet(layout=("n0",), operations=ONE_OF_EACH_KIND)
  whole = of(net)[0]
  net.network = net.network.clone(settings=LayerSettings(True, sharding=BatchSharding(group=2)))
  grouped = of(net)
  close(*grouped)
  assert abs(grouped[0][0][0] - whole[0][0]) > 1e-3


@pytest.mark.parametrize("composed,genotype", [(True, formats.DARTS_V2), (False, formats.DARTS_V2), (True, SMALL)])
def test_a_final_network_with_drop_path(x64, monkeypatch, composed, genotype):
  monkeypatch.setattr(cell_star, "MOST_COMPOSED", 64 if composed else 4)
  network = Network(genotype.layout(3), genotype.cells, DARTS_OPERATIONS, 4, 3, auxiliary=True)
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(4, 12, 17, 3)))
  variables = network.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(images.shape, jnp.float64))
  # Fresh norms are the identity, which would hide a swap.
  variables = jax.tree.map(lambda v: jnp.asarray(v + 0.1 * rng.uniform(size=v.shape)), variables)
  close(*both(network, variables, images, {}, Rates(path=jnp.float64(0.3))))


@pytest.mark.parametrize("form", ["scan", "star"])
def test_parallel_operations_in_all_forms(x64, form):
  # Derived cells of a supernet, since others do not loop over their edges.
  network = Network(("reduction",), SMALL.cells, DARTS_OPERATIONS, 4, 3, LayerSettings(True), remat=True)
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(4, 12, 12, 3)))
  variables = network.lazy_init(jax.random.PRNGKey(0), jax.ShapeDtypeStruct(images.shape, jnp.float64))
  variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), variables)
  # Two convolutions of each input have weights of their own.
  assert variables["params"]["layer_0"]["stride_2"]["sep_conv_3x3"]["Dense_0"]["kernel"].shape == (2, 8, 8)
  close(*both(network, variables, images, {}, Rates(skip=jnp.float64(0.3)), forms=("unroll", form)))


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_steps_of_star_and_scan_continue_each_other(x64, config, supernet, order):
  net = supernet(layout=("n0", "r0"), channels=2, operations=ONE_OF_EACH_KIND)
  scan, state, chunk = make(config, net, order=order)
  # As on an accelerator: each phase has the gradient that it needs alone.
  star = bilevel.SearchSteps(config, net.network.clone(edges="star"), stage(net), 20, STATISTICS, for_cpu=False)
  fresh = lambda: jax.tree.map(jnp.array, state)
  alone, sums = scan.run(fresh(), chunk, 4)
  for first, second in ((scan, star), (star, scan)):
    half, _ = first.run(fresh(), chunk, 2)
    done, _ = second.run(half, chunk, 4)
    close(done, alone)
  close(star.run(fresh(), chunk, 4)[1], sums)


def test_bfloat16_sums_in_float32(supernet):
  net = supernet(layout=("n0",), operations=("skip_connect", "max_pool_3x3"))
  network = net.network.clone(dtype="bfloat16")
  variables = {"params": net.params, "batch_stats": net.batch_stats}
  (loss, _), _ = both(network, variables, net.images, net.mixtures(), forms=("star",))[0]
  (exact, _), _ = of(net, forms=("star",))[0]
  np.testing.assert_allclose(loss, exact, atol=0.05)
  text = jax.jit(
    lambda m: network.clone(edges="star").apply(variables, net.images, m, True, mutable=["batch_stats"])[0].logits
  ).lower(net.mixtures())
  # Neither sums of statistics nor those of candidates are taken in bfloat16.
  assert not [
    line for line in text.as_text().splitlines() if "stablehlo.reduce" in line and "-> tensor<4x4xbf16>" in line
  ]


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_both_accelerators_convolve_alike(monkeypatch, platform):
  monkeypatch.setattr(target, "platform", lambda: platform)
  rng = np.random.default_rng(0)
  inputs = [jnp.asarray(rng.normal(size=(1, 4, 4, 2))) for _ in range(2)]
  kernels = jnp.asarray(rng.normal(size=(4, 3, 3, 2, 2)))
  convolve = functools.partial(star_operations.convolve, inputs, [2, 2], kernels)
  y = convolve()
  expected = star_operations.convolve(inputs[1:], [1], kernels[3:])
  np.testing.assert_allclose(y[:, :, :, 3:], expected, rtol=1e-5, atol=1e-6)
  assert str(jax.make_jaxpr(convolve)()).count("conv_general_dilated") == {"gpu": 1, "tpu": 2}[platform]
