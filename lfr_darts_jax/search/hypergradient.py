"""How the alphas' gradient looks through the weights' training: the second order of DARTS, exactly."""

from collections.abc import Callable
from typing import Any

import jax

Tree = Any
# From (loss of params and alphas, params, alphas, direction) to what is subtracted, times the weights' rate.
Correction = Callable[[Callable[..., Any], Tree, Tree, Tree], Tree]


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


def mixed_derivative(loss: Callable[..., Any], params: Tree, alphas: Tree, direction: Tree) -> Tree:
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


CORRECTIONS: dict[str, Correction] = {"unrolled": mixed_derivative}
