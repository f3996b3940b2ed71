"""Runs one job of a study, and puts what came of it into lines."""

import dataclasses
import json
import pathlib
from typing import Any

import jax

from benchmarks import common
from experiments import diagnostics
from experiments.lines import Line
from experiments.study import Job
from lfr_darts_jax import pipeline
from lfr_darts_jax.runtime import metrics, workdir as workdirs
from lfr_darts_jax.search import multi_seed
from lfr_darts_jax.search.derive import derive
from lfr_darts_jax.search_space import formats


def run(job: Job, workdir: pathlib.Path) -> tuple[Line, list[Line]]:
  """Searches where there is something to search, trains and tests; goes on where an earlier process stopped.

  Returns:
    The line of the result, and those of its search's diagnostics.

  Raises:
    RunError, UsageError: as `pipeline.run`.
  """
  folder = searched = workdir / job.place
  if job.search_of and multi_seed.read_summary(workdir / job.search_of):
    searched = workdir / job.search_of
    job = dataclasses.replace(job, genotype=derive(searched, job.config))
  # What one seed has compiled would make the searches of the next look cheaper than they are.
  jax.config.update("jax_enable_compilation_cache", False)
  memory = _search(job, folder)
  result = pipeline.run(job.config, folder, job.genotype)
  # Programs of one job are of no use to the next, and a study has hundreds.
  jax.clear_caches()
  genotype = formats.load(folder / workdirs.GENOTYPE)
  return _line(job, searched, result, genotype) | {"search_peak_bytes": memory}, diagnostics.course(job, folder)


def _search(job, folder) -> int | None:
  """The search alone, where there is one to do: the largest resident set of this process meanwhile, in bytes.

  None where no process had the whole of it, or the system does not tell.
  """
  if job.genotype is not None or (folder / workdirs.CONFIG).exists():
    return None
  try:
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # Linux begins to measure anew.
  except OSError:
    return None
  pipeline.search(job.config, folder)
  return common.peak_resident()


def _line(job, searched, result, genotype) -> dict[str, Any]:
  summary = multi_seed.read_summary(searched)
  entries = [entry for entry in metrics.read(searched) if entry["phase"] == "search"]
  updates = {entry["iteration"]: entry["step"] for entry in entries}  # The last of every stage.
  return {
    "data": job.config.data.name,
    "method": job.method,
    "seed": job.seed,
    "search_seconds": summary.search_seconds if summary else 0.0,
    "update_seconds": summary.update_seconds if summary else 0.0,
    "updates": sum(updates.values()),
    "train_seconds": result["train_seconds"],
    "test_error": result["test_error"],
    "parameters": result["parameters"],
    "multiply_adds": result["multiply_adds"],
    "channels": job.config.network.channels,
    "collapsed": sorted({finding["cell"] for finding in result["collapse"]}),
    "device": result["device"],
    "packages": result["packages"],
    "finished": result["finished"],
    "genotype": json.loads(genotype.to_json()),
  }
