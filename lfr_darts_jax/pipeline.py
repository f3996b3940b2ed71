"""The main job in one working directory: search, train, evaluate, report. Each part continues where it stopped."""

import contextlib
import dataclasses
from importlib import metadata
import json
import sys
import time
from typing import Any

import jax
import ml_collections

from lfr_darts_jax import collapse
from lfr_darts_jax import compilation
from lfr_darts_jax import config as schema
from lfr_darts_jax import cost
from lfr_darts_jax import driver
from lfr_darts_jax import feeds
from lfr_darts_jax import forecast
from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import kept
from lfr_darts_jax import metrics
from lfr_darts_jax import parallel
from lfr_darts_jax import predictor
from lfr_darts_jax import processes
from lfr_darts_jax import seeds
from lfr_darts_jax import storage
from lfr_darts_jax import trainer
from lfr_darts_jax import workdir as places
from lfr_darts_jax.data import identity
from lfr_darts_jax.data import sources
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.files import write_atomically
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.network import final_network
from lfr_darts_jax.progress import Progress
from lfr_darts_jax.progress import duration
from lfr_darts_jax.report import drawing
from lfr_darts_jax.report import mistakes
from lfr_darts_jax.report import page
from lfr_darts_jax.report import record as records
from lfr_darts_jax.storage import Path

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
FROM_PYTHON = "(called from Python)"


def search(config: ml_collections.ConfigDict, workdir: str | Path, *, command: str = FROM_PYTHON) -> Genotype:
  """Searches a layered genotype, or returns that of a directory whose search is done.

  Args:
    config: the config; see `config.get_config`.
    workdir: where the run is kept; made where it is not there.
    command: how the report says that the run was started.

  Returns:
    The derived cells, shallow to deep.

  Raises:
    UsageError: for wrong input.
    Interrupted: after SIGINT or SIGTERM; the same call continues.
    Collapsed: see `search.stop_on_collapse`.
  """
  with _open(config, workdir, command) as job:
    return job.search()


def train(
  config: ml_collections.ConfigDict, genotype: Genotype, workdir: str | Path, *, command: str = FROM_PYTHON
) -> dict[str, Any]:
  """Trains the network of a genotype from scratch and tests it.

  Args:
    config: the config.
    genotype: the derived cells.
    workdir: where the run is kept.
    command: how the report says that the run was started.

  Returns:
    What `result.json` holds: `test_error` and `top5_error` in percent, `parameters`, `multiply_adds`, and more.

  Raises:
    UsageError: for wrong input.
    Interrupted: after SIGINT or SIGTERM; the same call continues.
  """
  with _open(config, workdir, command) as job:
    job.set_genotype(genotype)
    return job.train()


def run(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  genotype: Genotype | None = None,
  *,
  command: str = FROM_PYTHON,
) -> dict[str, Any]:
  """Searches, trains and tests; returns what `result.json` holds. A given genotype takes the place of the search."""
  with _open(config, workdir, command) as job:
    if genotype is not None:
      job.set_genotype(genotype)
    job.search()
    return job.train()


def describe(config: ml_collections.ConfigDict, genotype: Genotype) -> dict[str, int]:
  """Cost of a genotype's final network, without data or training: see `cost.describe`, and its `layers`."""
  schema.validate(config)
  network = final_network(config, genotype)
  shape = (config.data.image_size, config.data.image_size, config.data.channels)
  return {**cost.describe(network, shape), "layers": len(network.layout)}


def evaluate(workdir: str | Path, config: ml_collections.ConfigDict | None = None) -> dict[str, Any]:
  """Tests the trained network of a directory, in which nothing is changed.

  Args:
    workdir: the directory.
    config: for `data`, where the test split is; classes are told by their names. None for the directory's.

  Returns:
    `test_error` and `top5_error` in percent, and the number of `images`.

  Raises:
    UsageError: where the directory holds no trained network, or the data don't suit it.
  """
  workdir = storage.path(workdir)
  trained = predictor.load(workdir)
  config = config or trained.config
  schema.validate(config)
  devices = parallel.everything()
  devices.check("train.batch_size", trained.config.train.batch_size, None)
  test, data = sources.open_test(config, trained.class_names)
  _compare_tested(kept.data(workdir), trained.config, config, data)
  result = trained.count(feeds.open_split(test, config, devices))
  return {"test_error": result.error, "top5_error": result.top5_error, "images": result.total}


NOT_COMPARED = (
  "the data can't be compared with those that this directory was begun with: an earlier version did not write them down"
)


