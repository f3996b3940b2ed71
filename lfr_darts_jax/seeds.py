"""Searches with several seeds, of which the best is kept: DARTS's protocol (section 3.1), on validation data alone.

DARTS trains the cells of four searches for a short while and compares their validation accuracies. Here it is the
accuracy of the last supernet on the half of the data that moves the alphas, which costs nothing more; our choice.
"""

from collections.abc import Callable
from concurrent import futures
import dataclasses
import json
import shutil
from typing import Any

from lfr_darts_jax import genotype as genotypes
from lfr_darts_jax import metrics
from lfr_darts_jax import parallel
from lfr_darts_jax import processes
from lfr_darts_jax import reading
from lfr_darts_jax import storage
from lfr_darts_jax import workdir as places
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short
from lfr_darts_jax.files import write_atomically
from lfr_darts_jax.storage import Path


@dataclasses.dataclass(frozen=True)
class Searched:
  """What a search ended with.

  Attributes:
    seed: its seed.
    validation_accuracy: of its last supernet on the half that moves the alphas, from 0 to 1.
    search_seconds: its time.
    genotype: its cells.
    chosen: whether it is the best one, of equal ones the first.
  """

  seed: int
  validation_accuracy: float
  search_seconds: float
  genotype: genotypes.Genotype
  chosen: bool = False

  def to_json(self) -> dict[str, Any]:
    """As plain data."""
    return {**dataclasses.asdict(self), "genotype": json.loads(self.genotype.to_json())}


def groups(devices: parallel.Devices, count: int) -> list[parallel.Devices]:
  """Groups of equal size, for searches side by side; those of several processes work together on one.

  Args:
    devices: to be divided; what is left over is not used.
    count: searches, at least one.
  """
  if processes.count() > 1:
    return [devices]
  number = min(count, devices.size)
  size = devices.size // number
  return [parallel.Devices(devices.members[i * size : (i + 1) * size]) for i in range(number)]


def run(
  seeds: list[int], devices: parallel.Devices, search: Callable[[int, parallel.Devices, int], Searched]
) -> list[Searched]:
  """Searches with every seed: side by side on groups of devices, and one after another in each group.

  Args:
    seeds: of the searches.
    devices: for all of them.
    search: from a seed, its devices and the number of searches that follow it on these.

  Returns:
    Their outcomes, in the order of the seeds, the best one marked.

  Raises:
    Exception: what a search raises, once those beside it have ended.
  """
  teams = groups(devices, len(seeds))

  def in_turn(index):
    own = seeds[index :: len(teams)]
    return [search(seed, teams[index], len(own) - done) for done, seed in enumerate(own, 1)]

  if len(teams) == 1:
    outcomes = in_turn(0)
  else:
    with futures.ThreadPoolExecutor(len(teams)) as pool:
      running = [pool.submit(in_turn, index) for index in range(len(teams))]
    outcomes = [outcome for future in running for outcome in future.result()]
  outcomes.sort(key=lambda outcome: seeds.index(outcome.seed))
  first = max(outcomes, key=lambda outcome: outcome.validation_accuracy)
  return [dataclasses.replace(outcome, chosen=outcome is first) for outcome in outcomes]


def best(outcomes: list[Searched]) -> Searched:
  """The one that `run` has marked."""
  (chosen,) = (outcome for outcome in outcomes if outcome.chosen)
  return chosen


def folder(workdir: Path, seed: int) -> Path:
  """The work directory of one seed's search."""
  return workdir / places.SEEDS / str(seed)


def keep(workdir: Path, outcomes: list[Searched]) -> None:
  """Writes down all outcomes, and makes the best search that of the work directory itself, but for its genotype."""
  origin = folder(workdir, best(outcomes).seed)
  storage.make_folder(workdir / places.SEARCH)
  for name in (metrics.NAME, places.SEARCH_SUMMARY):
    write_atomically(workdir / name, (origin / name).read_bytes())
  with storage.fetched(origin / metrics.EVENTS) as events:
    if storage.is_local(workdir):
      shutil.copytree(events, workdir / metrics.EVENTS, dirs_exist_ok=True)
    else:
      storage.put(events, workdir / metrics.EVENTS)
  write_atomically(workdir / places.ALL_SEEDS, json.dumps([outcome.to_json() for outcome in outcomes]) + "\n")


def read(workdir: Path) -> list[Searched]:
  """The outcomes of a work directory's searches; none where it has a single one, or they are not done.

  Raises:
    UsageError: where their file can't be read.
  """
  path = workdir / places.ALL_SEEDS
  if not path.exists():
    return []
  found = reading.parse_json(reading.read_text(path, 100 * places.MAX_BYTES), str(path))
  if not isinstance(found, list):
    raise UsageError(f"{path}: {short(found)}; allowed is a list")
  return [_parse(entry, f"{path}, entry {i}") for i, entry in enumerate(found, 1)]


def _parse(entry, name):
  if not isinstance(entry, dict) or not isinstance(entry.get("chosen"), bool):
    raise UsageError(f"{name}: {short(entry)}; allowed is an object that says whether it was chosen")
  number = lambda key, **bounds: reading.numbers(entry.get(key), f"{name}: {key}", low=0, **bounds)
  try:
    genotype = genotypes.parse(json.dumps(entry.get("genotype")))
  except UsageError as error:
    raise UsageError(f"{name}: {error}") from None
  return Searched(
    int(number("seed", integers=True)),
    float(number("validation_accuracy")),
    float(number("search_seconds")),
    genotype,
    entry["chosen"],
  )
