"""Searches for a watcher, who looks into the supernet at the end of every stage, on held-out images."""

from collections.abc import Mapping, Sequence
import pathlib
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import augment
from lfr_darts_jax.data.datasets import Dataset
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.runtime.metrics import Metrics
from lfr_darts_jax.runtime.preemption import Preemption
from lfr_darts_jax.runtime.session import Session
from lfr_darts_jax.search.search import Search, Watch
from lfr_darts_jax.search_space.genotype import Genotype


class Watched(NamedTuple):
  """What a watched search ends with.

  Attributes:
    genotype: the derived cells.
    strengths: see `search.Search`.
    seconds: of the search, over all processes.
  """

  genotype: Genotype
  strengths: Mapping[str, Sequence[Sequence[float]]]
  seconds: float


def search(config: ml_collections.ConfigDict, dataset: Dataset, folder: pathlib.Path, watch: Watch) -> Genotype:
  """A search from the beginning, since what a watcher keeps is kept in this process alone.

  Args:
    config: its config.
    dataset: its data.
    folder: where its run lies; emptied first.
    watch: see `search.Search`.
  """
  shutil.rmtree(folder, ignore_errors=True)
  return go_on(config, dataset, folder, watch).genotype


def go_on(config: ml_collections.ConfigDict, dataset: Dataset, folder: pathlib.Path, watch: Watch) -> Watched:
  """A search that goes on where it was stopped, for who watches its last stage alone; arguments as of `search`."""
  folder.mkdir(parents=True, exist_ok=True)
  metrics = Metrics(folder, schema.flatten(config))
  with Preemption() as preemption:
    session = Session(config, folder, workdirs.SEARCH, metrics, preemption=preemption)
    made = Search(config, dataset, session, watch=watch)
    found = made.run()
    session.stop_clock()
  metrics.close()
  jax.clear_caches()
  return Watched(found, made.strengths, session.clock.seconds)


def batches(dataset: Dataset, size: int) -> tuple[jax.Array, jax.Array]:
  """The test images in whole batches, normalised and not augmented, `[batches, size, ...]`, and their labels."""
  images, labels = dataset.test()
  whole = len(labels) // size
  shaped = lambda values: jnp.asarray(values[: whole * size]).reshape(whole, size, *values.shape[1:])
  return augment.normalize(shaped(images), *augment.statistics(dataset.train[0])), shaped(labels)
