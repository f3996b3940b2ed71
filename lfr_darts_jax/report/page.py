"""The page of a run: `report/index.html`, in one file that needs nothing else, and its drawings beside it."""

import base64
import io
import time
from typing import Any
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from lfr_darts_jax import config as schema
from lfr_darts_jax import cost
from lfr_darts_jax import storage
from lfr_darts_jax.files import write_atomically
from lfr_darts_jax.network import final_network
from lfr_darts_jax.progress import duration
from lfr_darts_jax.report import curves
from lfr_darts_jax.report import drawing
from lfr_darts_jax.report import record as records
from lfr_darts_jax.report.record import Record
from lfr_darts_jax.storage import Path

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
  record = records.read(workdir)
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("lfr_darts_jax.report", "."),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["duration"] = duration
  text = environment.get_template("page.html").render(_contents(record))
  folder = workdir / "report"
  storage.make_folder(folder)
  drawing.save_all(folder / "cells", record.cells)
  path = folder / "index.html"
  write_atomically(path, text)
  return path


def _contents(record: Record) -> dict[str, Any]:
  name = record.config.data.name
  tested = f", {record.result['test_error']:.2f} % test error" if record.result else ""
  fields = _fields(record)
  return {
    "title": f"Architecture search on {name}{tested}",
    "record": record,
    "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    "facts": _facts(record),
    "network": _network(record) if record.genotype else None,
    "cells": [
      {"name": c.name, "kind": c.kind, "picture": _picture(drawing.cell(c), f"Graph of cell {c}", str(c))}
      for c in record.cells
    ],
    "outcomes": [
      {"iteration": i + 1, "supernet": " ".join(record.plan.iterations[i].layout), "outcome": outcome}
      for i, outcomes in enumerate(record.outcomes)
      for outcome in outcomes.values()
    ],
    "iterations": _iterations(record),
    "curves": _curves(record),
    "result": record.result,
    "pairs": confused_pairs(record.result) if record.result else [],
    "matrix": confusion_rows(record.result) if record.result else [],
    "mistakes": _mistakes(record),
    "changed": [f for f in fields if f["value"] != f["default"]],
    "fields": fields,
    "genotype": record.genotype.to_json() if record.genotype else None,
  }


def _facts(record):
  facts: list[tuple[str, Any]] = [("data", record.config.data.name), ("plan", record.config.plan.name)]
  result = record.result or {}
  if result:
    facts += [("test error", f"{result['test_error']:.2f} %"), ("top-5 error", f"{result['top5_error']:.2f} %")]
  if record.genotype:
    network = final_network(record.config, record.genotype)
    size = record.config.data.image_size
    costs = cost.describe(network, (size, size, record.config.data.channels))
    facts += [
      ("parameters", f"{costs['parameters']:,}"),
      ("multiply-adds", f"{costs['multiply_adds']:,}"),
      ("layers", len(network.layout)),
    ]
  if record.search_seconds is not None:
    facts.append(("search", duration(record.search_seconds)))
  if result:
    facts += [
      ("training", duration(result["train_seconds"])),
      ("device", f"{result['devices']} \u00d7 {result['device']}"),
      ("finished", result["finished"][:16]),
    ]
    if result.get("skipped_files"):
      facts.append(("files left out", result["skipped_files"]))
  return [*facts, ("seed", record.config.seed)]


def _network(record):
  network = final_network(record.config, record.genotype)
  features = network.layer_features(record.config.data.image_size)
  figure = drawing.network(network.layout, network.cells, features)
  alt = f"Network from image to classifier, its layers being {' '.join(network.layout)}"
  return _picture(figure, alt, "Under a stage: height and width of its features, and their number.")


def _iterations(record):
  operations, nodes = record.config.search.operations, record.config.search.nodes
  iterations = []
  for i, courses in enumerate(record.courses):
    drawn = []
    for name, course in courses.items():
      if not len(course.steps):
        continue
      rounds = ", ".join(f"to {keep} after update {step}" for step, keep in course.prunings)
      caption = f"Softmax of the alphas on every edge of {name} over the updates."
      caption += f" Pruned {rounds} (dashed)." if rounds else ""
      drawn.append(
        {
          "name": name,
          "alphas": _picture(curves.alphas(course, operations, nodes), f"Alphas of {name} over the updates", caption),
          "certainty": _picture(
            curves.certainty(course, operations), f"Entropy of {name} and the operations that lead its edges", ""
          ),
        }
      )
    if drawn:
      iterations.append({"number": i + 1, "cells": drawn})
  return iterations


def _curves(record):
  drawn = []
  for phase, series in (("search", record.search), ("final training", (record.training,))):
    if not any(len(part.steps) for part in series):
      continue
    borders = " Dotted: from one iteration to the next." if len(series) > 1 else ""
    for what in ("loss", "accuracy"):
      figure = curves.progress(series, (f"train_{what}", f"validation_{what}"), f"{phase}: {what}")
      drawn.append(_picture(figure, f"{what} of the {phase} over the updates", borders.strip()))
  return drawn


def confused_pairs(result: dict[str, Any]) -> list[dict[str, Any]]:
  """The pairs of classes that are taken for each other most often; `result` as of `result.json`."""
  confusion, names = np.array(result["confusion"]), result["class_names"]
  wrong = confusion - np.diag(np.diag(confusion))
  order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
  return [
    {
      "true": names[t],
      "said": names[s],
      "count": int(wrong[t, s]),
      "share": 100 * wrong[t, s] / confusion[t].sum(),
    }
    for t, s in zip(*np.unravel_index(order, wrong.shape), strict=True)
    if wrong[t, s]
  ]


def confusion_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
  """The confusion matrix with its shades, empty where the classes are too many; `result` as of `result.json`."""
  confusion, names = np.array(result["confusion"]), result["class_names"]
  if len(names) > MAX_MATRIX:
    return []
  rows = []
  for i, counts in enumerate(confusion):
    shades = 0.55 * counts / max(counts.sum(), 1)
    cells = [
      {"count": int(n), "shade": f"{shade:.2f}", "colour": "0, 114, 178" if i == j else "213, 94, 0"}
      for j, (n, shade) in enumerate(zip(counts, shades, strict=True))
    ]
    error = result["class_errors"][i]
    rows.append({"name": names[i], "cells": cells, "error": "" if error is None else f"{error:.1f} %"})
  return rows


def _mistakes(record):
  if record.mistakes is None or record.result is None:
    return []
  names = record.result["class_names"]
  return [
    {
      "source": _data("image/png", _png(image)),
      "true": names[label],
      "said": names[said],
      "confidence": f"{100 * confidence:.0f}",
    }
    for image, label, said, confidence in zip(*record.mistakes, strict=True)
  ]


def _png(image):
  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="png")
  return file.getvalue()


def _fields(record):
  flat, default = schema.flatten(record.config), schema.flatten(schema.get_config())
  text = lambda value: "None" if value is None else str(value)
  return [{"name": n, "value": text(flat[n]), "default": text(default[n]), "note": schema.FIELDS[n].note} for n in flat]


def _picture(figure: Figure, alt: str, caption: str) -> Picture:
  width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
  return Picture(_data("image/svg+xml", drawing.render(figure, "svg")), alt, caption, width, height)


def _data(kind, content):
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"
