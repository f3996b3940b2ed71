"""The main job in one work directory: search, train, test, report. Each part continues where it stopped."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import functools
from importlib import metadata
import os
import sys
import time
from typing import Any, TypeAlias

import jax
import ml_collections
import msgspec
import numpy as np

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets, identity, input_pipeline
from lfr_darts_jax.data.identity import Identity
from lfr_darts_jax.errors import UsageError, one_line
from lfr_darts_jax.models import cost
from lfr_darts_jax.models.spaces import final_network
from lfr_darts_jax.report import drawing, misclassified, page, run_data
from lfr_darts_jax.runtime import distributed, jax_setup, json_io, metrics, paths, workdir as workdirs
from lfr_darts_jax.runtime.distributed import Devices, broadcast_from_primary
from lfr_darts_jax.runtime.optional import optional
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.runtime.preemption import Preemption
from lfr_darts_jax.runtime.progress import Progress, duration
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search import diagnostics, multi_seed, plans
from lfr_darts_jax.search.diagnostics import Finding
from lfr_darts_jax.search.search import Search
from lfr_darts_jax.search_space import formats
from lfr_darts_jax.search_space.genotype import Genotype
from lfr_darts_jax.training import init_from, predictor, result as results, spikes
from lfr_darts_jax.training.evaluate import Evaluation
from lfr_darts_jax.training.result import Result
from lfr_darts_jax.training.train import Base, Training, check_batch_size

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
COLUMN = 19  # Where the values of a printed table begin, behind the longest name.
FROM_PYTHON = "(called from Python)"
Given: TypeAlias = Genotype | Mapping[str, Any] | Path | str
NOT_COMPARED = (
  "the data can't be compared with those that this directory was begun with: an earlier version did not write them down"
)

NOT_TESTED = "{} images of the test can't be read and are left out of it"


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
  with _open(config, workdir, command, ("search",)) as job:
    return job.search()


def train(
  config: ml_collections.ConfigDict, genotype: Given | None, workdir: str | Path, *, command: str = FROM_PYTHON
) -> dict[str, Any]:
  """Trains the network of a genotype, from scratch or from `train.init_from`, and tests it.

  Args:
    config: the config.
    genotype: the derived cells, as an object, a name, a path or text, see `formats.as_genotype`; None for those of the
      workdir or else of `train.init_from`.
    workdir: where the run is kept.
    command: how the report says that the run was started.

  Returns:
    What `result.json` holds, see `training.result.Result`.

  Raises:
    UsageError: for wrong input.
    Interrupted: after SIGINT or SIGTERM; the same call continues.
  """
  given = None if genotype is None else formats.as_genotype(genotype)
  with _open(config, workdir, command, ("train",)) as job:
    job.set_genotype(given)
    return job.train()


def run(
  config: ml_collections.ConfigDict, workdir: str | Path, genotype: Given | None = None, *, command: str = FROM_PYTHON
) -> dict[str, Any]:
  """Searches, trains and tests; returns what `result.json` holds. A given genotype takes the place of the search."""
  given = None if genotype is None else formats.as_genotype(genotype)
  with _open(config, workdir, command, schema.PHASES if given is None else ("train",)) as job:
    if given is not None:
      job.set_genotype(given)
    job.search()
    return job.train()


def describe(config: ml_collections.ConfigDict, genotype: Given) -> dict[str, int]:
  """Cost of a genotype's final network, without data or training: see `cost.describe`, and its `layers`."""
  schema.validate(config, (), schema.COST_FIELDS)
  network = final_network(config, formats.as_genotype(genotype))
  return {**cost.describe(network, schema.image_shape(config)), "layers": len(network.layout)}


def evaluate(workdir: str | Path, config: ml_collections.ConfigDict | None = None) -> dict[str, Any]:
  """Tests the trained network of a directory, in which nothing is changed.

  Args:
    workdir: the directory.
    config: for `data`, where the test split is; classes are matched by name. None for the directory's.

  Returns:
    `test_error`, `top5_error` and `balanced_accuracy` in percent, and the number of `images`.

  Raises:
    UsageError: where the directory holds no trained network, or the data don't suit it.
  """
  workdir = paths.path(workdir)
  trained = predictor.load(workdir)
  config = config or trained.config
  schema.validate(config, (), schema.TEST_FIELDS)
  devices = distributed.all_devices()
  devices.check("train.batch_size", trained.config.train.batch_size, None)
  test, data = datasets.open_test(config, trained.class_names)
  for line in data.notes:
    print(line, file=sys.stderr, flush=True)
  _compare_tested(_identity(workdir), trained.config, config, data.identity)
  split = input_pipeline.open_split(test, config, devices)
  tested = trained.test(split, devices)
  if left_out := (data.test_images or split.count) - tested.total:
    print(NOT_TESTED.format(left_out), file=sys.stderr, flush=True)
  return {**_figures(tested), "images": tested.total}


