"""Chains: blocks and mixed layers by hand, the counts of NAS-Bench-Macro, searches that are killed and continued."""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import mobile
from lfr_darts_jax import config as schema, pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.models import cost
from lfr_darts_jax.models.cell import NO_RATES
from lfr_darts_jax.models.chain import Chain, ChainLayer, Identity, InvertedResidual
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.models.spaces import final_network, supernet
from lfr_darts_jax.search import measured, plans
from lfr_darts_jax.search.bilevel import SearchSteps
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype

TABLE = pathlib.Path(__file__).parents[2] / "shared" / "ground_truth" / "nas-bench-macro_cifar10_run0.json"
# Weights and multiply-adds as NAS-Bench-Macro's table has them.
COUNTS = {
  "00000000": (387882, 7713280),
  "00000100": (507562, 11962880),
  "00011021": (1830186, 40337920),
  "00110021": (1757802, 38130176),
  "00200220": (1580458, 39657984),
  "00201002": (1399594, 36950528),
  "00211101": (1195050, 40917504),
  "00220102": (1634858, 48499200),
  "01000200": (699498, 23667200),
  "01000210": (1103210, 30069248),
  "01001022": (2181610, 47354368),
  "01001202": (1634538, 43377152),
  "01002222": (2581610, 63873536),
  "01010112": (1873514, 44808704),
  "01020002": (1465706, 41456128),
  "01101212": (2069418, 54084096),
  "01120020": (1496874, 45761024),
  "01120101": (1188778, 43215360),
  "01121020": (1600426, 52273664),
  "01122120": (1835690, 63822336),
  "02010222": (2499242, 64881152),
  "02021122": (2553642, 73722368),
  "02022001": (1290282, 56779264),
  "02110021": (1818218, 53170688),
  "02111021": (1921770, 59683328),
  "02200101": (1048362, 42932736),
  "02202000": (744106, 46092800),
  "02211000": (732074, 45306368),
  "02220120": (1695274, 63539712),
  "02221000": (847658, 52605440),
  "10011111": (1530506, 42207744),
  "10020021": (1850634, 45539840),
  "10021022": (2381962, 58847744),
  "10101110": (1054410, 33597952),
  "10102000": (646602, 30245376),
  "10111002": (1466058, 42656256),
  "10112221": (2269770, 65577472),
  "10120012": (1881802, 49844736),
  "10121002": (1581642, 49955328),
  "10122200": (1150154, 53277184),
  "10201011": (1383946, 40972800),
  "10201221": (2096138, 56988160),
  "10202002": (1523594, 48665088),
  "10222100": (1030922, 53529088),
  "11000122": (2206154, 49506816),
  "11022210": (1549898, 62108160),
  "11022212": (2381386, 75305472),
  "11111000": (661770, 36192768),
  "11112212": (2296970, 72311296),
  "11201121": (1958602, 58751488),
  "11212201": (1510986, 64336384),
  "11222022": (2601418, 82407936),
  "12000000": (456714, 27169280),
  "12000220": (1572618, 49586688),
  "12022020": (1726474, 67990016),
  "12100121": (1842762, 55323136),
  "12100201": (1176010, 47096320),
  "12110102": (1542602, 55433728),
  "12111110": (1218378, 55151104),
  "12112202": (1926474, 74215936),
  "12200010": (937098, 43098624),
  "12201010": (1040650, 49611264),
  "12202010": (1156234, 56910336),
  "12212011": (1663498, 69825024),
  "12222120": (1922826, 81766912),
  "20001221": (2033002, 53187072),
  "20002202": (1744874, 54084096),
  "20011000": (616938, 30880256),
  "20011002": (1448426, 44077568),
  "20011110": (1140330, 41531904),
  "20012020": (1564010, 51376640),
  "20012122": (2515178, 68823552),
  "20021211": (1824362, 60203520),
  "20101012": (1779754, 48271872),
  "20120000": (660138, 35971584),
  "20121021": (1998890, 62083584),
  "20200220": (1602410, 49799680),
  "20202121": (2060522, 65042944),
  "20210000": (590058, 33894912),
  "20212100": (928874, 51956224),
  "20212122": (2591850, 78350848),
  "20221121": (2164074, 71555584),
  "21000201": (1125162, 40210944),
  "21012022": (2422698, 71307776),
  "21111201": (1363434, 57541120),
  "21200112": (1868586, 57965056),
  "21220111": (1659946, 64981504),
  "21220221": (2252458, 76747264),
  "21221101": (1359786, 65092096),
  "21222111": (1879082, 78793216),
  "22002100": (809066, 50956800),
  "22012102": (1744106, 70666752),
  "22012120": (1744106, 70666752),
  "22111022": (2371498, 76620288),
  "22111222": (2655914, 85840384),
  "22210210": (1338602, 64557568),
  "22211012": (1989226, 75047424),
  "22212220": (1985514, 85164544),
  "22222002": (1816682, 83243520),
  "22222112": (2340074, 93895168),
}


