"""The Colab notebook, from top to bottom. Needs the extra `notebook`."""

import pathlib

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
NOTEBOOK = pathlib.Path(__file__).parents[1] / "launch" / "colab.ipynb"


def test_it_is_kept_without_outputs():
  cells = nbformat.read(NOTEBOOK, as_version=4).cells
  assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")


SMALLER = """
config.search.update(epochs=1, channels=4, nodes=2, operations=("none", "skip_connect", "dil_conv_3x3"))
config.prune.rounds = ((0.5, 2),)
config.network.channels, config.train.epochs = 4, 1
"""


@pytest.mark.parametrize(
  "change", [pytest.param(SMALLER, marks=pytest.mark.slow), pytest.param("", marks=pytest.mark.long)]
)
def test_it_runs_and_shows_cells_curves_and_an_error(tmp_path, change):
  folder = tmp_path / "launch"
  folder.mkdir()
  # The notebook runs in a folder of its own, beside links to what it takes from a checkout.
  for name in ("setup.cfg", "configs"):
    (tmp_path / name).symlink_to(NOTEBOOK.parents[1] / name)
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  search = next(cell for cell in notebook.cells if "genotype = " in cell.source)
  search.source = search.source.replace("genotype = ", change + "genotype = ")
  nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
  outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
  pictures = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
  texts = "".join(o.get("text", "") for o in outputs)
  # Five cells, the courses of their alphas, and the loss.
  assert len(pictures) == 11
  assert "% test error" in texts and "said" in texts
  assert (folder / "runs" / "digits" / "report" / "index.html").exists()