def _compare_tested(before, trained, config, data):
  """Says on stderr what is not as it was in the training; refuses what could be images that were trained on.

  Args:
    before: what the data of the training are told by, None where that is not known.
    trained: the config of the training.
    config: that of the test.
    data: what its data are told by.
  """
  if before is None:
    print(NOT_COMPARED, file=sys.stderr, flush=True)
    return
  changed = "; ".join(identity.differences(before, data))
  if changed and data.source == "folder" and "test" not in data.images and config.data.dir == trained.data.dir:
    raise UsageError(
      f"config.data.dir: {config.data.dir} has changed since the training ({changed}), so that images of it that were "
      "not trained on can't be told any more; allowed is a folder with a test split, or the same images"
    )
  if changed:
    print(f"the data are not those of the training ({changed})", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _open(config, workdir, command):
  schema.validate(config)
  workdir = storage.path(workdir)
  with places.alone(workdir):
    yield _Run(config, workdir, command)


class _Run:
  """A work directory and what its phases share: data, metrics, progress."""

  def __init__(self, config, workdir, command, devices=None, dataset=None, interrupt=None):
    compilation.keep()
    self._config, self._workdir, self._command = config, workdir, command
    self._devices = devices or parallel.everything()
    for phase in ("search", "train"):
      size = config[phase].batch_size
      self._devices.check(f"{phase}.batch_size", size, config.network.batch_norm_group)
    self._genotype_path = self._workdir / places.GENOTYPE
    processes.agree(self._check)
    self._dataset = dataset or sources.open_dataset(config)
    processes.agree(self._compare_data)
    trainer.check_batch_size(config, self._dataset.train_images)
    if self._dataset.skipped:
      print(f"{len(self._dataset.skipped)} files of the image folder can't be read and are left out", flush=True)
    self._metrics, self._progress = metrics.Metrics(self._workdir, config), None
    self._interrupt = interrupt or Interrupt()

  def _check(self):
    """Refuses what can't be gone on with, before anything is written."""
    places.check(self._workdir, schema.flatten(self._config))
    metrics.read(self._workdir)
    if (self._workdir / places.CONFIG).exists():
      records.read(self._workdir)

  def _compare_data(self):
    """Refuses other data than those that the directory was begun with, and tells where they have only moved."""
    if not places.begun(self._workdir):
      return
    before = kept.data(self._workdir)
    if before is None:
      print(NOT_COMPARED, flush=True)
    elif changed := "; ".join(identity.differences(before, self._dataset.identity)):
      raise UsageError(
        f"config.data: {self._workdir} was begun with other data; allowed are the same, or a new workdir ({changed})"
      )
    was, place = (places.config(self._workdir) or {}).get("data.dir"), self._config.data.dir
    if before is not None and was != place:
      print(f"the data were in {was} before, now in {place}; they are the same", flush=True)

  def _genotype(self):
    """That of the directory, or None."""

    def read():
      there = kept.genotype(self._workdir)
      return there and there.to_json()

    text = processes.agree(read)
    return text and genotypes.parse(text)

  def set_genotype(self, genotype):
    """Takes a given genotype in place of a search."""
    final_network(self._config, genotypes.parse(genotype.to_json()))
    there = self._genotype()
    if there is not None:
      if there != genotype:
        raise UsageError(f"genotype: {self._genotype_path} holds another; allowed is the same one, or a new workdir")
      return
    self._begin()
    self._keep(genotype)

  def _begin(self):
    """Claims the directory for this config, once nothing is left that could be refused."""
    flat, data = schema.flatten(self._config), self._dataset.identity.to_json()
    processes.agree(lambda: places.claim(self._workdir, flat, data, self._command))

  def _keep(self, genotype):
    for cell in genotype.cells:
      self._metrics.write_image(f"cells/{cell.name}", drawing.render(drawing.cell(cell), "png"))
    self._metrics.close()
    processes.agree(lambda: write_atomically(self._genotype_path, genotype.to_json()))

  def search(self):
    """Searches, unless there is a genotype; stops before anything is trained on a search that has collapsed."""
    found = self._genotype()
    if found is None:
      found = self._search() if self._config.search.num_seeds == 1 else self._search_with_seeds()
    collapse.stop(self._config.search, collapse.parse(processes.agree(self._findings)))
    return found

  def _findings(self):
    return [dataclasses.asdict(finding) for finding in kept.findings(self._workdir)]

  def _search_with_seeds(self):
    config = self._config
    with self._interrupt:
      self._begin()
      outcomes = seeds.run([config.seed + i for i in range(config.search.num_seeds)], self._devices, self._search_one)
    processes.agree(lambda: seeds.keep(self._workdir, outcomes))
    found = seeds.best(outcomes).genotype
    self._keep(found)
    for outcome in outcomes:
      accuracy = f"validation accuracy {100 * outcome.validation_accuracy:.1f} %"
      print(f"seed {outcome.seed} | {accuracy}{', chosen' if outcome.chosen else ''}", flush=True)
    self._write_page()
    return found

  def _search_one(self, seed, devices, following):
    """One of several searches, in a work directory of its own, as a single run with this seed would do it."""
    config = self._config.copy_and_resolve_references()
    config.seed, config.search.num_seeds = seed, 1
    folder = seeds.folder(self._workdir, seed)
    with places.alone(folder):
      job = _Run(config, folder, self._command, devices, self._dataset, self._interrupt)
      genotype = job._genotype() or job._search(f"seed {seed}", following)
      accuracy, seconds = processes.agree(lambda: [kept.validation_accuracy(folder), kept.search_seconds(folder)])
    return seeds.Searched(seed, accuracy, seconds, genotype)

  def _search(self, name="", following=0):
    """One search; `following` others come after it."""
    final_network(self._config, forecast.guess_genotype(self._config))
    images = self._dataset.train_images
    work = forecast.search(self._config, images)
    work = {part: (1 + following) * seconds for part, seconds in work.items()}
    self._progress = Progress(work | forecast.training(self._config, images), name)
    with self._interrupt, contextlib.closing(self._metrics):
      job = driver.Search(
        self._config, self._dataset, self._workdir, self._metrics, self._progress, self._interrupt, self._devices
      )
      self._begin()
      found, times = job.run()
      self._metrics.flush()  # What follows reads them, and no genotype may be ahead of them.
      processes.agree(lambda: self._summarize(times))
      self._keep(found)
      signs = _signs(processes.agree(self._findings))
      rows = {"search": duration(times.search), **signs, "page": self._page(forecast.SEARCH_BUILD)}
      self._progress.say(_table(rows))
    return found

  def _summarize(self, times):
    entries = metrics.read(self._workdir)
    findings = [dataclasses.asdict(finding) for finding in collapse.latest(entries)]
    accuracy = next(e["validation_accuracy"] for e in reversed(entries) if "validation_accuracy" in e)
    storage.make_folder(self._workdir / places.SEARCH)  # A short search saved nothing in it.
    seconds = {"search_seconds": times.search, "update_seconds": times.updates}
    summary = {**seconds, "validation_accuracy": accuracy, "collapse": findings}
    write_atomically(self._workdir / places.SEARCH_SUMMARY, json.dumps(summary) + "\n")

  def train(self):
    result = processes.agree(lambda: kept.result(self._workdir, self._config))
    if result is not None:
      print(_summary(result, self._write_page()))
      return result
    genotype = self._genotype()
    work = forecast.training(self._config, self._dataset.train_images, genotype)
    self._progress = self._progress or Progress(work)
    with self._interrupt, contextlib.closing(self._metrics):
      job = trainer.Training(
        self._config,
        final_network(self._config, genotype),
        self._dataset,
        self._workdir,
        self._metrics,
        self._progress,
        self._interrupt,
        self._devices,
      )
      self._begin()
      state, seconds = job.run()
    result = self._test(genotype, job, state, seconds)
    processes.agree(lambda: write_atomically(self._workdir / places.RESULT, json.dumps(result, indent=1) + "\n"))
    self._progress.say(_summary(result, self._page(forecast.TRAIN_BUILD)))
    return result

  def _page(self, part):
    with self._progress.waiting(part, forecast.PAGE, "writing the page"):
      return self._write_page()

  def _write_page(self):
    return processes.agree(lambda: str(page.write(self._workdir)))

  def _test(self, genotype, job, state, seconds):
    """Tests the trained network; returns what `result.json` is to hold, and keeps a sample of the mistakes."""
    facts = {
      **describe(self._config, genotype),
      "updates": int(state.step),
      "train_seconds": seconds,
      **processes.agree(self._circumstances),
      "mean": job.mean,
      "deviation": job.deviation,
      "class_names": self._dataset.class_names,
      "data": self._dataset.identity.to_json(),
      "skipped_files": len(self._dataset.skipped),
    }
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    test = feeds.open_split(self._dataset.test(), self._config, self._devices)
    work = forecast.test_seconds(self._config, self._dataset.train_images, genotype)
    with self._progress.waiting(forecast.TRAIN_BUILD, work, f"testing on {test.count} images"):
      tested = predictor.Predictor(self._config, genotype, facts, variables).count(test)
    errors = {"test_error": tested.error, "top5_error": tested.top5_error}
    self._metrics.write("test", 0, int(state.step), errors, int(state.step))
    self._metrics.close()
    processes.agree(lambda: mistakes.save(self._workdir, test.images, tested, self._config.seed))
    return {**errors, **facts, "class_errors": tested.class_errors, "confusion": tested.confusion.tolist()}

  def _circumstances(self):
    return {
      "search_seconds": kept.search_seconds(self._workdir),
      "collapse": self._findings(),
      "seed": self._config.seed,
      "device": jax.devices()[0].device_kind,
      "devices": jax.device_count(),
      "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
      "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _summary(result, page_path):
  searched = result["search_seconds"]
  return _table(
    {
      "test error": f"{result['test_error']:.2f} %",
      "top-5 error": f"{result['top5_error']:.2f} %",
      "parameters": f"{result['parameters']:,}",
      "multiply-adds": f"{result['multiply_adds']:,}",
      **({} if searched is None else {"search": duration(searched)}),
      **_signs(result.get("collapse")),
      "training": duration(result["train_seconds"]),
      "page": page_path,
    }
  )


def _signs(findings):
  return {"collapse?": f"\n{'':<15}".join(finding["text"] for finding in findings)} if findings else {}


def _table(rows):
  return "\n".join(f"{name:<15}{value}" for name, value in rows.items())
