"""Primitives that are linear in some of their arguments, with transposes of our own.

A function with a custom VJP can't be differentiated in forward mode, and the exact second order of the bilevel update
is cheapest forward over reverse. A primitive that knows its transposes has derivatives of any order in both modes, and
is one equation in a trace, however long its body.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Transpose = Callable[..., jax.Array]


def linear_primitive(
  name: str, transposes: tuple[Transpose | None, ...], params: tuple[str, ...]
) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
  """Makes a function of arrays a primitive.

  Args:
    name: how it is called in a trace.
    transposes: for every array argument in which the function is linear, the map of (cotangent, *arguments, **params)
      to that argument's cotangent, where it gets the argument's abstract value in the place of the argument itself;
      None for the others, which carry no derivative.
    params: names of the keyword arguments, which must be hashable.

  Returns:
    A decorator of functions `(*arrays, **params)` that return one array.
  """

  def decorate(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    made = Primitive(name)

    @functools.wraps(function)
    def bind(*arrays: jax.Array, **values: Any) -> jax.Array:
      return made.bind(*arrays, **values)

    # Traced once per shape: a supernet holds hundreds.
    cached = jax.jit(function, static_argnames=params)
    made.def_impl(cached)
    made.def_abstract_eval(lambda *avals, **params: _abstract(functools.partial(cached, **params), avals))
    mlir.register_lowering(made, mlir.lower_fun(cached, multiple_results=False))
    batching.primitive_batchers[made] = lambda arrays, axes, **params: (
      jax.vmap(functools.partial(cached, **params), axes)(*arrays),
      0,
    )

    def tangent(i: int) -> Callable[..., jax.Array]:
      return lambda t, *arrays, **params: bind(*arrays[:i], t, *arrays[i + 1 :], **params)

    ad.defjvp(made, *[None if transposed is None else tangent(i) for i, transposed in enumerate(transposes)])

    def transpose(cotangent: Any, *arrays: Any, **params: Any) -> list[Any]:
      if isinstance(cotangent, ad.Zero):
        return [ad.Zero(a.aval) if ad.is_undefined_primal(a) else None for a in arrays]
      values = [a.aval if ad.is_undefined_primal(a) else a for a in arrays]
      return [
        transposed(cotangent, *values, **params) if transposed and ad.is_undefined_primal(a) else None
        for a, transposed in zip(arrays, transposes, strict=True)
      ]

    ad.primitive_transposes[made] = transpose
    return bind

  return decorate


def _abstract(function: Callable[..., jax.Array], avals: Any) -> Any:
  shape = jax.eval_shape(function, *avals)
  return jax.core.ShapedArray(shape.shape, shape.dtype)
