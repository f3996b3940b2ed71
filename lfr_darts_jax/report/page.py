"""The page of a run: `report/index.html`, in one file that needs nothing else, and its drawings beside it."""

import base64
import io
import time
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from lfr_darts_jax import config as schema
from lfr_darts_jax.fields import FIELDS
from lfr_darts_jax.models import cost
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.report import curves, drawing, run_data
from lfr_darts_jax.report.run_data import Run
from lfr_darts_jax.runtime import paths
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.runtime.progress import duration
from lfr_darts_jax.search_space import spaces
from lfr_darts_jax.search_space.cell_spec import LAYER
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training.predictor import Predictor
from lfr_darts_jax.training.result import Result

MAX_MATRIX, MAX_PAIRS = 30, 12  # Classes of a confusion matrix that can still be read; confused pairs listed.
PIXELS_PER_INCH = 96  # CSS.


class Picture(NamedTuple):
  """A picture inside the page: its data, alternative text, caption, and size in CSS pixels."""

  source: str
  alt: str
  caption: str
  width: int
  height: int


def write(workdir: Path) -> Path:
  """Writes the page of a work directory, whatever stage its run is at, and its cells as SVG and PNG.

  Returns:
    The path of the page.

  Raises:
    UsageError: where no run was begun in it, or one of its files can't be read; then nothing is written.
  """
  run = run_data.read(workdir)
  text = _template("page.html").render(_contents(run))
  folder = workdir / "report"
  paths.make_folder(folder)
  drawing.save_all(folder / "cells", run.cells)
  path = folder / "index.html"
  paths.write_atomically(path, text)
  return path


def in_notebook(shown: Genotype | Predictor) -> str:
  """What a notebook shows by itself, as HTML: the cells of a genotype; of a finished run its figures besides."""
  genotype = shown if isinstance(shown, Genotype) else shown.genotype
  workdir = None if isinstance(shown, Genotype) else shown.workdir
  run = None if workdir is None else run_data.read(workdir)
  drawn = [_picture(figure, f"Graph of {name}", name) for name, figure in drawing.pictures(genotype.cells).items()]
  if run is None:
    return _template("notebook.html").render(facts=[], pictures=drawn)
  drawn = [] if genotype.space == spaces.MOBILE else drawn  # The network shows a chain.
  pictures = [*drawn, _network(run, genotype), *_curves(run)]
  return _template("notebook.html").render(facts=_facts(run), pictures=pictures)


def _template(name: str) -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("lfr_darts_jax.report", "."),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["duration"] = duration
  return environment.get_template(name)


def _contents(run: Run) -> dict[str, Any]:
  name, alphas_move = run.config.data.name, any(stage.warmup < 1 for stage in run.plan.stages)
  tested = f", {run.result.test_error:.2f} % test error" if run.result else ""
  fields = _fields(run)
  return {
    "title": f"Architecture search on {name}{tested}",
    "run": run,
    "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    "facts": _facts(run),
    "network": _network(run, run.genotype) if run.genotype else None,
    "spending": _spending(run, run.genotype) if run.genotype else None,
    "cells": [
      {"name": c.name, "kind": c.kind, "picture": _picture(drawing.cell(c), f"Graph of cell {c}", str(c))}
      for c in run.cells
      if c.kind != LAYER  # The network above shows a chain.
    ],
    "outcomes": [
      {"iteration": i + 1, "supernet": " ".join(run.plan.stages[i].present), "outcome": outcome}
      for i, outcomes in enumerate(run.stage_results)
      for outcome in outcomes.values()
    ],
    "alphas_move": alphas_move,
    "layers": run.config.space.name == spaces.MOBILE,
    "strengths": _strengths(run) if run.strengths else None,
    "iterations": _iterations(run) if alphas_move else [],
    "curves": _curves(run),
    "result": run.result,
    "pairs": confused_pairs(run.result) if run.result else [],
    "matrix": confusion_rows(run.result) if run.result else [],
    "mistakes": _mistakes(run),
    "changed": [f for f in fields if f["value"] != f["default"]],
    "fields": fields,
    "genotype": run.genotype.to_json() if run.genotype else None,
  }


def _facts(run: Run) -> list[tuple[str, Any]]:
  facts: list[tuple[str, Any]] = [("data", run.config.data.name), ("plan", run.config.plan.name)]
  result = run.result
  if result:
    facts += [("test error", f"{result.test_error:.2f} %"), ("top-5 error", f"{result.top5_error:.2f} %")]
    if result.balanced_accuracy is not None:
      facts.append(("balanced accuracy", f"{result.balanced_accuracy:.2f} %"))
    if result.spike_rate is not None:
      facts.append(("spikes per neuron and step", f"{result.spike_rate:.3f}"))
  if run.genotype:
    network = final_network(run.config, run.genotype)
    costs = cost.describe(network, schema.image_shape(run.config))
    facts += [
      ("parameters", f"{costs['parameters']:,}"),
      ("multiply-adds", f"{costs['multiply_adds']:,}"),
      ("layers", len(network.layout)),
    ]
  if run.search_seconds is not None:
    facts.append(("search", duration(run.search_seconds)))
  if result:
    facts += [
      ("training", duration(result.train_seconds)),
      ("device", f"{result.devices} \u00d7 {result.device}"),
      ("finished", result.finished[:16]),
    ]
    if result.skipped_files:
      facts.append(("files left out", result.skipped_files))
  return [*facts, ("seed", run.config.seed)]


