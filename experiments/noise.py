"""How much of an alpha's gradient is noise: it by many batches of held-out images, at the end of every iteration."""

import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import claims
from experiments import lines
from experiments import runner
from experiments import study as studies
from experiments.lines import Line
from experiments.study import Study
from lfr_darts_jax import bilevel
from lfr_darts_jax.data import augment
from lfr_darts_jax.data import sources
from lfr_darts_jax.network import Network
from lfr_darts_jax.state import SearchState


def run(study: Study, workdir: pathlib.Path, path: pathlib.Path) -> None:
  """Does what is left of a study's searches whose gradients are measured, and what no other process is at."""
  assert study.noise is not None
  for method, count in study.noise.seeds.items():
    for seed in range(count):
      place = f"{path.stem}/{method}/{seed}"
      with claims.claim(workdir / place) as mine:
        if mine and (method, seed) not in studies.done(lines.read(path)):
          print(f"== {place}", flush=True)
          found = _measure(studies.method_config(study, method, seed, study.noise.overrides), workdir / place)
          own = {"data": study.config.data.name, "method": method, "seed": seed}
          with claims.turn(workdir):
            lines.add(path, [own | line for line in found])


def _measure(config: ml_collections.ConfigDict, folder: pathlib.Path) -> list[Line]:
  """Searches; a line per iteration and searched cell, see `scale`."""
  dataset = sources.load(config)
  found: list[Line] = []

  def watch(iteration, network, state):
    updates = int(state.step)
    own = updates - bilevel.warmup_updates(config, updates)
    for name, gradients in _gradients(config, network, state, dataset).items():
      line = {"layers": len(iteration.layout), "cell": name, "alpha_updates": own, "batches": len(gradients)}
      found.append(line | {"noise_scale": scale(gradients)})

  runner.search(config, dataset, folder, watch)
  return found


def _gradients(config, network: Network, state: SearchState, dataset) -> dict[str, np.ndarray]:
  """The gradient of every searched cell's alphas by every batch, `[batches, edges, operations]`."""
  mean, deviation = augment.statistics(dataset.train[0])
  size = config.search.batch_size
  images, labels = dataset.test()
  whole = len(labels) // size
  shaped = lambda values: jnp.asarray(values[: whole * size]).reshape(whole, size, *values.shape[1:])

  @jax.jit
  def by_batch(state, images, labels):
    def gradient(batch):
      normal = bilevel.Batch(augment.normalize(batch[0], mean, deviation), batch[1], state.key)
      loss = lambda alphas: bilevel.supernet_loss(
        network, state.live, state.params, alphas, state.batch_stats, normal, None
      )
      return jax.grad(lambda alphas: loss(alphas)[0])(state.alphas)

    return jax.lax.map(gradient, (images, labels))

  return {name: np.asarray(values) for name, values in by_batch(state, shaped(images), shaped(labels)).items()}


def scale(gradients: np.ndarray) -> float | None:
  """The simple noise scale, in batches: of how many the mean gradient is as large as its standard error.

  The sum of the entries' variances over the squared norm of the true gradient (McCandlish et al. 2018, "An empirical
  model of large-batch training", equation 2.9). The latter's estimate is that of the mean, less what noise adds to it.

  Args:
    gradients: `[batches, ...]`.

  Returns:
    It; None where the noise hides any gradient.
  """
  noise = gradients.var(axis=0, ddof=1).sum()
  signal = np.square(gradients.mean(axis=0)).sum() - noise / len(gradients)
  return float(noise / signal) if signal > 0 else None
