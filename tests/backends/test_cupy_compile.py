"""Functions that run in generated kernels on CuPy have the bits of NumPy, whatever was in memory before."""

import numpy as np
import pytest
from backend_enum import BackendCase

from xpnet.backends.resolve import make

pytestmark = pytest.mark.needs("cupy")
NUMPY = make("numpy", "cpu")


@pytest.fixture(scope="module")
def cupy():
    """CuPy's backend, with plans that find NaN, or -1, in the memory that their kernels write to."""
    from xpnet.backends.cupy_compile import ALIGNMENT, Plan

    def make(plan, *args):
        def fill(values):
            for array in (plan.memory[ALIGNMENT:], *values[len(values) - len(plan.results) :]):
                array.reshape(-1).view("uint8")[:] = 255

        original(plan, *args)
        plan.steps.insert(0, fill)

    original, backend = Plan.__init__, BackendCase.CUPY.make()
    with pytest.MonkeyPatch.context() as patch, backend.scope():
        patch.setattr(Plan, "__init__", make)
        yield backend


def programs(xp, a, b, rows, rate):
    counts = [xp.sum(xp.astype(a > b, xp.float64), axis=axis, keepdims=True) for axis in (0, -1)]
    columns = xp.max(b, axis=1, keepdims=True)
    products = a * b + b * rate  # in several results
    return [
        products,
        xp.where(a > 0.25, products, 0.0) - xp.where(a <= b, 0.5, b),
        xp.maximum(a, b) + xp.minimum(a, 0.5),
        a - xp.max(a, axis=0, keepdims=True),
        xp.max(xp.abs(products * (products + 0.5)), axis=-1, keepdims=True) * rate,
        a / (xp.full_like(a, 3.0) + xp.abs(columns)),
        xp.argmax(a, axis=-1),
        xp.take(b, rows, axis=0)[:, 1:-1:2],
        xp.concat([xp.reshape(xp.matrix_transpose(a), (1, -1)), xp.reshape(b, (1, -1))], axis=1)[:, 5:],
        counts[0] + counts[1],
        (xp.expand_dims(columns, axis=1) == columns)[1:, 0, :],
    ]


@pytest.mark.parametrize(("shape", "dtype"), [((5, 7), "float32"), ((96, 80), "float64")])  # several blocks
def test_any_function_has_the_bits_of_numpy(cupy, capsys, shape, dtype):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, *shape)).astype(dtype)
    a[1, 2:4], a[2, 3], a[3, :], b[0, 1], b[4, 0] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    rows = generator.integers(0, shape[0], 6)
    arguments = [cupy.from_host(a), cupy.from_host(b.T.copy()).T, cupy.from_host(rows.repeat(2))[::2]]
    fast = cupy.compile(lambda *args: programs(cupy.xp, *args), exact=True)
    for rate in (0.3, -1.7):
        with np.errstate(all="ignore"):
            expected = programs(NUMPY.xp, a, b, rows, rate)
        for result, value in zip(fast(*arguments, rate), expected, strict=True):
            host = cupy.to_host(result)
            np.testing.assert_array_equal(host, value, strict=True)
            np.testing.assert_array_equal(*(np.signbit(np.nan_to_num(each, nan=1)) for each in (host, value)))
    assert capsys.readouterr().err == ""


def test_a_function_that_is_not_known_runs_as_it_is_after_a_warning(cupy, capsys):
    x = cupy.from_host(np.array([-1.5, 0.0, 3.5]))
    (result,) = cupy.compile(lambda x: [cupy.xp.floor(x) * 2.0], exact=True)(x)
    assert cupy.to_host(result).tolist() == [-4.0, 0.0, 6.0]
    assert "warning: not compiling a function for cupy, which is slower: " in capsys.readouterr().err
