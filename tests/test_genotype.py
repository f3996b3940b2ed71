import json

import pytest

from lfr_darts_jax.search_space.cell_spec import CellSpec, GenotypeError, edges
from lfr_darts_jax.search_space.darts_format import to_darts
from lfr_darts_jax.search_space.formats import DARTS_V2, parse
from lfr_darts_jax.search_space.genotype import Genotype

LAYERED = Genotype(
  tuple(
    CellSpec(n, {"n": "normal", "r": "reduction"}[n[0]], (("skip_connect",), ("sep_conv_3x3",)), (2,))
    for n in ("n0", "r0", "n1", "r1", "n2")
  )
)


def test_edges_run_by_target_then_source():
  assert edges(2) == [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
  assert len(edges(4)) == 14


@pytest.mark.parametrize("genotype", [DARTS_V2, LAYERED])
def test_json_round_trip(genotype):
  text = genotype.to_json()
  assert parse(text) == genotype
  cells = json.loads(text)["cells"]
  assert [c["name"] for c in cells] == [c.name for c in genotype.cells]


def test_json_lists_operation_and_source_per_node():
  assert json.loads(LAYERED.to_json())["cells"][0] == {
    "name": "n0",
    "kind": "normal",
    "nodes": [[["skip_connect", 0], ["sep_conv_3x3", 1]]],
    "concat": [2],
  }


def test_darts_round_trip():
  assert parse(to_darts(DARTS_V2)) == DARTS_V2
  assert parse("X = " + to_darts(DARTS_V2).replace("[2, 3, 4, 5]", "range(2, 6)")) == DARTS_V2
  with pytest.raises(GenotypeError, match="one normal and one reduction"):
    to_darts(LAYERED)


TWICE = """{"format": "lfr-darts-genotype", "version": 1, "cells": [
  {"name": "n0", "kind": "normal", "nodes": [
    [["avg_pool_3x3", 0], ["avg_pool_3x3", 0]],
    [["skip_connect", 0], ["sep_conv_3x3", 1], ["dil_conv_3x3", 1]]], "concat": [3]}
]}
"""


def test_several_operations_on_one_edge():
  (cell,) = parse(TWICE).cells
  assert cell.derived and cell.parallel and cell.nodes == 2
  assert cell.candidates == (("avg_pool_3x3",) * 2, (), ("skip_connect",), ("sep_conv_3x3", "dil_conv_3x3"), ())
  single = lambda source, target, name: (source, target, (name,))
  assert cell.connections == [
    single(0, 2, "avg_pool_3x3"),
    single(0, 2, "avg_pool_3x3"),
    single(0, 3, "skip_connect"),
    single(1, 3, "sep_conv_3x3"),
    single(1, 3, "dil_conv_3x3"),
  ]
  assert cell.count("avg_pool_3x3") == 2
  assert str(cell) == (
    "n0 normal: 2 = avg_pool_3x3(0) + avg_pool_3x3(0), "
    "3 = skip_connect(0) + sep_conv_3x3(1) + dil_conv_3x3(1); concat 3"
  )
  assert parse(Genotype((cell,)).to_json()) == Genotype((cell,))
  assert Genotype((cell,)).to_json() == TWICE


def test_one_operation_per_edge_is_no_parallel_cell():
  text = TWICE.replace('["avg_pool_3x3", 0], ', "").replace(', ["dil_conv_3x3", 1]', "")
  (cell,) = parse(text).cells
  assert not cell.parallel and cell == CellSpec("n0", "normal", cell.candidates, (3,))


def test_the_published_cells():
  normal, reduction = DARTS_V2.cells
  assert normal.connections[-1] == (2, 5, ("dil_conv_3x3",))
  assert reduction.count("skip_connect") == 3 and reduction.count("max_pool_3x3") == 5


def test_layouts_place_reductions_at_a_third_and_two_thirds():
  assert LAYERED.layout(20) == ("n0",) * 6 + ("r0",) + ("n1",) * 6 + ("r1",) + ("n2",) * 6
  assert LAYERED.layout(14) == ("n0",) * 4 + ("r0",) + ("n1",) * 4 + ("r1",) + ("n2",) * 4
  assert LAYERED.layout(5) == ("n0", "r0", "n1", "r1", "n2")
  assert [i for i, n in enumerate(DARTS_V2.layout(8)) if n == "reduction"] == [2, 5]
  with pytest.raises(GenotypeError, match="too few"):
    LAYERED.layout(4)


def test_candidates():
  cell = CellSpec.full("n0", "normal", 2, ("none", "skip_connect"))
  assert cell.nodes == 2 and not cell.derived and cell.count("none") == 5
  assert cell.mask(("skip_connect", "max_pool_3x3")).tolist() == [[True, False]] * 5
  assert str(LAYERED.cells[0]) == "n0 normal: 2 = skip_connect(0) + sep_conv_3x3(1)"


def spoiled(**changes):
  value = json.loads(LAYERED.to_json())
  value["cells"][0].update(changes)
  return json.dumps(value)


@pytest.mark.parametrize(
  "text,message",
  [
    ("", "genotype: ''; allowed are Genotype"),
    ("{", "allowed is JSON"),
    ("[]", "lacks normal, normal_concat"),
    ("{}", '"format"'),
    ("null", "'null'; allowed are Genotype"),
    ("{" * 200_000, "allowed is JSON"),
    ('{"a":' * 100_000, "deeply"),
    ('{"format": ' + "[" * 100_000, "deeply"),
    ("Genotype(" + "(" * 100_000 + ")" * 100_000 + ")", "line 1, column 22: nested too deeply"),
    ("Genotype(normal=" + "-" * 90_000 + "1)", "line 1, column 17: '-'; allowed"),
    ("Genotype(normal=__import__('os').abort())", "line 1, column 17: '__import__'; allowed are lists"),
    ("Genotype(normal=range(10**9))", "line 1, column 25: '\\*\\*'; allowed are lists"),
    ("Genotype(normal=range(999))", "line 1, column 17: range.* integers up to 18"),
    ("Genotype(normal=[", "line 1, column 1: what begins here can't be read to its end"),
    ("Genotype(normal=[" + "0," * 200_000, "line 1, column 1: what begins here can't be read to its end"),
    ("Genotype(1)", "lacks normal_concat, reduce, reduce_concat"),
    ("Genotype(normal=[])", "lacks normal_concat, reduce, reduce_concat"),
    ("Genotype(normal=[('skip_connect', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])", "reduce: .* list of"),
    ("x" * 16_000_001, "at most"),
    (spoiled(kind="other"), "normal, reduction"),
    (spoiled(name="../x"), "letters"),
    (spoiled(name="x" * 33), "letters"),
    (spoiled(name=["n0"]), "letters"),
    (LAYERED.to_json().replace('"kind"', '"name": "n9", "kind"', 1), "'name' stands twice"),
    (LAYERED.to_json().replace("0]", "1" * 5000 + "]", 1), "digits"),
    (LAYERED.to_json().replace("0]", "NaN]", 1), "NaN is no number"),
    (
      "Genotype(normal=[('skip_connect', 0x" + "f" * 9000 + "), ('skip_connect', 1)], normal_concat=[2], reduce=[], "
      "reduce_concat=[2])",
      "too large to be shown",
    ),
    ("Genotype(normal='\\d', normal_concat=[2], reduce=[], reduce_concat=[2])", "column 1: normal: .* list of"),
    ("Genotype(normal='\0')", "column (1|17): "),
    ("Genotype(normal='\ud800')", "column (1|17): "),
    (spoiled(name="r0"), "earlier"),
    (spoiled(extra=1), "unknown key"),
    (spoiled(nodes=5), "list of nodes"),
    (spoiled(nodes=[]), "1 to 16"),
    (spoiled(nodes=[[["skip_connect", 0]]] * 17), "1 to 16"),
    (spoiled(nodes=[[]]), "at least one"),
    (spoiled(nodes=[[["skip_connect"]]]), "no .operation, source"),
    (spoiled(nodes=[[["conv_9x9", 0]]]), "names the operation 'conv_9x9'; allowed are"),
    (spoiled(nodes=[[["none", 0]]]), "names the operation 'none', which is no connection; allowed are max_pool"),
    (spoiled(nodes=[[[["skip_connect", 0], 1]]]), "no .operation, source"),
    (spoiled(nodes=[[["skip_connect", 2]]]), "reads state 2; allowed are 0 to 1"),
    (spoiled(nodes=[[["skip_connect", True]]]), "reads state True"),
    (spoiled(nodes=[[["skip_connect", 0]] * 153]), "more than 152 operations"),
    (LAYERED.to_json() + "]", "Extra data"),
    (spoiled(concat=[3]), "concat"),
    (spoiled(concat=[]), "concat"),
    (spoiled(concat=[2, 2]), "concat"),
    (json.dumps({"format": "lfr-darts-genotype", "version": 2, "cells": []}), "version"),
    (json.dumps({"format": "lfr-darts-genotype", "version": 1, "cells": []}), "1 to 64 cells"),
    (json.dumps({"format": "lfr-darts-genotype", "version": 1, "cells": [3]}), "not an object"),
  ],
)
def test_bad_genotypes_get_one_line(text, message):
  with pytest.raises(GenotypeError, match=message) as error:
    parse(text)
  assert "\n" not in str(error.value) and len(str(error.value)) < 2000


def test_no_cell_has_a_name_that_leaves_a_folder():
  with pytest.raises(GenotypeError, match="cells.name: '../n0'"):
    CellSpec("../n0", "normal", (), ())


def test_kinds_that_cannot_be_laid_out():
  with pytest.raises(GenotypeError, match="can't be laid out"):
    Genotype(LAYERED.cells[:2] + LAYERED.cells[3:4]).layout(20)