def small(**overrides):
  """A chain of three layers on digits."""
  config = mobile.get_config("macro,laptop")
  config.data.update(name="digits", image_size=8, channels=1, flip="none", crop_padding=1, search_fraction=0.2)
  config.space.update(sections=((1, 2, 2), (2, 3, 1)), head=4, blocks=("mb1_k3", "mb2_k5"))
  config.search.update(channels=4, batch_size=16, epochs=1, steps_per_chunk=2)
  config.network.channels = 4
  config.train.update(batch_size=64, epochs=1)
  flat = schema.flatten(config)
  config = schema.unflatten({**flat, **overrides})
  schema.validate(config)
  return config


def costs_of(config):
  """Parts of every choice in parameters and multiply-adds, and what is always there."""
  plan, shape = plans.make(config), (32, 32, 3)
  network = final_network(config, plan.genotype(plan.cells))
  whole = cost.describe(network, shape)
  found = {}
  for unit in ("parameters", "multiply_adds"):
    parts = cost.candidates(network, shape, unit)
    found[unit] = whole[unit] - sum(int(p.sum()) for p in parts.values()), [parts[f"l{i}"][0] for i in range(8)]
  return found


def counts(found, code):
  return tuple(fixed + sum(int(parts[i][int(d)]) for i, d in enumerate(code)) for fixed, parts in found.values())


def test_the_counts_of_nas_bench_macro():
  found = costs_of(mobile.get_config("macro"))
  assert len(COUNTS) == 100
  assert {code: counts(found, code) for code in COUNTS} == COUNTS


def test_describe_counts_what_the_parts_sum_to():
  found = pipeline.describe(mobile.get_config("macro"), formats.parse("22212220"))
  assert (found["parameters"], found["multiply_adds"]) == COUNTS["22212220"]


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.exists(), reason="the table is not there")
def test_all_counts_of_nas_bench_macro():
  found, table = costs_of(mobile.get_config("macro")), json.loads(TABLE.read_text())
  assert len(table) == 6561
  assert all(counts(found, code) == (row["params"], row["flops"]) for code, row in table.items())


def test_a_block_by_hand():
  # Ones everywhere, 2 features: 1x1 to 4 features of 2, whose batch norm at rest keeps them; a 3x3 sum of nine of them
  # in the middle of the image is 18; a 1x1 of four gives 72; the input of 1 is added.
  block = InvertedResidual(2, 1, LayerSettings(), expansion=2, size=3)
  x = jnp.ones((1, 5, 5, 2))
  variables = jax.tree.map(jnp.ones_like, block.init(jax.random.key(0), x, False))
  stats = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
  stats = {name: {"mean": s["mean"], "var": jnp.ones_like(s["var"])} for name, s in stats.items()}
  params = jax.tree_util.tree_map_with_path(lambda path, p: p * (path[-1].key != "bias"), variables["params"])
  y = block.apply({"params": params, "batch_stats": stats}, x, False)
  np.testing.assert_allclose(y[0, 2, 2], [73, 73], rtol=1e-4)
  np.testing.assert_allclose(y[0, 0, 0], [33, 33], rtol=1e-4)  # Four of nine in a corner.


def test_identities():
  x = jnp.arange(16.0).reshape(1, 2, 4, 2)
  unchanged = Identity(2, 1, LayerSettings())
  assert not unchanged.init(jax.random.key(0), x, False)
  np.testing.assert_array_equal(unchanged.apply({}, x, False), x)
  for channels, stride in ((2, 2), (3, 1)):
    other = Identity(channels, stride, LayerSettings())
    assert other.init_with_output(jax.random.key(0), x, False)[0].shape == (1, 2 // stride, 4 // stride, channels)


def test_a_mixed_layer_is_the_weighted_sum_and_skips_what_has_no_weight():
  names, settings = ("identity", "mb1_k3", "mb2_k5"), LayerSettings(searching=True)
  layer = lambda mask=None: ChainLayer(names, 3, 1, settings, mask)
  x = jax.random.normal(jax.random.key(1), (4, 6, 6, 3))
  variables = layer().init(jax.random.key(0), x, jnp.ones(3), True, NO_RATES)
  run = lambda weights, v=variables: layer(jnp.array(weights) > 0).apply(
    v, x, jnp.array(weights), True, NO_RATES, mutable=["batch_stats"]
  )
  alone = [run([1.0 * (i == j) for j in range(3)])[0] for i in range(3)]
  np.testing.assert_array_equal(alone[0], x)
  mixed, _ = run([0.2, 0.3, 0.5])
  np.testing.assert_allclose(mixed, 0.2 * alone[0] + 0.3 * alone[1] + 0.5 * alone[2], atol=1e-5)
  # What is skipped is not computed: numbers that are none do no harm, and its statistics stay.
  broken = jax.tree_util.tree_map_with_path(
    lambda path, leaf: jnp.full_like(leaf, jnp.nan) if "mb2_k5" in str(path[1]) else leaf, variables
  )
  y, updated = run([0.5, 0.5, 0.0], broken)
  assert jnp.isfinite(y).all()
  assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(updated["batch_stats"]["mb2_k5"]))
  old, new = (jax.tree.leaves(v["batch_stats"]["mb1_k3"]) for v in (variables, updated))
  assert not all(jnp.array_equal(a, b) for a, b in zip(old, new, strict=True))


