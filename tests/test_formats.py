"""Genotypes as people bring them."""

import collections
import json
import time

import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.search_space import darts_format
from lfr_darts_jax.search_space.cell_spec import CellSpec, GenotypeError
from lfr_darts_jax.search_space.formats import DARTS_V2, as_genotype, parse
from lfr_darts_jax.search_space.genotype import Genotype
from tests.parallel_cells import AMOEBANET, MODULE, NASNET

# The pairs of two nodes each.
NORMAL = ("('dil_conv_3x3', 1), ('avg_pool_3x3', 0)", "('skip_connect', 0), ('sep_conv_5x5', 2)")
REDUCE = ("('max_pool_3x3', 0), ('skip_connect', 1)", "('max_pool_3x3', 1), ('dil_conv_5x5', 2)")
EXPECTED = Genotype(
  (
    CellSpec(
      "normal", "normal", (("avg_pool_3x3",), ("dil_conv_3x3",), ("skip_connect",), (), ("sep_conv_5x5",)), (2, 3)
    ),
    CellSpec(
      "reduction", "reduction", (("max_pool_3x3",), ("skip_connect",), (), ("max_pool_3x3",), ("dil_conv_5x5",)), (2, 3)
    ),
  )
)
FIELDS = {
  "normal": [["dil_conv_3x3", 1], ["avg_pool_3x3", 0], ["skip_connect", 0], ["sep_conv_5x5", 2]],
  "normal_concat": [2, 3],
  "reduce": [["max_pool_3x3", 0], ["skip_connect", 1], ["max_pool_3x3", 1], ["dil_conv_5x5", 2]],
  "reduce_concat": [2, 3],
}


def spelled(node="{}", more=""):
  """DARTS's text of two cells; `node` is what stands around the pairs of a node."""
  listed = lambda nodes: "[" + ", ".join(node.format(pairs) for pairs in nodes) + "]"
  return (
    f"Genotype(normal={listed(NORMAL)}, normal_concat=range(2, 4), reduce={listed(REDUCE)}, reduce_concat=[2, 3]{more})"
  )


PLAIN = spelled()
OTHER = PLAIN.replace("dil_conv_3x3", "sep_conv_3x3")
POSITIONAL = PLAIN
for name in FIELDS:
  POSITIONAL = POSITIONAL.replace(f"{name}=", "")
WORD = PLAIN.replace("'dil_conv_3x3'", "\u2018dil_conv_3x3\u2019").replace("'", '"', 2).replace(" ", "\u00a0")
LINES = "\n".join(map(str, EXPECTED.cells))


@pytest.mark.parametrize(
  "text",
  [
    PLAIN,
    f"\ufeff{PLAIN}\r\n",
    f"MINE = {PLAIN};",
    f"MINE: Genotype = {PLAIN}  # 97.1 %, it's the best",
    f"# searched on\n# my (own data\n\nMINE = \\\n  {PLAIN}",
    f"# MINE = {PLAIN}".replace(", reduce", ",\n#  reduce"),
    f"# OLD = {OTHER}\nMINE = {PLAIN}\n# OLDER = {OTHER}",
    f"import genotypes as gt; MINE = gt.{PLAIN}; print(MINE)",
    f"DARTS{PLAIN}",
    f"05/06 07:08:09 AM [search.py:77] INFO: don't stop; genotype = {PLAIN} acc=(93",
    f"INFO:root:genotype = {OTHER}\nINFO:root:genotype = {PLAIN}\nINFO:root:valid 90",
    f"```python\n{PLAIN}\n```",
    f"'{PLAIN}'",
    f'"{PLAIN}"\n',
    json.dumps(PLAIN.replace("'", '"')),
    json.dumps({"epoch": 3, "genotype": PLAIN.replace("'", '"')}, indent=1),
    json.dumps({"genotype": OTHER}) + "\n" + json.dumps({"genotype": PLAIN}) + "\n",
    WORD,
    PLAIN.replace("=", " = ").replace("), (", "),\n    # the next one\n\n\t(").replace(")]", "),]"),
    POSITIONAL,
    POSITIONAL.replace(", range", ", normal_concat=range")
    .replace(", [('max", ", reduce=[('max")
    .replace(" [2", " reduce_concat=[2"),
    spelled(more=", connectN=None, connects=None"),
    spelled(more=", normal_bottleneck='', reduce_bottleneck=''"),
    POSITIONAL.replace("[2, 3])", "[2, 3], None, None)"),
    spelled("({})"),
    spelled("[{}]"),
    PLAIN.replace("range(2, 4)", "list(range(2, 4))")
    .replace("'skip_connect', 0", "np.str_('skip_connect'), np.int64(0)")
    .replace("[2, 3]", "(2, 3)"),
    json.dumps(FIELDS),
    f"epoch 3: {FIELDS}",
    json.dumps({"spec": FIELDS}),
    json.dumps(list(FIELDS.values())),
    json.dumps(dict(reversed(FIELDS.items()))),
    EXPECTED.to_json(),
    json.dumps(EXPECTED.to_json()),
    f"found\n\n```json\n{EXPECTED.to_json()}```\n",
    str(json.loads(EXPECTED.to_json())),
    repr(EXPECTED),
    f"found {EXPECTED.cells!r} in 3 s",
    LINES,
    LINES.replace("\n", " "),
    "\n".join(f"{cell} | entropy 1.2 | 2 skip_connects | validation accuracy 87.5 %" for cell in EXPECTED.cells),
    f"seed 1 | {LINES}".replace("\n", "\nseed 1 | "),
    LINES.replace("dil_conv_3x3(1)", "dil_conv_3x3|none(1)") + "\n" + LINES,
  ],
)
def test_spellings_of_one_genotype(text):
  assert parse(text) == EXPECTED


