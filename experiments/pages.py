"""A study's tables and plots as Markdown, `README.md`, and as one page, `index.html`, in the folder of its lines."""

import base64
from collections.abc import Mapping, Sequence
import pathlib

import jinja2
from matplotlib.figure import Figure

from experiments import plots, tables
from experiments.lines import Line
from experiments.study import Study
from experiments.table import Table
from lfr_darts_jax.report import drawing
from lfr_darts_jax.runtime.paths import write_atomically

PLOTS = {
  "error_parameters": "Test error against parameters, every seed.",
  "error_search": "Test error against seconds of search, compilation included, every seed.",
  "operations": "Operations found per stage, in the mean over the seeds.",
}


def write(study: Study, found: Mapping[str, Sequence[Line]], folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes both; returns their paths."""
  drawn, made = _plots(found["main"]), tables.all_tables(study, found)
  folder.mkdir(parents=True, exist_ok=True)
  for name, figure in drawn.items():
    write_atomically(folder / f"{name}.png", drawing.render(figure, "png"))
  markdown, page = folder / "README.md", folder / "index.html"
  write_atomically(markdown, _markdown(study, made, drawn))
  write_atomically(page, _page(study, made, drawn))
  return [markdown, page]


def _plots(main) -> dict[str, Figure]:
  if not main:
    return {}
  figures = (
    plots.errors(main, "parameters", "parameters"),
    plots.errors(main, "search_seconds", "search, seconds"),
    plots.operations(main),
  )
  return dict(zip(PLOTS, figures, strict=True))


def _markdown(study, made: Sequence[Table], drawn) -> str:
  parts = [f"# {study.name}\n\nMade by `experiments/compare.py` from the lines of JSON beside it.\n"]
  pictures = [f"![{PLOTS[name]}]({name}.png)\n\n*{PLOTS[name]}*\n" for name in drawn]
  for table in made:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    parts.append(f"## {table.title}\n\n{table.note}\n\n{lines}\n")
  # Behind the introduction and the table that they draw.
  return "\n".join([*parts[:2], *pictures, *parts[2:]])


def _page(study, made, drawn) -> str:
  environment = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
      [jinja2.FileSystemLoader(pathlib.Path(__file__).parent), jinja2.PackageLoader("lfr_darts_jax.report", ".")]
    ),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  source = lambda figure: base64.b64encode(drawing.render(figure, "svg")).decode()
  pictures = [{"caption": PLOTS[name], "source": source(figure)} for name, figure in drawn.items()]
  return environment.get_template("study.html").render(title=study.name, tables=made, pictures=pictures)