def test_shallow_chains_have_the_first_layers():
  config = small()
  plan = plans.make(config)
  assert [stage.present for stage in plan.stages] == [("l0",), ("l0", "l1"), ("l0", "l1", "l2")]
  # The second section's layers share a supernet.
  assert [stage.layout for stage in plan.stages] == [("l0",), ("l0", "l1", "l2"), ("l0", "l1", "l2")]
  assert [stage.absent for stage in plan.stages] == [(), ("l2",), ()]
  assert [stage.settled for stage in plan.stages] == [(), ("l0",), ("l0", "l1")]
  by_section = plans.make(small(**{"plan.unit": "section"}))
  assert [stage.searched for stage in by_section.stages] == [("l0",), ("l1", "l2")]
  assert plans.make(small(**{"plan.name": "per_section"})).stages[0].layout == ("s0", "s1", "s1")
  network = final_network(config, formats.parse(GENOTYPE))
  assert network.layer_features(8, 11) == [(4, 6, 8), (4, 6, 12), (4, 6, 12)]


GENOTYPE = (
  '{"format": "lfr-darts-genotype", "version": 2, "space": "mobile", "layers": ["mb1_k3", "identity", "mb2_k5"]}\n'
)


def test_genotypes_of_chains():
  genotype = formats.parse(GENOTYPE)
  assert genotype.to_json() == GENOTYPE
  assert str(genotype.cells[2]) == "l2: mb2_k5"
  assert [cell.candidates[0][0] for cell in formats.as_genotype("20100002").cells[:3]] == [
    "mb6_k5",
    "identity",
    "mb3_k3",
  ]
  for text, message in (
    (GENOTYPE.replace("mobile", "cells"), "space"),
    (GENOTYPE.replace("mb1_k3", "sep_conv_3x3"), r"layers\[0\].*mb6_k5"),
    (GENOTYPE.replace('"layers"', '"cells"'), "unknown key"),
    (GENOTYPE.replace('["mb1_k3", "identity", "mb2_k5"]', "[]"), "1 to 64"),
  ):
    with pytest.raises(UsageError, match=message):
      formats.parse(text)
  with pytest.raises(UsageError, match="3 layers; config.space allows 8"):
    pipeline.describe(mobile.get_config("macro"), genotype)
  with pytest.raises(UsageError, match="chain"):
    pipeline.describe(schema.get_config("digits"), genotype)
  with pytest.raises(UsageError, match="2 cells; config.space allows 8 layers"):
    pipeline.describe(mobile.get_config("macro"), formats.DARTS_V2)


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("plan.name", "darts", "plan.name: 'darts'; allowed are lfr_darts, joint, per_section"),
    ("search.gate", "gumbel", "sampled is meant for chains"),
    ("search.partial_channels", 2, "search.partial_channels: 2; allowed is 1"),
    ("train.auxiliary_weight", 0.4, "train.auxiliary_weight: 0.4; allowed is 0"),
    ("space.blocks", ("mb6",), "space.blocks"),
    ("space.sections", ((1, 2, 3),), "space.sections"),
  ],
)
def test_what_chains_refuse(name, value, message):
  with pytest.raises(UsageError, match=message):
    small(**{name: value})