def _figures(tested: Evaluation) -> dict[str, Any]:
  """What is told of a test everywhere, in percent."""
  return {"test_error": tested.error, "top5_error": tested.top5_error, "balanced_accuracy": tested.balanced_accuracy}


def _identity(workdir: Path) -> Identity | None:
  """That of the data that a work directory was begun with; None where an earlier version began it."""
  path = workdir / workdirs.DATA
  return json_io.read_json(path, Identity, 100 * workdirs.MAX_BYTES) if path.exists() else None


def _compare_tested(
  before: Identity | None, trained: ml_collections.ConfigDict, config: ml_collections.ConfigDict, data: Identity
) -> None:
  """Says on stderr what is not as it was in the training; refuses what could be images that were trained on."""
  if before is None:
    print(NOT_COMPARED, file=sys.stderr, flush=True)
    return
  changed = "; ".join(identity.differences(before, data))
  here, there = (os.path.realpath(paths.expanded(its.data.dir or "")) for its in (config, trained))
  if changed and data.held_out and (data.source, here) == (before.source, there):
    raise UsageError(
      f"config.data.dir: {config.data.dir} has changed since the training ({changed}), so that images of it that were "
      "not trained on can't be told any more; allowed are data with a test split, or the same images"
    )
  if changed:
    print(f"the data are not those of the training ({changed})", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _open(
  config: ml_collections.ConfigDict, workdir: str | Path, command: str, phases: Sequence[str]
) -> Iterator["_Job"]:
  workdir = paths.path(workdir)
  # What is searched already is held to nothing that a search needs.
  if broadcast_from_primary((workdir / workdirs.GENOTYPE).exists):
    phases = [phase for phase in phases if phase != "search"]
  schema.validate(config, phases)
  with workdirs.locked(workdir):
    yield _Job(config, workdir, command, phases)


class _Job:
  """A work directory and what its phases share: data, metrics, progress."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: Path,
    command: str,
    phases: Sequence[str],
    devices: Devices | None = None,
    dataset: datasets.Dataset | None = None,
    preemption: Preemption | None = None,
    name: str = "",
  ):
    jax_setup.enable_cache()
    self._config, self._workdir, self._command, self._phases = config, workdir, command, phases
    self._devices = devices or distributed.all_devices()
    for phase in phases:
      size = config[phase].batch_size
      self._devices.check(f"{phase}.batch_size", size, config.network.batch_norm_group)
    broadcast_from_primary(self._check)
    self._dataset = dataset or datasets.open_dataset(config)
    broadcast_from_primary(self._compare_data)
    if "train" in phases:
      check_batch_size(config, self._dataset.train_images)
    for line in () if dataset else self._dataset.notes:
      print(line, flush=True)
    self._progress = Progress(name)
    self._metrics = metrics.Metrics(self._workdir, schema.flatten(config), self._progress.say)
    self._preemption = preemption or Preemption()

  def _check(self) -> None:
    """Refuses what can't be continued, before anything is written."""
    workdirs.check(self._workdir, schema.flatten(self._config))
    metrics.read(self._workdir)
    if (self._workdir / workdirs.CONFIG).exists():
      run_data.read(self._workdir)

  def _compare_data(self) -> None:
    """Refuses other data than those that the directory was begun with, and tells where they have only moved."""
    if not workdirs.begun(self._workdir):
      return
    before = _identity(self._workdir)
    if before is None:
      print(NOT_COMPARED, flush=True)
    elif changed := "; ".join(identity.differences(before, self._dataset.identity)):
      raise UsageError(
        f"config.data: {self._workdir} was begun with other data; allowed are the same, or a new workdir ({changed})"
      )
    was, place = (workdirs.flat_config(self._workdir) or {}).get("data.dir"), self._config.data.dir
    if before is not None and was != place:
      print(f"the data were in {was} before, now in {place}; they are the same", flush=True)

  def _genotype(self) -> Genotype | None:
    """That of the directory."""
    path = self._workdir / workdirs.GENOTYPE
    text = broadcast_from_primary(lambda: formats.load(path).to_json() if path.exists() else None)
    return text and formats.parse(text)

  def set_genotype(self, given: Genotype | None) -> None:
    """Takes a genotype in place of a search: the given one, or that of the directory, or of `train.init_from`."""
    there = self._genotype()
    genotype = given or there or (self._trained.genotype if self._config.train.init_from else None)
    if genotype is None:
      raise UsageError("genotype: not given; allowed is one, a workdir that has one, or config.train.init_from")
    genotype = formats.parse(genotype.to_json())
    final_network(self._config, genotype)
    if there is None:
      if self._config.train.init_from:
        init_from.check(self._trained, self._config, genotype)
      self._begin()
      self._write_genotype(genotype)
    elif there != genotype:
      path = self._workdir / workdirs.GENOTYPE
      raise UsageError(f"genotype: {path} holds another; allowed is the same one, or a new workdir")

  @functools.cached_property
  def _trained(self) -> predictor.Predictor:
    """The network that `train.init_from` names; asked for only until a checkpoint holds what was taken of it."""
    return init_from.load(self._config.train.init_from)

  def _base(self, genotype: Genotype) -> Base:
    init_from.check(self._trained, self._config, genotype)
    return init_from.base(self._trained, self._config.train.init_from, self._dataset.class_names, self._progress.say)

  def _begin(self) -> None:
    """Claims the directory for this config, once nothing is left that could be refused."""
    flat, data = schema.flatten(self._config), self._dataset.identity
    broadcast_from_primary(lambda: workdirs.claim(self._workdir, flat, data, self._command))

  def _write_genotype(self, genotype: Genotype) -> None:
    with optional("the cells drawn in TensorBoard", self._progress.say):
      for name, figure in drawing.pictures(genotype.cells).items():
        self._metrics.write_image(f"cells/{name}", drawing.render(figure, "png"))
    self._metrics.close()
    path = self._workdir / workdirs.GENOTYPE
    broadcast_from_primary(lambda: paths.write_atomically(path, genotype.to_json()))

  def search(self) -> Genotype:
    """Searches, unless there is a genotype; stops before anything is trained on a search that has collapsed."""
    found = self._genotype()
    if found is None:
      if "train" in self._phases:  # What could not be trained is not searched.
        plan = plans.make(self._config)
        final_network(self._config, plan.genotype(plan.cells))
      found = self._search() if self._config.search.num_seeds == 1 else self._search_with_seeds()
    diagnostics.stop_if_collapsed(self._config.search, self._findings())
    return found

  def _summary(self) -> dict[str, Any] | None:
    """`search/summary.json`, as JSON has it."""
    return broadcast_from_primary(lambda: msgspec.to_builtins(multi_seed.read_summary(self._workdir)))

  def _findings(self) -> list[Finding]:
    summary = self._summary()
    return msgspec.convert(summary["collapse"], list[Finding]) if summary else []

  def _search_with_seeds(self) -> Genotype:
    config = self._config
    with self._preemption:
      self._begin()
      seeds = [config.seed + i for i in range(config.search.num_seeds)]
      outcomes = multi_seed.run(seeds, self._devices, self._search_one)
    broadcast_from_primary(lambda: multi_seed.save_outcomes(self._workdir, outcomes))
    found = multi_seed.best(outcomes).genotype
    self._write_genotype(found)
    for outcome in outcomes:
      accuracy = f"validation accuracy {100 * outcome.validation_accuracy:.1f} %"
      print(f"seed {outcome.seed} | {accuracy}{', chosen' if outcome.chosen else ''}", flush=True)
    self._write_page()
    return found

  def _search_one(self, seed: int, devices: Devices) -> multi_seed.Searched:
    """One of several searches, in a work directory of its own, as a single run with this seed would do it."""
    config = self._config.copy_and_resolve_references()
    config.seed, config.search.num_seeds = seed, 1
    folder = multi_seed.folder(self._workdir, seed)
    with workdirs.locked(folder):
      job = _Job(config, folder, self._command, ("search",), devices, self._dataset, self._preemption, f"seed {seed}")
      genotype = job._genotype() or job._search()
      summary = job._summary()
    assert summary
    return multi_seed.Searched(seed, summary["validation_accuracy"], summary["search_seconds"], genotype)

  def _search(self) -> Genotype:
    with self._preemption, contextlib.closing(self._metrics):
      session = self._session(workdirs.SEARCH)
      job = Search(self._config, self._dataset, session, self._devices)
      self._begin()
      found = job.run()
      session.stop_clock()
      self._metrics.flush()  # What follows reads them, and no genotype may be ahead of them.
      broadcast_from_primary(lambda: self._write_summary(session, job.strengths))
      self._write_genotype(found)
      rows = {"search": duration(session.clock.seconds), **_signs(self._findings()), "page": self._write_page()}
      self._progress.say(_table(rows))
    return found

  def _session(self, folder: str) -> Session:
    return Session(self._config, self._workdir, folder, self._metrics, self._progress, self._preemption)

  def _write_summary(self, session: Session, strengths: Mapping[str, Any]) -> None:
    entries = metrics.read(self._workdir)
    accuracy = next(e["validation_accuracy"] for e in reversed(entries) if "validation_accuracy" in e)
    seconds = session.clock.seconds, session.clock.step_seconds
    summary = multi_seed.Summary(*seconds, accuracy, diagnostics.latest(entries), dict(strengths))
    paths.make_folder(self._workdir / workdirs.SEARCH)  # A short search saved nothing in it.
    paths.write_atomically(self._workdir / workdirs.SEARCH_SUMMARY, json_io.dumps(summary))

  def train(self) -> dict[str, Any]:
    """Trains and tests, unless there is a result; returns what `result.json` holds."""
    found = broadcast_from_primary(lambda: msgspec.to_builtins(results.load(self._workdir, self._config)))
    if found is not None:
      print(_outcome(msgspec.convert(found, Result), self._write_page()))
      return found
    genotype = self._genotype()
    assert genotype
    with self._preemption, contextlib.closing(self._metrics):
      session = self._session(workdirs.CHECKPOINTS)
      base = functools.partial(self._base, genotype) if self._config.train.init_from else None
      network = final_network(self._config, genotype)
      job = Training(self._config, network, self._dataset, session, self._devices, base)
      self._begin()
      state = job.run()
      session.stop_clock()
    result = self._test(genotype, job, state, session.clock.seconds)
    broadcast_from_primary(lambda: paths.write_atomically(self._workdir / workdirs.RESULT, json_io.dumps(result)))
    self._progress.say(_outcome(result, self._write_page()))
    return msgspec.to_builtins(result)

  def _write_page(self) -> str:
    """Its path; or why there is none, which ends no run."""

    def write() -> str:
      try:
        return str(page.write(self._workdir))
      except Exception as error:
        return one_line(f"can't be written ({type(error).__name__}: {error})")

    with self._progress.waiting("writing the page"):
      return broadcast_from_primary(write)

  def _test(self, genotype: Genotype, job: Training, state: Any, seconds: float) -> Result:
    """Tests the trained network, and keeps a sample of the images that it got wrong."""
    config, names, statistics = self._config, self._dataset.class_names, job.steps.statistics
    trained = predictor.Predictor(config, genotype, names, statistics, state.variables)
    test = input_pipeline.open_split(self._dataset.test(), config, self._devices)
    with self._progress.waiting(f"testing on {test.count} images"):
      tested = trained.test(test, self._devices)
    if left_out := (self._dataset.test_images or test.count) - tested.total:
      self._progress.say(NOT_TESTED.format(left_out))
    step = int(state.step)
    figures = _figures(tested)
    if config.network.activation == "lif":
      first = np.arange(min(test.count, config.train.batch_size))
      figures["spike_rate"] = broadcast_from_primary(lambda: spikes.rate(trained, test.images(first)))
    self._metrics.write("test", 0, step, figures, step)
    self._metrics.close()
    broadcast_from_primary(lambda: self._save_mistakes(test, tested))
    costs, summary = describe(config, genotype), self._summary()
    return Result(
      **figures,
      class_errors=tested.class_errors,
      confusion=tested.confusion.tolist(),
      **costs,
      updates=step,
      search_seconds=summary["search_seconds"] if summary else None,
      train_seconds=seconds,
      collapse=summary["collapse"] if summary else [],
      mean=list(statistics[0]),
      deviation=list(statistics[1]),
      class_names=list(names),
      data=self._dataset.identity,
      skipped_files=len(self._dataset.skipped),
      seed=config.seed,
      device=jax.devices()[0].device_kind,
      devices=jax.device_count(),
      finished=broadcast_from_primary(lambda: time.strftime("%Y-%m-%d %H:%M:%S %z")),
      packages=_versions(),
    )

  def _save_mistakes(self, test: input_pipeline.Split, tested: Evaluation) -> None:
    with optional("a sample of wrong images on the page", self._progress.say):
      misclassified.save(self._workdir, test.images, tested, self._config.seed)


def _versions() -> dict[str, str]:
  """Those of `PACKAGES` that are told, which a build of one's own may not."""
  found = {}
  for name in PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[name] = metadata.version(name)
  return found


def _outcome(result: Result, page_path: str) -> str:
  searched, balanced = result.search_seconds, result.balanced_accuracy
  return _table(
    {
      "test error": f"{result.test_error:.2f} %",
      "top-5 error": f"{result.top5_error:.2f} %",
      **({} if balanced is None else {"balanced accuracy": f"{balanced:.2f} %"}),
      **({} if result.spike_rate is None else {"spikes per step": f"{result.spike_rate:.3f}"}),
      "parameters": f"{result.parameters:,}",
      "multiply-adds": f"{result.multiply_adds:,}",
      **({} if searched is None else {"search": duration(searched)}),
      **_signs(msgspec.convert(result.collapse, list[Finding])),
      "training": duration(result.train_seconds),
      "page": page_path,
    }
  )


def _signs(findings: list[Finding]) -> dict[str, str]:
  return {"collapse?": f"\n{'':<{COLUMN}}".join(finding.text for finding in findings)} if findings else {}


def _table(rows: dict[str, str]) -> str:
  return "\n".join(f"{name:<{COLUMN}}{value}" for name, value in rows.items())
