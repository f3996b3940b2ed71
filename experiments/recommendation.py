"""A layered search over graph convolutions for recommendation, in the manner of AutoMaster's abstract: no images.

    pip install --no-deps recbole
    python -m experiments.recommendation --seeds=3

MovieLens-100k comes with that package, or from `--ratings=FILE`: lines of user, item and more, separated by tabs.
Layers are searched from shallow to deep: of each, alphas choose among four ways to pass embeddings over the graph of
users and items, and the derived layer stays when the next is added. What is found is trained anew, like LightGCN, NGCF
and layers drawn at random, and ranks what every user has not seen in training. One line of JSON per training, with
Recall@20 and NDCG@20.

A program on the library, which knows nothing of graphs: relaxation, optimizer of alphas and hypergradient are its own.
"""

import argparse
from collections.abc import Callable
import functools
import importlib.metadata
import json
import pathlib
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lfr_darts_jax import config as schema
from lfr_darts_jax.search import hypergradient, relaxation
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.training import optimizers

LAYERS, FEATURES, TOP = 3, 64, 20
BATCH, RATE, DECAY = 2048, 1e-3, 1e-4  # As LightGCN has them, He et al., SIGIR 2020.
Tree = Any


class Graph(NamedTuple):
  """Who rated what: users and items, `[n]` each, and the normalised adjacency of the train edges `[users, items]`."""

  adjacency: jax.Array
  users: np.ndarray
  items: np.ndarray


def light(params: Tree, nearby: jax.Array, own: jax.Array) -> jax.Array:
  """LightGCN: the neighbours."""
  return nearby


def gcn(params: Tree, nearby: jax.Array, own: jax.Array) -> jax.Array:
  """GCN: the neighbours through a layer."""
  return jax.nn.relu(nearby @ params["w0"])


def ngcf(params: Tree, nearby: jax.Array, own: jax.Array) -> jax.Array:
  """NGCF: the neighbours, and how much they resemble (Wang et al., SIGIR 2019, equation 7)."""
  return jax.nn.leaky_relu((nearby + own) @ params["w1"] + (nearby * own) @ params["w2"], 0.2)


def skip(params: Tree, nearby: jax.Array, own: jax.Array) -> jax.Array:
  """The node itself."""
  return own


OPERATIONS: dict[str, Callable[..., jax.Array]] = {"light": light, "gcn": gcn, "ngcf": ngcf, "skip": skip}