def test_an_additive_model_of_losses_by_hand():
  # Losses a + b beside the batch's own, a in (0, ln 3) and b in (0, ln 2): strengths 3/4, 1/4 and 2/3, 1/3; a third
  # column is no candidate. Without a constant per batch a would seem to cost 5 less.
  draws = np.array([[[0, 0], [0, 1], [1, 1]], [[1, 0], [1, 1], [0, 0]]])
  values = np.array([[2], [-3]]) + np.log(3) * draws[..., 0] + np.log(2) * draws[..., 1]
  chosen = {"a": np.eye(3)[draws[..., 0]], "b": np.eye(3)[draws[..., 1]]}
  found = measured.additive(chosen, values, {"a": [0, 1], "b": [0, 1]})
  np.testing.assert_allclose(found["a"], [[0.75, 0.25, 0]], atol=1e-9)
  np.testing.assert_allclose(found["b"], [[2 / 3, 1 / 3, 0]], atol=1e-9)


@pytest.mark.parametrize(
  "plan",
  [pytest.param("lfr_darts", marks=pytest.mark.slow), pytest.param("joint", marks=pytest.mark.slow), "per_section"],
)
def test_a_run_with_a_budget_from_images_to_a_page(tmp_path, plan, capsys):
  limit = 8_000
  config = small(
    **{
      "plan.name": plan,
      "search.budget": (("multiply_adds", limit),),
      "search.price_rate": 0.1,
      "search.measured_batches": 4,
    }
  )
  result = pipeline.run(config, tmp_path)
  assert result["multiply_adds"] <= limit
  genotype = formats.load(tmp_path / "genotype.json")
  assert len(genotype.cells) == 3
  assert f"chosen: {' '.join(cell.candidates[0][0] for cell in genotype.cells)}\n" in capsys.readouterr().out
  if plan == "per_section":
    assert genotype.cells[1].candidates == genotype.cells[2].candidates
  assert "chain" in " ".join(path.name for path in (tmp_path / "report" / "cells").iterdir())
  assert pipeline.describe(config, genotype)["multiply_adds"] == result["multiply_adds"]


def test_a_layer_that_is_the_identity_alone_is_as_good_as_none():
  config, plan = small(), plans.make(small())
  images, keys = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jax.random.split(jax.random.key(1), 2)
  mixtures = {f"l{i}": jax.nn.softmax(jax.random.normal(key, (1, 3))) for i, key in enumerate(keys)}
  with_identity = mixtures | {"l2": jnp.array([[1.0, 0.0, 0.0]])}
  whole, shallow = (supernet(config, layout, plan.cells, True) for layout in (("l0", "l1", "l2"), ("l0", "l1")))
  variables = whole.init(jax.random.key(2), images, with_identity)
  pruned = {kind: {n: v for n, v in tree.items() if n != "layer_2"} for kind, tree in variables.items()}
  of = lambda network, variables, mixtures: network.apply(variables, images, mixtures, True, mutable=["batch_stats"])[0]
  expected = of(shallow, pruned, mixtures).logits
  found = of(whole, variables, with_identity).logits
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("warmup", "programs"), [(1.0, 2), (0.5, 3)])
def test_stages_of_a_section_are_compiled_once_where_no_alphas_move(tmp_path, monkeypatch, warmup, programs):
  compiled, compile_ = [], SearchSteps.compile
  monkeypatch.setattr(SearchSteps, "compile", lambda *args: (compiled.append(args), compile_(*args)))
  pipeline.search(small(**{"search.warmup_fraction": warmup, "search.measured_batches": 4}), tmp_path)
  assert len(compiled) == programs


@pytest.mark.slow
def test_settled_alphas_stay_and_weights_go_on(tmp_path):
  from experiments import watched
  from lfr_darts_jax.data import datasets

  config, ends = small(), []
  known = lambda stage, alphas: {name: alphas[name] for name in (*stage.searched, *stage.settled)}
  watch = lambda stage, network, state: ends.append(
    jax.tree.map(np.asarray, (known(stage, state.alphas), state.params))
  )
  found = watched.search(config, datasets.open_dataset(config), tmp_path, watch)
  assert isinstance(found, Genotype) and len(ends) == 3
  for before, after in itertools.pairwise(ends):
    for name, alphas in before[0].items():
      np.testing.assert_array_equal(after[0][name].operations, alphas.operations)
  kernel = lambda end: end[1]["layer_0"]["mb1_k3"]["Dense_0"]["kernel"]
  # Inherited, and trained on: close, and not the same.
  assert 0 < np.abs(kernel(ends[1]) - kernel(ends[0])).max() < np.abs(kernel(ends[0])).max()
  # So is the head, as long as the supernet stays.
  head = lambda end: end[1]["head"]["kernel"]
  assert 0 < np.abs(head(ends[2]) - head(ends[1])).max() < np.abs(head(ends[1])).max()


def test_every_network_of_the_space_is_one_module():
  assert isinstance(final_network(mobile.get_config("macro"), formats.parse("22212220")), Chain)