TRIPLES = "Genotype(normal=[{}], normal_concat=range(2, {}), reduce=[('skip_connect', 2, 0)], reduce_concat=[2])"


def test_sparse_triples_name_the_node_or_the_source_first():
  for triples in ("('sep_conv_3x3', 2, 0), ('skip_connect', 3, 2)", "('skip_connect', 2, 3), ('sep_conv_3x3', 0, 2)"):
    normal, reduction = parse(TRIPLES.format(triples, 4)).cells
    assert str(normal) == "normal normal: 2 = sep_conv_3x3(0), 3 = skip_connect(2)"
    assert str(reduction) == "reduction reduction: 2 = skip_connect(0)"


def test_nodes_without_an_operation_are_left_out_with_what_reads_them(capsys):
  # Nothing goes into node 3, which node 4 reads; node 5 reads node 4, and becomes node 4.
  triples = "('sep_conv_3x3', 2, 1), ('skip_connect', 4, 3), ('max_pool_3x3', 4, 0), ('dil_conv_3x3', 5, 4)"
  normal, _ = as_genotype(TRIPLES.format(triples, 6)).cells
  assert str(normal) == "normal normal: 2 = sep_conv_3x3(1), 3 = max_pool_3x3(0), 4 = dil_conv_3x3(3)"
  assert capsys.readouterr().err == (
    "genotype: normal: no operation into 3: left out, and what reads it, as FairDARTS does\n"
  )


ONE_EACH = "Genotype(normal=[('sep_conv_3x3', 1)], normal_concat=[2], reduce=[{}], reduce_concat=range(2, {}))"


def test_nodes_with_one_edge(capsys):
  normal, reduction = parse(ONE_EACH.format("('skip_connect', 0), ('max_pool_3x3', 1), ('skip_connect', 3)", 5)).cells
  assert str(normal) == "normal normal: 2 = sep_conv_3x3(1)"
  assert str(reduction) == "reduction reduction: 2 = skip_connect(0), 3 = max_pool_3x3(1), 4 = skip_connect(3)"
  assert parse(darts_format.to_darts(Genotype((normal, reduction)))) == Genotype((normal, reduction))
  _, reduction = as_genotype(ONE_EACH.format("('skip_connect', 0), ('max_pool_3x3', 1)", 4)).cells
  assert str(reduction) == "reduction reduction: 2 = skip_connect(0), 3 = max_pool_3x3(1)"
  assert "reduce: one operation into every node" in capsys.readouterr().err
  with pytest.raises(GenotypeError, match="column 66: reduce: 3 pairs, and an output that joins states up to 3; allow"):
    parse(ONE_EACH.format("('skip_connect', 0), ('max_pool_3x3', 1), ('skip_connect', 0)", 4))


def test_published_cells_with_two_operations_on_one_edge():
  assert [cell.parallel for cell in (*NASNET.cells, *AMOEBANET.cells)] == [True, False, True, False]
  assert str(NASNET.cells[0]).split(": ")[1] == (
    "2 = sep_conv_3x3(0) + sep_conv_5x5(1), 3 = sep_conv_5x5(0) + sep_conv_3x3(0), 4 = skip_connect(0) + "
    "avg_pool_3x3(1), 5 = avg_pool_3x3(0) + avg_pool_3x3(0), 6 = sep_conv_3x3(1) + skip_connect(1)"
  )
  for genotype in (NASNET, AMOEBANET):
    texts = (genotype.to_json(), darts_format.to_darts(genotype), repr(genotype), "\n".join(map(str, genotype.cells)))
    assert [parse(text) == genotype for text in texts] == [True] * 4


