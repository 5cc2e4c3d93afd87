"""Arithmetic fences: functions that XLA compiles without changing how their numbers are rounded.

XLA's compiler for the CPU contracts a·b + c to one rounding, folds (x + c) - c, merges constants, and turns
divisions into products with reciprocals. `fenced` rewrites a function so that it can do none of this: it
combines the bits of each rounded result, and of each constant, by exclusive or with a zero that the compiled
function gets as an argument. To the compiler the result is then a number of unknown origin.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Literal

from xpnet._lib.text import complain
from xpnet._typing import AnyFunction, Array
from xpnet.errors import BackendError

ROUNDING: Final = {"add", "convert_element_type", "div", "dot_general", "mul", "reduce_sum", "sqrt", "sub"}
"""Primitives whose results are rounded as IEEE 754 says, if sums and products of matrices are exact."""

EXACT: Final = {
    *("abs", "argmax", "argmin", "broadcast_in_dim", "bitcast_convert_type", "clamp", "concatenate", "copy"),
    *(
        "device_put",
        "dynamic_slice",
        "eq",
        "gather",
        "ge",
        "gt",
        "iota",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
    ),
    *("ne", "neg", "optimization_barrier", "pad", "reduce_and", "reduce_max", "reduce_min", "reduce_or"),
    *("reshape", "rev", "select_n", "sign", "slice", "split", "squeeze", "transpose"),
    *("and", "or", "xor", "not", "shift_left", "shift_right_arithmetic", "shift_right_logical"),
}
"""Primitives whose results are numbers as they are, or need no rounding."""

CALLS: Final = {"jit": "jaxpr", "pjit": "jaxpr"}
"""Primitives that call a function, and the parameter that holds it."""


class UnknownPrimitiveError(BackendError):
    """A primitive is not known to be exact or rounded once."""


def fenced(function: AnyFunction) -> AnyFunction:
    """Return a function of ``(zero, *args)`` with the results of ``function(*args)``, for ``jax.jit``.

    Call it in a function that JAX traces, such as the body of a loop. ``zero`` is an int64 array of shape ()
    that holds 0, and must be an argument of the compiled function: the compiler would remove a constant.

    Raises
    ------
    UnknownPrimitiveError
        `function` uses a primitive that is in none of the tables.
    """

    def run(zero: Array, *args: object) -> object:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), zero)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return cast("AnyFunction", run)


def _evaluate(jaxpr: Any, constants: Sequence[Any], args: Sequence[Any], zero: Any) -> list[Any]:
    """Return the results of a traced function, its rounded intermediate results behind fences."""
    values = dict(zip(jaxpr.invars, args, strict=True))
    values.update(zip(jaxpr.constvars, (_fence(constant, zero) for constant in constants), strict=True))

    def read(variable: Any) -> Any:
        if isinstance(variable, Literal):
            return _fence(jnp.asarray(variable.val, dtype=cast("Any", variable.aval).dtype), zero)
        return values[variable]

    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, list(map(read, equation.invars))
        if name in CALLS:
            called = equation.params[CALLS[name]]
            results = _evaluate(called.jaxpr, called.consts, operands, zero)
        else:
            if name == "div":
                operands[1] = _spread(operands[1], operands[0], zero)
            results = equation.primitive.bind(*operands, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
            if name in ROUNDING:
                results = [_fence(result, zero) for result in results]
            elif name not in EXACT:
                msg = f"jax cannot compile a function that uses {name} with fixed bits"
                raise UnknownPrimitiveError(msg)
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _bits(x: Any) -> Any:
    return lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")


def _fence(x: Any, zero: Any) -> Any:
    """Return x, the bits of floats combined with the zero."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    bits = _bits(x)
    return lax.bitcast_convert_type(bits ^ zero.astype(bits.dtype), x.dtype)


def _spread(divisor: Any, dividend: Any, zero: Any) -> Any:
    """Return the divisor as numbers of which the compiler knows no two to be equal."""
    if not jnp.issubdtype(divisor.dtype, jnp.floating) or divisor.ndim == 0:
        return divisor
    bits = _bits(dividend)
    return lax.bitcast_convert_type(_bits(divisor) ^ (bits & zero.astype(bits.dtype)), divisor.dtype)


def compile_fenced(function: AnyFunction, *, donated: Sequence[int] = ()) -> AnyFunction:
    """Return `function` compiled with fences; a function that JAX traces calls `function` itself.

    ``donated`` are the numbers of the arguments whose memory may be used for the results. A function that
    uses an unknown primitive is not compiled, after a warning.
    """
    compiled = jax.jit(fenced(function), donate_argnums=[number + 1 for number in donated])
    zero, is_refused = None, False

    def run(*args: object) -> object:
        nonlocal zero, is_refused
        if is_refused or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            return function(*args)
        if zero is None:
            zero = jnp.zeros((), dtype=jnp.int64)
        try:
            return compiled(zero, *args)
        except UnknownPrimitiveError as error:
            complain(f"warning: {error}: it is computed operation by operation, which is slower")
            is_refused = True
            return function(*args)

    return cast("AnyFunction", run)
