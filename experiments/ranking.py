"""Whether a supernet ranks a stage's derived cells as training does: judged in it, and trained alone."""

from collections.abc import Callable
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments import claims, lines, watched
from experiments.study import REFERENCE, Ranking, Study, method_config
from lfr_darts_jax import pipeline
from lfr_darts_jax.data import datasets
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.runtime.paths import write_atomically
from lfr_darts_jax.search import pruning
from lfr_darts_jax.search_space.cell_spec import CellSpec
from lfr_darts_jax.search_space.genotype import Genotype

BATCH = 100  # Images that share batch norms' statistics in the supernet.


def run(study: Study, workdir: pathlib.Path, path: pathlib.Path) -> None:
  """Does what is left of a study's ranking, and adds its lines; nothing where another process is at it.

  A search with seed 0 is run; at the end of the iteration that searches the cell, cells drawn from what its rounds of
  pruning have left are tried in the supernet, on images that neither search nor training sees
  (`data.validation_fraction`). Then each takes the place of that cell in the genotype that was found, and the network
  is trained from scratch and tested on the same images.
  """
  assert study.ranking is not None
  with claims.claim(workdir / path.stem) as mine:
    if mine:
      _rank(study, study.ranking, workdir, path)


def _rank(study, ranking, workdir, path):
  config = method_config(study, REFERENCE, 0, ranking.overrides)
  folder = workdir / path.stem
  there = folder / "candidates.json"
  if not there.exists():
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(there, json.dumps(_try_candidates(config, ranking, folder / "search")) + "\n")
  done = {line["seed"] for line in lines.read(path)}
  for index, candidate in enumerate(json.loads(there.read_text())):
    if index in done:
      continue
    print(f"== ranking, candidate {index}", flush=True)
    result = pipeline.train(config, lines.genotype(candidate), folder / str(index))
    jax.clear_caches()
    keys = ("test_error", "parameters", "multiply_adds", "device", "finished")
    line = {"data": config.data.name, "method": ranking.cell, "seed": index, **candidate}
    lines.add(path, [line | {key: result[key] for key in keys}])


def _try_candidates(config, ranking: Ranking, workdir):
  """Searches; returns the genotype and the supernet's accuracy of every candidate."""
  dataset = datasets.open_dataset(config)
  judged: list[tuple[CellSpec, float]] = []

  def watch(stage, network, state):
    if ranking.cell in stage.searched:
      (cell,) = [cell for cell in network.cells if cell.name == ranking.cell]
      accuracy = _accuracy(network, state, dataset)
      rng = np.random.default_rng([config.seed, 12])
      judged.extend((candidate, accuracy(candidate)) for candidate in draw(cell, ranking.candidates, rng))

  found = watched.search(config, dataset, workdir, watch)
  chosen = lambda cell: tuple(cell if cell.name == own.name else own for own in found.cells)
  return [
    {"supernet_accuracy": accuracy, "genotype": json.loads(Genotype(chosen(cell)).to_json())}
    for cell, accuracy in judged
  ]


def draw(cell: CellSpec, count: int, rng: np.random.Generator) -> list[CellSpec]:
  """Different derived cells, drawn evenly from a cell's candidates."""
  operations = tuple(dict.fromkeys(name for left in cell.candidates for name in left))
  drawn: dict[CellSpec, None] = {}
  while len(drawn) < count:
    drawn[pruning.derive(cell, rng.random((len(cell.candidates), len(operations))), operations)] = None
  return list(drawn)


def _accuracy(network: Network, state, dataset) -> Callable[[CellSpec], float]:
  """Accuracy of a supernet, from 0 to 1, in which one cell takes a derived cell's operations alone."""
  arrays = watched.batches(dataset, BATCH)

  @jax.jit
  def count(state, mixtures, images, labels):
    def hits(batch):
      # Running statistics are those of the mixture; a lone operation needs its own.
      variables = {"params": state.params, "batch_stats": state.batch_stats}
      outputs, _ = network.apply(variables, batch[0], mixtures, True, mutable=["batch_stats"])
      return jnp.mean(jnp.argmax(outputs.logits, axis=-1) == batch[1])

    return jnp.mean(jax.lax.map(hits, (images, labels)))

  one_hot = lambda cell: jnp.asarray(cell.mask(network.operations), jnp.float32)
  return lambda cell: float(count(state, {cell.name: one_hot(cell)}, *arrays))
