"""Arithmetic fences: functions that XLA compiles without changing how their numbers are rounded.

XLA's compiler for the CPU contracts a·b + c to one rounding, folds (x + c) - c, merges constants, and turns
divisions into products with reciprocals. `fenced` rewrites a function so that it can do none of this: it
combines the bits of each rounded result, and of each constant, by exclusive or with a zero that the compiled
function gets as an argument. To the compiler the result is then a number of unknown origin.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.extend.core import Literal

from xpnet._lib.text import complain
from xpnet._typing import Function
from xpnet.errors import BackendError

ZERO = np.int64(0)
"""The first argument of a fenced function, under ``enable_x64``."""

ROUNDED = {"add", "convert_element_type", "div", "dot_general", "mul", "reduce_sum", "sqrt", "sub"}
"""Primitives whose results are rounded once as IEEE 754 says, if sums of several terms are exact."""

EXACT = """
    abs and argmax bitcast_convert_type broadcast_in_dim clamp concatenate copy device_put dynamic_slice
    eq gather ge gt iota le lt max min ne neg not optimization_barrier or pad reduce_and reduce_max
    reduce_min reduce_or reshape select_n sharding_constraint shift_left shift_right_arithmetic sign
    slice split squeeze transpose unstack xor
""".split()  # noqa: SIM905
"""Primitives whose results are not rounded."""

CALLS = {"jit", "pjit"}
"""Primitives that call a function."""


class UnknownPrimitiveError(BackendError):
    """A primitive is not known to be exact or rounded once."""


def fenced(function: Function) -> Function:
    """Return a function of ``(ZERO, *args)`` with the results of ``function(*args)``, for ``jax.jit``.

    JAX must trace it, as a whole or as the body of a loop. The zero must be an argument of the compiled
    function: the compiler would remove a constant.

    Raises
    ------
    UnknownPrimitiveError
        `function` uses a primitive that is in none of the tables.
    """

    def run(zero: Any, *args: object) -> object:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), zero)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return run


def compile_fenced(function: Function, *, donated: bool, zero: Any) -> Function:
    """Return `function` compiled with fences; in a function that JAX traces, it is `function` itself.

    If ``donated``, the memory of the first argument may be used for the results; ``zero`` is ZERO, perhaps
    on the device. A function that uses an unknown primitive is not compiled, after a warning.
    """
    compiled = jax.jit(fenced(function), donate_argnums=(1,) if donated else ())
    is_compiled = True

    def run(*args: object) -> object:
        nonlocal is_compiled
        if is_compiled and not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            try:
                return compiled(zero, *args)
            except UnknownPrimitiveError as error:
                is_compiled = False
                complain(f"warning: {error}: not compiling it, which is slower")
        return function(*args)

    return run


def _evaluate(jaxpr: Any, constants: Sequence[Any], args: Sequence[Any], zero: Any) -> list[Any]:
    """Return the results of a traced function, with fences behind its constants and rounded results."""
    values = dict(zip(jaxpr.invars, args, strict=True))
    values.update(zip(jaxpr.constvars, (_fence(constant, zero) for constant in constants), strict=True))

    def read(variable: Any) -> Any:
        if isinstance(variable, Literal):
            return _fence(jnp.asarray(variable.val, dtype=cast("Any", variable.aval).dtype), zero)
        return values[variable]

    for equation in jaxpr.eqns:
        primitive, operands = equation.primitive, list(map(read, equation.invars))
        if primitive.name in CALLS:
            called = equation.params["jaxpr"]
            results = _evaluate(called.jaxpr, called.consts, operands, zero)
        else:
            if primitive.name not in ROUNDED.union(EXACT):
                msg = f"jax cannot compile a function that uses {primitive.name} with fixed bits"
                raise UnknownPrimitiveError(msg)
            if primitive.name == "div":
                operands[1] = _fence(operands[1], _bits(operands[0]) & zero)
            results = primitive.bind(*operands, **equation.params)
            results = results if primitive.multiple_results else [results]
            if primitive.name in ROUNDED and not _is_widening(primitive.name, operands[0], results[0]):
                results = [_fence(result, zero) for result in results]
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _is_widening(name: str, x: Any, result: Any) -> bool:
    """Tell whether an operation converts numbers to more bits, which is exact."""
    return name == "convert_element_type" and x.dtype != jnp.bool and x.dtype.itemsize < result.dtype.itemsize


def _bits(x: Any) -> Any:
    return lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")


def _fence(x: Any, zeros: Any) -> Any:
    """Return x unchanged: the bits of floats combined with zeros of x's shape, or a zero."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    bits = _bits(x)
    return lax.bitcast_convert_type(bits ^ zeros.astype(bits.dtype), x.dtype)