def _network(run: Run, genotype: Genotype) -> Picture:
  network = final_network(run.config, genotype)
  features = network.layer_features(*schema.image_shape(run.config)[:2])
  figure = drawing.network(network.layout, network.cells, features)
  alt = f"Network from image to classifier, its layers being {' '.join(network.layout)}"
  return _picture(figure, alt, "Under a section: height and width of its features, and their number.")


def _spending(run: Run, genotype: Genotype) -> Picture:
  network = final_network(run.config, genotype)
  parts = cost.by_part(network, schema.image_shape(run.config))
  names = [c.candidates[0][0] for c in genotype.cells] if genotype.space == spaces.MOBILE else network.layout
  figure = curves.spending(parts, ["stem", *names, "head"], dict(run.config.search.budget))
  return _picture(figure, "Multiply-adds and parameters by layer", "What every layer costs, from image to classifier.")


def _strengths(run: Run) -> Picture:
  figure = curves.strengths(run.strengths, spaces.operations(run.config))
  caption = "Validation loss that a choice adds to its layer's best, by the losses of random paths. It decides."
  return _picture(figure, "What every choice of every layer adds to the validation loss", caption)


def _iterations(run: Run) -> list[dict[str, Any]]:
  operations, edges = spaces.operations(run.config), {cell.name: cell.edges for cell in run.plan.cells}
  iterations = []
  for i, histories in enumerate(run.histories):
    drawn = []
    for name, history in histories.items():
      if not len(history.steps):
        continue
      rounds = ", ".join(f"to {keep} after step {step}" for step, keep in history.prunings)
      caption = f"Softmax of the alphas on every edge of {name} over the steps."
      caption += f" Pruned {rounds} (dashed)." if rounds else ""
      drawn.append(
        {
          "name": name,
          "alphas": _picture(
            curves.alphas(history, operations, edges[name]), f"Alphas of {name} over the steps", caption
          ),
          "certainty": _picture(
            curves.certainty(history, operations), f"Entropy of {name} and the operations that lead its edges", ""
          ),
        }
      )
    if drawn:
      iterations.append({"number": i + 1, "cells": drawn})
  return iterations


def _curves(run: Run) -> list[Picture]:
  drawn = []
  for phase, series in (("search", run.search), ("final training", (run.training,))):
    if not any(len(part.steps) for part in series):
      continue
    borders = " Dotted: from one stage to the next." if len(series) > 1 else ""
    for what in ("loss", "accuracy"):
      figure = curves.progress(series, (f"train_{what}", f"validation_{what}"), f"{phase}: {what}")
      drawn.append(_picture(figure, f"{what} of the {phase} over the steps", borders.strip()))
  return drawn


def confused_pairs(result: Result) -> list[dict[str, Any]]:
  """The pairs of classes that are taken for each other most often."""
  confusion, names = np.array(result.confusion), result.class_names
  wrong = confusion - np.diag(np.diag(confusion))
  order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
  return [
    {"true": names[t], "said": names[s], "count": int(wrong[t, s]), "share": 100 * wrong[t, s] / confusion[t].sum()}
    for t, s in zip(*np.unravel_index(order, wrong.shape), strict=True)
    if wrong[t, s]
  ]


def confusion_rows(result: Result) -> list[dict[str, Any]]:
  """The confusion matrix with its shades, empty where the classes are too many."""
  confusion, names = np.array(result.confusion), result.class_names
  if len(names) > MAX_MATRIX:
    return []
  rows = []
  for i, counts in enumerate(confusion):
    shades = 0.55 * counts / max(counts.sum(), 1)
    cells = [
      {"count": int(n), "shade": f"{shade:.2f}", "colour": "0, 114, 178" if i == j else "213, 94, 0"}
      for j, (n, shade) in enumerate(zip(counts, shades, strict=True))
    ]
    error = result.class_errors[i]
    rows.append({"name": names[i], "cells": cells, "error": "" if error is None else f"{error:.1f} %"})
  return rows


def _mistakes(run: Run) -> list[dict[str, str]]:
  if run.misclassified is None or run.result is None:
    return []
  names = run.result.class_names
  return [
    {
      "source": _data("image/png", _png(image)),
      "true": names[label],
      "said": names[said],
      "confidence": f"{100 * confidence:.0f}",
    }
    for image, label, said, confidence in zip(*run.misclassified, strict=True)
  ]


def _png(image: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="png")
  return file.getvalue()


def _fields(run: Run) -> list[dict[str, str]]:
  flat, default = schema.flatten(run.config), schema.flatten(schema.get_config())
  text = lambda value: "None" if value is None else str(value)
  return [{"name": n, "value": text(flat[n]), "default": text(default[n]), "note": FIELDS[n].note} for n in flat]


def _picture(figure: Figure, alt: str, caption: str) -> Picture:
  width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
  return Picture(_data("image/svg+xml", drawing.render(figure, "svg")), alt, caption, width, height)


def _data(kind: str, content: bytes) -> str:
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"
