"""Searches for a watcher, who looks into the supernet at the end of every iteration, on held-out images."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import ml_collections

from lfr_darts_jax import driver
from lfr_darts_jax.data import augment
from lfr_darts_jax.data.sources import Dataset
from lfr_darts_jax.genotype import Genotype
from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.metrics import Metrics
from lfr_darts_jax.progress import Progress


def search(config: ml_collections.ConfigDict, dataset: Dataset, folder: pathlib.Path, watch: driver.Watch) -> Genotype:
  """A search from the beginning, since what a watcher keeps is kept in this process alone.

  Args:
    config: its config.
    dataset: its data.
    folder: where its run lies; emptied first.
    watch: see `driver.Search.run`.
  """
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  metrics = Metrics(folder, config)
  with Interrupt() as interrupt:
    found, _ = driver.Search(config, dataset, folder, metrics, Progress({}), interrupt).run(watch)
  metrics.close()
  jax.clear_caches()
  return found


def batches(dataset: Dataset, size: int) -> tuple[jax.Array, jax.Array]:
  """The test images in whole batches, normalised and not augmented, `[batches, size, ...]`, and their labels."""
  images, labels = dataset.test()
  whole = len(labels) // size
  shaped = lambda values: jnp.asarray(values[: whole * size]).reshape(whole, size, *values.shape[1:])
  return augment.normalize(shaped(images), *augment.statistics(dataset.train[0])), shaped(labels)
