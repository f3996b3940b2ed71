"""What `--mode=predict` does: a row per image file, as JSON lines or as CSV."""

from collections.abc import Callable, Iterator
import csv
import io
import json
import sys
from typing import NamedTuple

from lfr_darts_jax.data import given
from lfr_darts_jax.data.given import Item, Leftovers
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import jax_setup, paths
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.training import predictor


class Row(NamedTuple):
  """What is predicted of a file: its path, its most probable class, and every class's probability."""

  file: str
  name: str
  probabilities: dict[str, float]


def predict(workdir: str | Path, pattern: str, output: str | Path | None, say: Callable[[str], None]) -> None:
  """Classifies image files with the trained network of a directory.

  Args:
    workdir: the directory.
    pattern: what files, see `given.files`.
    output: a file to write the rows to, as one of `FORMATS`, once all are there; None to say them as JSON lines.
    say: prints a line, or several.

  Raises:
    UsageError: where the directory holds no trained network, there is no image, or none can be read.
    RunError: where some images can't be read, once the others are predicted.
  """
  target = None if output is None else paths.path(output)
  if target is not None and target.suffix.lower() not in FORMATS:
    raise UsageError(f"output: {output}; allowed are names that end in {' or '.join(FORMATS)}")
  leftovers = Leftovers()
  files = given.files(pattern, leftovers)
  for line in leftovers.line():
    print(line, file=sys.stderr, flush=True)
  if not files:
    raise UsageError(f"images: {pattern!r} holds no image; allowed are an image, a folder of some, or a pattern")
  jax_setup.enable_cache()
  trained, bad = predictor.load(workdir), list[str]()
  if target is not None:
    paths.make_folder(target.parent)

  def rows() -> Iterator[Row]:
    for (name, _), found in trained.classify([Item(file, file) for file in files]):
      # Names of files need not be UTF-8.
      name = (name or "").encode(errors="backslashreplace").decode()
      if found is None:
        bad.append(name)
      else:
        # The shortest decimals that are these floats.
        numbers = [float(str(number)) for number in found]
        yield Row(name, trained.class_names[found.argmax()], dict(zip(trained.class_names, numbers, strict=True)))

  lines = FORMATS[".jsonl" if target is None else target.suffix.lower()](rows(), trained.class_names)
  if target is None:
    for line in lines:
      say(line)
  else:
    text = "".join(f"{line}\n" for line in lines)
    if len(bad) < len(files):
      paths.write_atomically(target, text)
      say(str(target))
  if bad:
    problem = f"images: {predictor.unreadable(bad, len(files))}"
    if len(bad) == len(files):
      raise UsageError(f"{problem}; allowed is at least one that can")
    raise RunError(f"{problem}; the others are predicted")


def _json_lines(rows: Iterator[Row], class_names: tuple[str, ...]) -> Iterator[str]:
  for row in rows:
    known = {"file": row.file, "class": row.name, "probability": row.probabilities[row.name]}
    yield json.dumps({**known, "probabilities": row.probabilities}, ensure_ascii=False)


def _csv(rows: Iterator[Row], class_names: tuple[str, ...]) -> Iterator[str]:
  yield _csv_line(["file", "class", "probability", *(f"probability of {name}" for name in class_names)])
  for row in rows:
    yield _csv_line([row.file, row.name, row.probabilities[row.name], *row.probabilities.values()])


def _csv_line(fields: list[str | float]) -> str:
  text = io.StringIO()
  csv.writer(text, lineterminator="").writerow(fields)
  return text.getvalue()


FORMATS: dict[str, Callable[[Iterator[Row], tuple[str, ...]], Iterator[str]]] = {".jsonl": _json_lines, ".csv": _csv}
