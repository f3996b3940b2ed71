"""How the alphas' gradient looks through the weights' training: the second order of DARTS, exactly, and others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
Loss = Callable[..., Any]  # From params and alphas to the loss and what belongs to it.


class Inner(NamedTuple):
  """The problem that the weights solve, at the point where the alphas' gradient looks through it.

  Attributes:
    loss: from a number of steps ahead to the loss on the train batch of that step.
    params, alphas: the point.
    rate: of the weights, xi.
    terms: of a series.
    key: raw random key of what is sampled.
    mean: over the devices that share a batch.
  """

  loss: Callable[[Any], Loss]
  params: Tree
  alphas: Tree
  rate: Any
  terms: int = 1
  key: jax.Array | None = None
  mean: Callable[[Tree], Tree] = lambda tree: tree


def unrolled_params(gradient: Tree, params: Tree, momentum: Tree, rate: jax.Array, mu: float, decay: float) -> Tree:
  """One virtual step of the weights: w - xi (mu m + gradient + lambda w) (DARTS, equation 7).

  Args:
    gradient: of the train loss by the weights.
    params: the weights w.
    momentum: their accumulated momentum m, a constant.
    rate: xi.
    mu: the momentum's factor.
    decay: lambda, L2.
  """
  return jax.tree.map(lambda w, m, g: w - rate * (mu * m + g + decay * w), params, momentum, gradient)


def mixed_derivative(loss: Loss, params: Tree, alphas: Tree, direction: Tree) -> Tree:
  """The vector product with the mixed second derivative in order 2's gradient (DARTS, equation 7), exactly.

  DARTS takes a finite difference for it. Here the gradient by the alphas is differentiated along a direction of the
  weights, forward over reverse: twice the cost of that gradient, and no intermediates but its own.

  Args:
    loss: from params and alphas to the loss and what belongs to it.
    params, alphas: where to take it.
    direction: like `params`.

  Returns:
    d/de of the gradient of `loss(params + e direction, alphas)` by the alphas, at e = 0.
  """
  gradient = lambda p: jax.grad(lambda a: loss(p, a)[0])(alphas)
  return jax.jvp(gradient, (params,), (direction,))[1]


def unrolled(inner: Inner, direction: Tree) -> Tree:
  """Order 2 of DARTS: what the alphas' gradient loses by one virtual step of the weights."""
  return inner.mean(mixed_derivative(inner.loss(0), inner.params, inner.alphas, direction))


def neumann(inner: Inner, direction: Tree) -> Tree:
  """The same for weights at their optimum, whose inverse Hessian is a series (after STO-DARTS; Lorraine et al. 2020).

  The sum over k < `terms` of the mixed derivative along (I - xi H)^k direction, H the train loss's Hessian by the
  weights. A single jvp of the gradient by weights and alphas gives a term and the next direction.
  """
  both = lambda p: jax.grad(lambda p, a: inner.loss(0)(p, a)[0], argnums=(0, 1))(p, inner.alphas)

  def add_term(_: Any, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    vector, total = carry
    curved, term = inner.mean(jax.jvp(both, (inner.params,), (vector,))[1])
    return _step(vector, curved, inner.rate), jax.tree.map(jnp.add, total, term)

  zeros = jax.tree.map(jnp.zeros_like, inner.alphas)
  return jax.lax.fori_loop(0, inner.terms, add_term, (direction, zeros))[1]


def sampled_neumann(inner: Inner, direction: Tree) -> Tree:
  """An estimate of that series without bias, for half of its cost (after Ghadimi & Wang 2018).

  It takes one random power, every factor of which has a batch of its own.
  """
  assert inner.key is not None

  def apply(ahead: Any, vector: Tree) -> Tree:
    gradient = lambda p: jax.grad(lambda p: inner.loss(ahead)(p, inner.alphas)[0])(p)
    return _step(vector, inner.mean(jax.jvp(gradient, (inner.params,), (vector,))[1]), inner.rate)

  power = jax.random.randint(inner.key, (), 0, inner.terms)
  vector = jax.lax.fori_loop(1, power + 1, apply, direction)
  return jax.tree.map(lambda c: inner.terms * c, unrolled(inner, vector))


def _step(vector: Tree, curved: Tree, rate: Any) -> Tree:
  return jax.tree.map(lambda v, c: v - rate * c, vector, curved)


class Hypergradient(NamedTuple):
  """How the alphas' gradient looks through the weights.

  Attributes:
    looks_ahead: whether it is taken at the unrolled weights.
    correction: from the weights' problem and the gradient by the weights to what is subtracted, times xi.
  """

  looks_ahead: bool
  correction: Callable[[Inner, Tree], Tree]


HYPERGRADIENTS = {
  "unrolled": Hypergradient(True, unrolled),
  "neumann": Hypergradient(False, neumann),
  "sampled_neumann": Hypergradient(False, sampled_neumann),
}
