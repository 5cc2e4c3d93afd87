"""Functions that JAX compiles with arithmetic fences have the bits of NumPy."""

import numpy as np
import pytest
from backend_enum import BackendCase

from xpnet.training.batches import SampleBlock

pytestmark = pytest.mark.needs("jax")

WHOLE = 1.5 * 2.0**23
"""Adding and subtracting it rounds: in float32, to whole numbers."""

PROGRAMS = {
    "product and sum": lambda a, b, c: a * b + c,
    "product and difference": lambda a, b, c: c - a * b,
    "polynomial": lambda a, b, c: ((a * b + c) * b + a) * b + c,
    "constant and sum": lambda a, b, c: a * 0.1 + c,
    "rounding": lambda a, b, c: (a + WHOLE) - WHOLE,
    "zeros": lambda a, b, c: a * 0.0 + 0.0,
    "quotients by a constant": lambda a, b, c: a / 3.0,
    "quotients by a row": lambda a, b, c: a / b[:1, :],
    "quotients by a column": lambda a, b, c: a / b[:, :1],
    "folded products": lambda a, b, c: (a * b)[:, :8] + (a * b)[:, 8:],
}


def operands(dtype):
    """Three matrices, of which c nearly cancels a · b."""
    generator, shape = np.random.default_rng(0), (625, 16)
    a, b = np.ldexp(generator.normal(size=(2, *shape)), generator.integers(-9, 9, (2, *shape)))
    c = -(a * b) * (1.0 + np.ldexp(generator.normal(size=shape), -generator.integers(0, 50, shape)))
    return [each.astype(dtype) for each in (a, b, c)]


@pytest.fixture(scope="module")
def jax():
    backend = BackendCase.JAX.make()
    with backend.scope():
        yield backend


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled_functions_have_the_bits_of_numpy(jax, dtype):
    def programs(*args):
        return [program(*args) for program in PROGRAMS.values()]

    args = operands(dtype)
    results = zip(PROGRAMS, jax.compile(programs, exact=True)(*args), programs(*args), strict=True)
    assert [name for name, result, right in results if np.asarray(result).tobytes() != right.tobytes()] == []


def test_fences_hold_in_the_body_of_a_loop(jax):
    def step(x, block, factor):
        return x * factor + x * 0.1

    (x, *_), factors = operands("float64"), np.linspace(0.1, 0.9, 20)
    block = SampleBlock(None, None, None, np.zeros((20, 1)))
    result = jax.compile_steps(step, step, exact=True)(x, block, factors)
    for factor in factors:
        x = step(x, None, factor)
    assert np.asarray(result).tobytes() == x.tobytes()


def test_an_unknown_primitive_is_named_and_its_function_not_compiled(jax, capsys):
    def function(x):
        return jax.xp.cumulative_sum(x * 0.1) + 1.0

    x, compiled = jax.from_host(np.arange(5.0)), jax.compile(function, exact=True)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), function(x), strict=True)
    warning = "jax cannot compile a function that uses cumsum with fixed bits"
    assert capsys.readouterr().err == f"xpnet: warning: {warning}: not compiling it, which is slower\n"