def adjacency(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """D^-1/2 R D^-1/2 of the edges between users and items, `[users, items]`."""
  ratings = np.zeros(shape, np.float32)
  ratings[users, items] = 1
  degrees = [np.maximum(ratings.sum(axis), 1) for axis in (1, 0)]
  return ratings / np.sqrt(degrees[0][:, None] * degrees[1])


def embed(params: Tree, mixtures: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Embeddings of users and items, means over the layers.

  Args:
    params: `users` and `items`, first embeddings, and of every layer the matrices of its operations.
    mixtures: `[layers, operations]`.
    matrix: see `adjacency`.
  """
  users, items = params["users"], params["items"]
  all_users, all_items = [users], [items]
  for layer, mixture in zip(params["layers"], mixtures, strict=True):
    near_users, near_items = matrix @ items, matrix.T @ users
    mix = lambda nearby, own: sum(
      w * op(layer, nearby, own) for w, op in zip(mixture, OPERATIONS.values(), strict=True)
    )
    users, items = mix(near_users, users), mix(near_items, items)
    all_users.append(users)
    all_items.append(items)
  mean = lambda states: sum(states) / len(states)
  return mean(all_users), mean(all_items)


def ranking_loss(params: Tree, mixtures: jax.Array, matrix: jax.Array, triples: jax.Array) -> jax.Array:
  """BPR (Rendle et al., UAI 2009): how rarely a user's own item scores above another; triples are `[3, batch]`."""
  users, items = embed(params, mixtures, matrix)
  user, liked, other = triples
  margin = jnp.sum(users[user] * (items[liked] - items[other]), axis=1)
  size = sum(jnp.sum(params[name][ids] ** 2) for name, ids in (("users", user), ("items", liked), ("items", other)))
  return jnp.mean(jax.nn.softplus(-margin)) + DECAY * size / len(user) / 2


def measure(scores: np.ndarray, seen: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[float, float]:
  """Recall and NDCG at `TOP`, means over the users that want something.

  Args:
    scores: `[users, items]`.
    seen: items of every user that are not ranked.
    wanted: those that should be.
  """
  recalls, gains, discounts = [], [], 1 / np.log2(np.arange(TOP) + 2)
  for row, old, new in zip(scores.copy(), seen, wanted, strict=True):
    if len(new):
      row[old] = -np.inf
      hits = np.isin(np.argsort(-row, kind="stable")[:TOP], new)
      recalls.append(hits.sum() / len(new))
      gains.append((hits * discounts[: len(hits)]).sum() / discounts[: len(new)].sum())
  return float(np.mean(recalls)), float(np.mean(gains))


def initial(key: jax.Array, layers: int, shape: tuple[int, int]) -> Tree:
  """First parameters."""
  draw = lambda key, *shape: jax.nn.initializers.glorot_uniform()(key, shape)
  keys = jax.random.split(key, 2 + layers)
  matrices = lambda key: {f"w{i}": draw(k, FEATURES, FEATURES) for i, k in enumerate(jax.random.split(key, 3))}
  users, items = (draw(k, count, FEATURES) for k, count in zip(keys, shape, strict=False))
  return {"users": users, "items": items, "layers": [matrices(k) for k in keys[2:]]}


def sample(rng: np.random.Generator, users: np.ndarray, items: np.ndarray, count: int) -> np.ndarray:
  """Triples of a user, an item of theirs, and any item."""
  rows = rng.integers(0, len(users), BATCH)
  return np.stack([users[rows], items[rows], rng.integers(0, count, BATCH)])


def train(graph: Graph, choices: np.ndarray, seed: int, steps: int) -> tuple[jax.Array, jax.Array]:
  """Embeddings of a network with these operations, `[layers, operations]`, trained on all edges of the graph."""
  optimizer, rng, mixtures = optax.adam(RATE), np.random.default_rng([seed, 1]), jnp.asarray(choices)
  params = initial(jax.random.PRNGKey(seed), len(choices), graph.adjacency.shape)
  state = optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, triples):
    updates, state = optimizer.update(jax.grad(ranking_loss)(params, mixtures, graph.adjacency, triples), state)
    return optax.apply_updates(params, updates), state

  for _ in range(steps):
    params, state = step(params, state, sample(rng, graph.users, graph.items, graph.adjacency.shape[1]))
  return embed(params, mixtures, graph.adjacency)


def search(graph: Graph, held: Graph, seed: int, steps: int, terms: int = 2) -> np.ndarray:
  """Chooses an operation per layer, `[layers, operations]`, layer by layer, alphas on held-out edges."""
  config = schema.get_config("digits")
  gate, rng = relaxation.make(config.search), np.random.default_rng([seed, 2])
  chosen = np.zeros((0, len(OPERATIONS)), np.float32)
  for depth in range(1, LAYERS + 1):
    alphas, mask = Alphas(jnp.zeros((1, len(OPERATIONS)))), Alphas(jnp.ones((1, len(OPERATIONS)), bool))
    weights, choices = optax.adam(RATE), optimizers.search_alphas(config, min(0.1, 5.85 / steps), mask)
    params = initial(jax.random.PRNGKey(seed), depth, graph.adjacency.shape)
    fixed = jnp.asarray(chosen)

    def loss(params, alphas, triples, fixed=fixed, mask=mask):
      mixture = gate(alphas, mask, relaxation.Moment())
      return ranking_loss(params, jnp.concatenate([fixed, mixture]), graph.adjacency, triples)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, states, alphas, ours, theirs, loss=loss, weights=weights, choices=choices):
      weight_state, choice_state = states
      by_params, by_alphas = jax.grad(loss, argnums=(0, 1))(params, alphas, theirs)
      inner = hypergradient.Inner(lambda ahead: lambda p, a: (loss(p, a, ours), None), params, alphas, RATE, terms)
      correction = hypergradient.HYPERGRADIENTS["neumann"].correction(inner, by_params)
      by_alphas = jax.tree.map(lambda g, c: g - RATE * c, by_alphas, correction)
      moves, choice_state = choices.update(by_alphas, choice_state, alphas)
      alphas = optax.apply_updates(alphas, moves)
      updates, weight_state = weights.update(jax.grad(loss)(params, alphas, ours), weight_state)
      return optax.apply_updates(params, updates), (weight_state, choice_state), alphas

    states = weights.init(params), choices.init(alphas)
    for _ in range(steps):
      ours, theirs = (sample(rng, g.users, g.items, graph.adjacency.shape[1]) for g in (graph, held))
      params, states, alphas = step(params, states, alphas, ours, theirs)
    row = np.eye(len(OPERATIONS), dtype=np.float32)[int(jnp.argmax(alphas.operations[0]))]
    chosen = np.concatenate([chosen, row[None]])
  return chosen


def read(path: str | None) -> tuple[np.ndarray, np.ndarray]:
  """Users and items of all ratings, numbered from 0."""
  if path is None:
    try:
      files = importlib.metadata.files("recbole") or []
    except importlib.metadata.PackageNotFoundError:
      sys.exit("recommendation: MovieLens-100k comes with recbole; pip install --no-deps recbole, or --ratings=FILE")
    (found,) = [file for file in files if file.name == "ml-100k.inter"]
    path = str(found.locate())
  rows = [line.split("\t")[:2] for line in pathlib.Path(path).read_text().splitlines()]
  rows = [row for row in rows if row[0].isdigit()]
  users, items = (np.unique(np.array(column), return_inverse=True)[1] for column in zip(*rows, strict=True))
  return users, items


def main() -> None:
  """Searches, trains and ranks, seed by seed."""
  parser = argparse.ArgumentParser(description="Searches graph convolutions for recommendation.")
  parser.add_argument("--ratings", help="a file of ratings; MovieLens-100k of the package recbole by default")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=3000, help="of every training")
  parser.add_argument("--search-steps", type=int, default=600, help="of every layer's search")
  options = parser.parse_args()
  users, items = read(options.ratings)
  shape = int(users.max()) + 1, int(items.max()) + 1
  for seed in range(options.seeds):
    cuts = [int(share * len(users)) for share in (0.8, 0.9)]
    parts = np.split(np.random.default_rng(seed).permutation(len(users)), cuts)
    known, held, test = (Graph(jnp.asarray(adjacency(users[p], items[p], shape)), users[p], items[p]) for p in parts)
    by_user = lambda graph: [graph.items[graph.users == user] for user in range(shape[0])]
    seen, wanted = [np.concatenate(pair) for pair in zip(by_user(known), by_user(held), strict=True)], by_user(test)
    began = time.monotonic()
    found = search(known, held, seed, options.search_steps)
    seconds = time.monotonic() - began
    row = lambda name: np.eye(len(OPERATIONS), dtype=np.float32)[[list(OPERATIONS).index(name)] * LAYERS]
    chance = np.eye(len(OPERATIONS), dtype=np.float32)[np.random.default_rng([seed, 3]).integers(0, 4, LAYERS)]
    methods = {"searched": found, "lightgcn": row("light"), "ngcf": row("ngcf"), "random": chance}
    for method, choices in methods.items():
      first, second = train(known, choices, seed, options.steps)
      recall, gain = measure(np.asarray(first @ second.T), seen, wanted)
      names = [list(OPERATIONS)[i] for i in choices.argmax(axis=1)]
      line = {"method": method, "seed": seed, "layers": names, "recall": recall, "ndcg": gain}
      print(json.dumps(line | ({"search_seconds": round(seconds, 1)} if method == "searched" else {})), flush=True)


if __name__ == "__main__":
  main()
