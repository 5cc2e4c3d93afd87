"""Functions that run in generated kernels on CuPy have the bits of NumPy, whatever was in memory before."""

import numpy as np
import pytest
from backend_enum import BackendCase

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.training.batches import SampleBlock

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
    """Return the results of several functions of two matrices, numbers of their rows, and a number."""
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


def products(xp, a, b):
    """Return products of matrices by rows, by columns and neither, and of stacks of matrices."""
    stored, turn, stack = a + a, xp.matrix_transpose, xp.reshape(b, (-1, 4, 1))
    squares = [a @ turn(b), b @ turn(stored), stored @ turn(stored), turn(stored) @ stored]
    pairs = xp.reshape(b, (-1, 2, 2)) + 1.0
    stacks = [stack @ turn(stack), stored @ stack, stored[:2, :2] @ turn(pairs), turn(pairs[:1, ...]) @ pairs]
    return [*squares, stored[:, 1:] @ turn(stored[:, :3]), *stacks, pairs[::2, ...] @ turn(pairs[::2, ...])]


@pytest.mark.parametrize(
    ("rows", "switch", "dtype"),
    [(1, "0", "float32"), (3, "0", "float64"), (1, "1", "float64"), (3, "1", "float32")],
)
def test_products_of_whole_numbers_are_those_of_numpy(cupy, capsys, monkeypatch, dtype, rows, switch):
    monkeypatch.setenv("XPNET_WHOLE_BATCHES", switch)
    a, b = np.eye(5, 4, dtype=dtype) * 7 - 3, np.arange(4 * rows, dtype=dtype).reshape(rows, 4)
    results = cupy.compile(lambda *args: products(cupy.xp, *args), exact=True)(*map(cupy.from_host, (a, b)))
    for result, expected in zip(results, products(NUMPY.xp, a, b), strict=True):
        np.testing.assert_array_equal(cupy.to_host(result), expected, strict=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shifts", [False, True], ids=["new results", "an argument among the results"])
def test_steps_in_one_call_leave_the_results_of_others_alone(cupy, capsys, *, shifts):
    def step(variables, block, rate):
        x, y = variables
        return [y if shifts else y * rate, (x + y) * rate + block.indices]

    states = []
    for backend, compiled in ((NUMPY, step), (cupy, cupy.compile(step, exact=True))):
        take_steps = backend.compile_steps(step, compiled, exact=True)
        numbers = np.arange(9.0).reshape(3, 3), np.ones((3, 3)), np.arange(12.0).reshape(4, 3)
        x, y, indices = map(backend.from_host, numbers)
        results = [[x.T, y]]
        for _ in range(2):
            results.append(take_steps(results[-1], SampleBlock(x, x, None, indices), [0.3, 0.2, -1.7, 0.9]))
        states.append([backend.to_host(x).tobytes() for x in leaves(results)])
    assert states[0] == states[1]
    assert capsys.readouterr().err == ""


WARNING = "xpnet: warning: not compiling a function for cupy, which is slower: "


def test_a_function_that_is_not_known_runs_as_it_is_after_a_warning(cupy, capsys):
    x = cupy.from_host(np.array([-1.5, 0.0, 3.5]))
    (result,) = cupy.compile(lambda x: [cupy.xp.floor(x) * 2.0], exact=True)(x)
    assert cupy.to_host(result).tolist() == [-4.0, 0.0, 6.0]
    assert capsys.readouterr().err.startswith(WARNING)


FULL, REFUSED = "out of memory", "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks"


@pytest.mark.parametrize(("problem", "warnings"), [(FULL, 2), (REFUSED, 1)])
def test_a_plan_without_memory_is_tried_again_later_and_a_refused_launch_is_not(
    cupy, capsys, monkeypatch, problem, warnings
):
    from xpnet.backends import cupy_compile

    calls = iter([RuntimeError(problem)] * 2)
    original = cupy_compile.Plan.__call__

    def call(plan, runs):
        for error in calls:
            raise error
        return original(plan, runs)

    monkeypatch.setattr(cupy_compile, "PATIENCE", 2)
    monkeypatch.setattr(cupy_compile.Plan, "__call__", call)
    step = cupy.compile(lambda variables, rate: [variables[0] * rate], exact=True)
    for _ in range(4):
        (result,) = step([cupy.from_host(np.ones(3))], 2.0, more=[(3.0,), (0.5,)])
        assert cupy.to_host(result).tolist() == [3.0] * 3
    assert capsys.readouterr().err == f"{WARNING}{problem}\n" * warnings