def test_a_module_is_read_by_name(tmp_path, capsys):
  path = tmp_path / "genotypes.py"
  path.write_text("import collections\n\nGenotype = collections.namedtuple('Genotype', 'normal reduce')\n" + MODULE)
  assert as_genotype(f"{path}:NASNet") == NASNET
  assert as_genotype(f"{path}:AmoebaNet") == as_genotype(f"{path}:BEST") == AMOEBANET
  with pytest.raises(UsageError, match="genotypes.py: there are several; allowed is FILE:NAME with one of NASNet, Amo"):
    as_genotype(path)
  with pytest.raises(UsageError, match="genotypes.py: nothing is named PDARTS; allowed are NASNet, AmoebaNet"):
    as_genotype(f"{path}:PDARTS")
  with pytest.raises(UsageError, match="is no file; allowed are a file, FILE:NAME"):
    as_genotype(f"{tmp_path}/nowhere.py:NASNet")
  assert capsys.readouterr().err == ""
  path.write_text(f"{MODULE}\n# OLD = {PLAIN}\nNASNet = {OTHER}\nNASNet = {PLAIN}\n")
  path.write_text(path.read_text() + f"LAST = MINE = gt.from_str({PLAIN!r})\n")
  assert as_genotype(f"{path}:LAST") == as_genotype(f"{path}:MINE") == EXPECTED
  assert as_genotype(f"{path}:OLD") == as_genotype(f"{path}:NASNet") == EXPECTED
  assert capsys.readouterr().err == f"genotype: {path}: the last of 3 is read, on line 43, column 10\n"


