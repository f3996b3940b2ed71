import html.parser
import json
import re
import types

from PIL import Image
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import page, run_data
from lfr_darts_jax.search_space import genotype as genotypes
from lfr_darts_jax.training.predictor import Predictor
from tests import runs


def headings(text):
  return re.findall(r"<h2>(.*?)</h2>", text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = runs.write(tmp_path_factory.mktemp("finished"))
  return workdir, page.write(workdir).read_text()


def test_a_full_disk_leaves_the_page_of_before(tmp_path):
  workdir = runs.write(tmp_path / "run", iterations=0)
  path = page.write(workdir)
  before = path.read_bytes()
  path.with_name(".index.html.partial").symlink_to("/dev/full")
  with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
    page.write(workdir)
  assert path.read_bytes() == before
  assert page.write(workdir) == path


def test_a_finished_run_shows_everything(finished):
  workdir, text = finished
  assert headings(text) == [
    "At a glance",
    "The network",
    "The cells",
    "How they came about",
    "Losses and accuracies",
    "On the test split",
    "How it was made",
  ]
  for name in ("n0", "r0", "n1", "r1", "n2"):
    assert f"Graph of cell {name}" in text and f"Alphas of {name}" in text
    with Image.open(workdir / "report" / "cells" / f"{name}.png") as image:
      assert image.size[0] > 300
  assert "91,866" not in text  # The costs are those of the genotype, not what result.json says.
  assert "<dt>files left out</dt><dd>3</dd>" in text
  assert "3 min 05 s" in text and "to 5 after step 20 (dashed)" in text
  assert text.count('<img src="data:image/png') == len(re.findall(r"said <strong>", text)) > 5


def test_of_alphas_that_never_move_nothing_is_told(tmp_path, monkeypatch):
  config = runs.config()
  config.search.warmup_fraction = 1.0
  monkeypatch.setattr(runs, "config", lambda *_: config)
  text = page.write(runs.write(tmp_path)).read_text()
  assert "87.5 %" in text and ">entropy<" not in text and "mean entropy" not in text and "Alphas of" not in text


def test_the_config_and_what_differs_from_the_default(finished):
  _, text = finished
  changed, whole = text.split("<summary>The whole config")
  assert "<code>search.channels</code>" in changed and "<code>search.momentum</code>" not in changed
  assert "<code>search.momentum</code>" in whole


def test_names_are_text_and_nothing_comes_from_elsewhere(finished):
  _, text = finished
  assert "<script" not in text and "&lt;script&gt;" in text and "<b>runs</b>" not in text
  assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text) and "url(" not in text


HOSTILE = (
  '"><img src=x onerror=alert(1)>',
  "' onload='alert(1)",
  "</title></style></script><script>alert(1)</script>",
  "<!-- & &lt; {{ 7 * 7 }} {% raw %}",
  "../../../etc/passwd",
  "--workdir=/",
  "a\nb\x07\x1b[31m\u202e\U0001f408",
  "javascript:alert(1)",
)


class Structure(html.parser.HTMLParser):
  """Tags with their attributes but for what pages of equal structure differ in, and the text."""

  def __init__(self, page_text):
    super().__init__()
    self.tags, self.text = [], ""
    self.feed(page_text)

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, [name if name in ("alt", "src", "aria-label") else (name, v) for name, v in attributes]))

  def handle_data(self, data):
    self.text += data


