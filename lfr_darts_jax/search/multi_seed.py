"""Searches with several seeds, of which the best is kept: DARTS's protocol (section 3.1), on validation data alone.

DARTS trains the cells of four searches for a short while and compares their validation accuracies. Here it is the
accuracy of the last supernet on the half of the data its weights did not learn from, which costs nothing more; our
choice.
"""

from collections.abc import Callable
from concurrent import futures
import dataclasses
import json
import shutil
from typing import Annotated, Any

import msgspec

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import distributed, json_io, metrics, paths, workdir as workdirs
from lfr_darts_jax.runtime.distributed import Devices
from lfr_darts_jax.runtime.optional import optional
from lfr_darts_jax.runtime.paths import Path
from lfr_darts_jax.search.diagnostics import Finding
from lfr_darts_jax.search_space.genotype import Genotype, parse_json

Number = Annotated[float, msgspec.Meta(ge=0)]


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
  genotype: Genotype
  chosen: bool = False


def groups(devices: Devices, count: int) -> list[Devices]:
  """Groups of equal size, for searches side by side; those of several processes work together on one.

  Args:
    devices: to be divided; what is left over is not used.
    count: searches, at least one.
  """
  if distributed.process_count() > 1:
    return [devices]
  number = min(count, devices.size)
  size = devices.size // number
  return [Devices(devices.members[i * size : (i + 1) * size]) for i in range(number)]


def run(seeds: list[int], devices: Devices, search: Callable[[int, Devices], Searched]) -> list[Searched]:
  """Searches with every seed: side by side on groups of devices, and one after another in each group.

  Args:
    seeds: of the searches.
    devices: for all of them.
    search: from a seed and its devices.

  Returns:
    Their outcomes, in the order of the seeds, the best one marked.

  Raises:
    Exception: what a search raises, once those beside it have ended.
  """
  teams = groups(devices, len(seeds))

  def in_turn(index: int) -> list[Searched]:
    return [search(seed, teams[index]) for seed in seeds[index :: len(teams)]]

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
  return workdir / workdirs.SEEDS / str(seed)


def save_outcomes(workdir: Path, outcomes: list[Searched]) -> None:
  """Writes down all outcomes, and makes the best search that of the work directory itself, but for its genotype."""
  origin = folder(workdir, best(outcomes).seed)
  paths.make_folder(workdir / workdirs.SEARCH)
  for name in (metrics.NAME, workdirs.SEARCH_SUMMARY):
    paths.write_atomically(workdir / name, (origin / name).read_bytes())
  # There are none without tensorboardX.
  if paths.names(origin / metrics.EVENTS):
    with optional(f"{metrics.EVENTS} of the best search"), paths.fetched(origin / metrics.EVENTS) as events:
      if paths.is_local(workdir):
        shutil.copytree(events, workdir / metrics.EVENTS, dirs_exist_ok=True)
      else:
        paths.put(events, workdir / metrics.EVENTS)
  written = [{**dataclasses.asdict(o), "genotype": json.loads(o.genotype.to_json())} for o in outcomes]
  paths.write_atomically(workdir / workdirs.ALL_SEEDS, json_io.dumps(written))


class Summary(msgspec.Struct):
  """What `search/summary.json` holds of a search that is done.

  Attributes:
    search_seconds: over all processes.
    update_seconds: of these, the seconds of steps alone.
    validation_accuracy: of the last supernet, from 0 to 1.
    collapse: signs of it.
    strengths: see `state.SearchPosition`; empty where an earlier version searched.
  """

  search_seconds: Number
  update_seconds: Number
  validation_accuracy: Number
  collapse: list[Finding]
  strengths: dict[str, tuple[tuple[float, ...], ...]] = {}


def read_summary(workdir: Path) -> Summary | None:
  """The summary of a work directory's search; None before its end and where there was none.

  Raises:
    UsageError: where its file can't be read.
  """
  path = workdir / workdirs.SEARCH_SUMMARY
  return json_io.read_json(path, Summary, workdirs.MAX_BYTES) if path.exists() else None


class _Written(msgspec.Struct):
  """An entry of `seeds.json`."""

  seed: Annotated[int, msgspec.Meta(ge=0)]
  validation_accuracy: Number
  search_seconds: Number
  genotype: dict[str, Any]
  chosen: bool


def read(workdir: Path) -> list[Searched]:
  """The outcomes of a work directory's searches; none where it has a single one, or they are not done.

  Raises:
    UsageError: where their file can't be read.
  """
  path = workdir / workdirs.ALL_SEEDS
  if not path.exists():
    return []
  found = []
  for i, entry in enumerate(json_io.read_json(path, list[_Written], 100 * workdirs.MAX_BYTES), 1):
    try:
      genotype = parse_json(json.dumps(entry.genotype))
    except UsageError as error:
      raise UsageError(f"{path}, entry {i}: {error}") from None
    found.append(Searched(entry.seed, entry.validation_accuracy, entry.search_seconds, genotype, entry.chosen))
  return found