def test_what_a_genotype_may_be_given_as(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "a (copy).txt"
  path.write_text(f"genotype = {OTHER}\ngenotype = {PLAIN}\n")
  for given in (path, str(path), "a (copy).txt"):
    assert as_genotype(given) == EXPECTED
    assert capsys.readouterr().err.endswith("a (copy).txt: the last of 2 is read, on line 2, column 12\n")
  path.write_text(PLAIN, encoding="utf-16")
  fields = FIELDS | {"normal_concat": range(2, 4)}
  theirs = collections.namedtuple("Genotype", fields)(**fields)
  for given in (path, PLAIN, LINES, EXPECTED.to_json(), EXPECTED, FIELDS, theirs):
    assert as_genotype(given) == EXPECTED
  assert as_genotype("DARTS_V2") is DARTS_V2
  for given in (None, 3, ["x"]):
    with pytest.raises(UsageError, match="genotype: .*; allowed are a Genotype, a name, a path and text"):
      as_genotype(given)
  path.write_bytes(b"Genotype(\xff)")
  with pytest.raises(UsageError, match="byte 9 is not UTF-8"):
    as_genotype(path)


BAD_LINES = LINES.replace("3 = ", "three = ", 1)


@pytest.mark.parametrize(
  "text,message",
  [
    (
      f"a\nX = {PLAIN}".replace("dil_conv_3x3", "dil_conv_9x9"),
      "line 2, column 23: normal: node 2 names the operation 'd",
    ),
    (
      f"X = {PLAIN}".replace("'skip_connect', 0", "'none', 0"),
      "column 65: normal: node 3 names the operation 'none', which",
    ),
    (
      PLAIN.replace("('skip_connect', 0)", "('skip_connect', 3)"),
      "line 1, column 77: normal: node 3 reads state 3; al",
    ),
    (
      PLAIN.replace("('skip_connect', 0)", "'skip_connect'"),
      "line 1, column 60: normal: node 3 has 'skip_connect', which is",
    ),
    (spelled("[[{}]]"), "line 1, column 19: normal: node 2 has .*, which is no .operation, source."),
    (
      PLAIN.replace("[('dil", "[[('dil").replace("1), ", "1)], ", 1),
      "line 1, column 41: normal: .*; allowed are pairs, or",
    ),
    (
      PLAIN.replace("'avg_pool_3x3', 0", "'avg_pool_3x3', 2, 0"),
      "line 1, column 18: normal: .*'dil_.*; allowed are .opera",
    ),
    (PLAIN.replace("'avg_pool_3x3', 0", "'avg_pool_3x3', 0, 0.3"), "normal: .*; allowed are .operation, node, source"),
    (TRIPLES.format("('sep_conv_3x3', 1, 0)", 3), "column 18: normal: .*; allowed are .operation, node, source. each"),
    (PLAIN.replace("range(2, 4)", "(2, 2)"), "line 1, column 117: normal.concat: .2, 2.; allowed are distinct"),
    (
      PLAIN.replace("normal=", "normal=PRIMITIVES+"),
      "line 1, column 17: 'PRIMITIVES'; allowed are lists, tuples, strings",
    ),
    (PLAIN.replace("], normal", "] * 2, normal"), "line 1, column 102: '\\*'; allowed are lists"),
    (PLAIN[:-20], "line 1, column 1: what begins here can't be read to its end"),
    (f"x = {PLAIN}\ny = {PLAIN[:100]}", "allowed is FILE:NAME with one of x, y"),
    (f"x = {PLAIN}\nx = {PLAIN[:100]}", "line 2, column 5: what begins here can't be read to its end"),
    (spelled(more=", connectN=3"), "line 1, column 1: the genotype has connectN=3; allowed are normal, normal_concat,"),
    (spelled(more=", normal=[]"), "normal stands there twice"),
    (PLAIN.replace("normal=", "", 1).replace(")]", ")], normal=[]", 1), "normal is given twice"),
    (POSITIONAL.replace("[2, 3])", "[2, 3], 4)"), "has argument 5=4"),
    (f"Genotype(normal={FIELDS['normal']}, normal_concat=[2, 3])", "lacks reduce, reduce_concat"),
    (
      "Genotype(recurrent=[('relu', 0)], concat=range(1, 9))",
      "a recurrent cell of DARTS's language models; allowed are",
    ),
    (json.dumps(FIELDS | {"normal": []}), "normal: .*; allowed is a list of .operation, source. pairs"),
    ('{"normal_n2_p0": 3, "normal_n2_switch": ["normal_n2_p0"]}', "an export of NNI, which can't be read; allowed are"),
    ("{'reduce/op_2_0': 'sep_conv_3x3', 'reduce/input_2_0': [0]}", "an export of NNI"),
    ("Structure(4 nodes with |none~0|+|nor_conv_3x3~0|none~1|)", "a string of NAS-Bench-201, which can't be read"),
    (
      "{'NetworkSelectorDatasetInfo:darts:edge_normal_0': 'x'}",
      "a configuration of NAS-Bench-301, which can't be read",
    ),
    (BAD_LINES, "line 1, column 53: ', three = skip_connect.* in cell normal; allowed is 2 = OPERATION"),
    (LINES.replace("(2)", "(9)"), "line 1, column 77: normal: node 3 reads state 9"),
    (
      LINES.replace("dil_conv_3x3", "dil_conv_3x3|none"),
      "line 1, column 38: 'normal' has .*'none'.* on one edge; allowed are",
    ),
    (
      f"seed 0 | {LINES}".replace("\n", "\nseed 1 | "),
      "cells of searches with different seeds; allowed are those of one",
    ),
    (
      repr(CellSpec.full("n0", "normal", 1, ("none", "skip_connect"))),
      "column 48: 'n0' has .* on one edge; allowed are",
    ),
    (
      repr(EXPECTED).replace("'sep_conv_5x5'", "'none'"),
      "line 1, column 130: normal: node 3 names the operation 'none'",
    ),
    (repr(EXPECTED).replace("kind=", "sort="), "CellSpec.* allowed is CellSpec"),
    (repr(EXPECTED).replace("('skip_connect',), ", "", 1), "candidates .* allowed are operations of every edge"),
    (repr(EXPECTED).replace("name='reduction'", "name='normal'"), "'normal' names an earlier cell too"),
    (repr(EXPECTED).replace("cells=", "cells=3, more="), "lacks normal"),
  ],
)
def test_what_is_refused_names_its_place(text, message):
  with pytest.raises(GenotypeError, match=message) as error:
    parse(text)
  assert "\n" not in str(error.value) and len(str(error.value)) < 2000
  with pytest.raises(UsageError, match="genotype: "):
    as_genotype(text + "\n")


def test_odd_texts_take_no_longer_than_they_are():
  # Where something were looked for again and again, minutes.
  began, size = time.process_time(), 300_000
  parts = (
    "Genotype(",
    "# Genotype(",
    "normal normal: 2 = ",
    "CellSpec(",
    "a.",
    "x",
    "{ ",
    "'''",
    "|a",
    "     \\",
    "a=b\n",
  )
  for part in parts:
    for end in ("", "Genotype("):
      with pytest.raises(UsageError):
        as_genotype(part * (size // len(part)) + end)
  assert time.process_time() - began < 30