def test_hostile_text_makes_no_markup_and_leaves_no_folder(tmp_path):
  def written(name, texts):
    workdir = runs.write(tmp_path / name / "run", iterations=1, plan="darts", class_names=texts)
    result = json.loads((workdir / "result.json").read_text())
    result |= {"device": texts[0], "finished": texts[1]}
    (workdir / "result.json").write_text(json.dumps(result))
    config = json.loads((workdir / "config.json").read_text())
    config |= {"data.name": texts[2], "data.dir": texts[3]}
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "commands.txt").write_text("\n".join(texts))
    path = page.write(workdir)
    files = {str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*") if p.is_file()}
    return Structure(path.read_bytes().decode()), {f for f in files if "tfevents" not in f}

  harmless, files = written("harmless", [f"class {i}" for i in range(len(HOSTILE))])
  hostile, hostile_files = written("hostile", HOSTILE)
  assert hostile.tags == harmless.tags and len(hostile.tags) > 300
  assert all(text in hostile.text for text in HOSTILE)
  assert hostile_files == files and sum(f.startswith("run/report/") for f in files) == 5


def test_confused_pairs_and_matrix_by_hand():
  result = types.SimpleNamespace(
    class_names=["a", "b", "c"], confusion=[[3, 1, 0], [2, 2, 0], [0, 0, 0]], class_errors=[25.0, 50.0, None]
  )
  assert page.confused_pairs(result) == [
    {"true": "b", "said": "a", "count": 2, "share": 50.0},
    {"true": "a", "said": "b", "count": 1, "share": 25.0},
  ]
  rows = page.confusion_rows(result)
  assert [r["error"] for r in rows] == ["25.0 %", "50.0 %", ""]
  assert [c["count"] for c in rows[1]["cells"]] == [2, 2, 0]


def test_many_classes_have_pairs_but_no_matrix(tmp_path):
  text = page.write(runs.write(tmp_path / "run", class_names=[f"class {i}" for i in range(40)])).read_text()
  assert "Most confused pairs" in text and "Confusion matrix" not in text


@pytest.mark.parametrize(
  "stage,missing",
  [
    ({"iterations": 0}, {"The network", "The cells", "On the test split"}),
    ({"iterations": 2}, {"The network", "On the test split"}),
    ({"train": False, "result": False}, {"On the test split"}),
    ({"plan": "darts", "iterations": 1}, set()),
  ],
)
def test_every_stage_has_a_page(finished, tmp_path, stage, missing):
  text = page.write(runs.write(tmp_path / "run", **stage)).read_text()
  assert set(headings(finished[1])) - set(headings(text)) == missing


def test_signs_of_collapse_stand_at_the_top_with_figure_and_source(finished, tmp_path):
  text = page.write(runs.write(tmp_path / "run", findings=runs.FINDINGS)).read_text()
  assert headings(text)[1] == "Signs that the search collapsed"
  assert set(headings(text)) - set(headings(finished[1])) == {"Signs that the search collapsed"}
  notice = text.partition("Signs that the search collapsed")[2].partition("</section>")[0]
  items = [" ".join(re.sub("<.*?>", "", item).split()) for item in re.findall(r"<li>(.*?)</li>", notice, re.DOTALL)]
  assert items == [
    "Iteration 1, n0: 2 of 4 connections are skip_connects. Source: &lt;i&gt;its source&lt;/i&gt;.",
    "Iteration 3, n1: the alphas stayed uniform. Source: our choice.",
  ]


def test_no_run(tmp_path):
  with pytest.raises(UsageError, match=r"has no config.json"):
    page.write(tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_notebook_shows_a_genotype_and_a_finished_run_by_themselves(tmp_path):
  formatters = pytest.importorskip("IPython.core.formatters")
  shown = lambda value: formatters.DisplayFormatter().format(value)[0]["text/html"]
  run = run_data.read(runs.write(tmp_path))
  cells = shown(run.genotype)
  assert cells.count("data:image/svg+xml") == 5 == len(run.genotype.cells)
  assert all(f"<figcaption>{cell.name}</figcaption>" in cells for cell in run.genotype.cells)
  names, statistics = run.result.class_names, (tuple(run.result.mean), tuple(run.result.deviation))
  text = shown(Predictor(run.config, run.genotype, names, statistics, None, tmp_path))
  assert f"{run.result.test_error:.2f} %" in text and "1 \u00d7 cpu" in text
  # The cells, the network, loss and accuracy of the search and of the training.
  assert text.count("data:image/svg+xml") == 5 + 1 + 4
  # Without a directory there is no run to tell of.
  assert shown(Predictor(run.config, run.genotype, names, statistics, None)) == cells
  chain = genotypes.chain(("identity", "mb6_k5"))
  assert shown(chain).count("data:image/svg+xml") == 1
