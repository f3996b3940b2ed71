"""How much of an alpha's gradient is noise: it by many batches of held-out images, at the end of every iteration."""

import pathlib

import jax
import ml_collections
import numpy as np

from experiments import claims, lines, study as studies, watched
from experiments.lines import Line
from experiments.study import Study
from lfr_darts_jax.data import datasets
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.search.objective import Batch, Objective, supernet_loss
from lfr_darts_jax.search.state import SearchState


def run(study: Study, workdir: pathlib.Path, path: pathlib.Path) -> None:
  """Does what is left of a study's searches whose gradients are measured, and what no other process is at."""
  assert study.noise is not None
  for method, count in study.noise.seeds.items():
    for seed in range(count):
      place = f"{path.stem}/{method}/{seed}"
      with claims.due(workdir, place, path, (method, seed)) as own:
        if own:
          found = _measure(studies.method_config(study, method, seed, study.noise.overrides), workdir / place)
          named = {"data": study.config.data.name, "method": method, "seed": seed}
          with claims.turn(workdir):
            lines.add(path, [named | line for line in found])


def _measure(config: ml_collections.ConfigDict, folder: pathlib.Path) -> list[Line]:
  """Searches; a line per iteration and searched cell, see `scale`."""
  dataset = datasets.open_dataset(config)
  images_and_labels = watched.batches(dataset, config.search.batch_size)
  found: list[Line] = []

  def watch(stage, network, state):
    updates = int(state.step)
    own = updates - stage.warmup_steps(updates)
    for name, by_batch in gradients(network, state, images_and_labels).items():
      line = {"layers": len(stage.layout), "cell": name, "alpha_updates": own, "batches": len(by_batch)}
      found.append(line | {"noise_scale": scale(by_batch)})

  watched.search(config, dataset, folder, watch)
  return found


def gradients(
  network: Network, state: SearchState, images_and_labels: tuple[jax.Array, jax.Array]
) -> dict[str, np.ndarray]:
  """The gradient of every searched cell's alphas by every batch, `[batches, edges, operations]`.

  Args:
    network: the supernet.
    state: its state.
    images_and_labels: see `watched.batches`.
  """

  @jax.jit
  def by_batch(state, images, labels):
    def gradient(batch):
      of_batch = Batch(*batch, state.key)
      loss = lambda alphas: supernet_loss(
        network, Objective(), state.mask, state.params, alphas, state.batch_stats, of_batch
      )
      return jax.grad(loss, has_aux=True)(state.alphas)[0]

    return jax.lax.map(gradient, (images, labels))

  return {name: np.asarray(found.operations) for name, found in by_batch(state, *images_and_labels).items()}


def scale(by_batch: np.ndarray) -> float | None:
  """The simple noise scale, in batches: of how many the mean gradient is as large as its standard error.

  The sum of the entries' variances over the squared norm of the true gradient (McCandlish et al. 2018, "An empirical
  model of large-batch training", equation 2.9). The latter's estimate is that of the mean, less what noise adds to it.

  Args:
    by_batch: gradients, `[batches, ...]`.

  Returns:
    It; None where the noise hides any gradient.
  """
  noise = by_batch.var(axis=0, ddof=1).sum()
  signal = np.square(by_batch.mean(axis=0)).sum() - noise / len(by_batch)
  return float(noise / signal) if signal > 0 else None
