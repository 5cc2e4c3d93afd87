"""Functions that run in generated kernels on CuPy have the bits of NumPy, whatever was in memory before."""

import numpy as np
import pytest
from backend_enum import BackendCase
from networks import BASE, image_data

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.training.batches import SampleBlock
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.needs("cupy")


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


@pytest.mark.parametrize("shape", [(5, 7), (96, 80)], ids=["one block", "several blocks"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_any_function_has_the_bits_of_numpy(cupy, capsys, shape, dtype):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, *shape)).astype(dtype)
    a[1, 2:4], a[2, 3], a[3, :], b[0, 1], b[4, 0] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    rows = generator.integers(0, shape[0], 6)
    arguments = [cupy.from_host(a), cupy.from_host(b.T.copy()).T, cupy.from_host(rows.repeat(2))[::2]]
    fast = cupy.compile(lambda *args: programs(cupy.xp, *args), exact=True)
    with np.errstate(all="ignore"):
        for rate in (0.3, -1.7):
            expected = programs(make("numpy", "cpu").xp, a, b, rows, rate)
            for result, value in zip(fast(*arguments, rate), expected, strict=True):
                host = cupy.to_host(result)
                np.testing.assert_array_equal(host, value, strict=True)
                is_number = ~np.isnan(value)
                np.testing.assert_array_equal(np.signbit(host[is_number]), np.signbit(value[is_number]))
    assert capsys.readouterr().err == ""


def products(xp, a, b):
    """Return products of matrices by rows, by columns and neither, and of stacks of matrices."""
    stored, turn, stack = a + a, xp.matrix_transpose, xp.reshape(b, (-1, 4, 1))
    squares = [a @ turn(b), b @ turn(stored), stored @ turn(stored), turn(stored) @ stored]
    pairs = xp.reshape(b, (-1, 2, 2)) + 1.0
    stacks = [stack @ turn(stack), stored @ stack, stored[:2, :2] @ turn(pairs), turn(pairs[:1, ...]) @ pairs]
    return [*squares, stored[:, 1:] @ turn(stored[:, :3]), *stacks, pairs[::2, ...] @ turn(pairs[::2, ...])]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rows", "switch"), [(1, "0"), (3, "0"), (1, "1"), (3, "1")])
def test_products_of_whole_numbers_are_those_of_numpy(cupy, capsys, monkeypatch, dtype, rows, switch):
    monkeypatch.setenv("XPNET_WHOLE_BATCHES", switch)
    a, b = np.eye(5, 4, dtype=dtype) * 7 - 3, np.arange(4 * rows, dtype=dtype).reshape(rows, 4)
    results = cupy.compile(lambda *args: products(cupy.xp, *args), exact=True)(*map(cupy.from_host, (a, b)))
    for result, expected in zip(results, products(make("numpy", "cpu").xp, a, b), strict=True):
        np.testing.assert_array_equal(cupy.to_host(result), expected, strict=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shifts", [False, True], ids=["new results", "an argument among the results"])
def test_steps_in_one_call_leave_the_results_of_others_alone(cupy, capsys, *, shifts):
    def step(variables, block, rate):
        x, y = variables
        return [y if shifts else y * rate, (x + y) * rate + block.indices]

    states = []
    for backend, compiled in ((make("numpy", "cpu"), step), (cupy, cupy.compile(step, exact=True))):
        take_steps = backend.compile_steps(step, compiled, exact=True)
        numbers = np.arange(9.0).reshape(3, 3), np.ones((3, 3)), np.arange(12.0).reshape(4, 3)
        x, y, indices = map(backend.from_host, numbers)
        results = [[x.T, y]]
        for _ in range(2):
            results.append(take_steps(results[-1], SampleBlock(x, x, None, indices), [0.3, 0.2, -1.7, 0.9]))
        states.append([backend.to_host(x).tobytes() for x in leaves(results)])
    assert states[0] == states[1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam", "learning_rate": 0.01, "dropout": 0.3, "input_dropout": 0.2},
        {"batch_norm": True, "optimizer": "momentum", "max_norm": 1.0},
        {"activation": "tanh", "loss": "squared-error", "optimizer": "adamw", "clip_norm": 0.1},
        {"label_smoothing": 0.1, "weight_decay": 0.01, "hidden": (100,), "input_noise": 0.3},
    ],
    ids=" ".join,
)
def test_parameters_and_the_optimisers_state_are_those_of_numpy(cupy, capsys, changes):
    states = []
    for backend in (make("numpy", "cpu"), cupy):
        with Trainer.open(TrainConfig(**{**vars(BASE), **changes}), image_data(), backend) as trainer:
            state = trainer.fit([]).state
            states.append([backend.to_host(x).tobytes() for x in leaves(state.variables)])
            trainer.evaluate_test(state)
    assert states[0] == states[1]
    assert capsys.readouterr().err == ""


def test_a_function_that_is_not_known_runs_as_it_is_after_a_warning(cupy, capsys, monkeypatch):
    x = cupy.from_host(np.array([-1.5, 0.0, 3.5]))
    (result,) = cupy.compile(lambda x: [cupy.xp.floor(x) * 2.0], exact=True)(x)
    assert cupy.to_host(result).tolist() == [-4.0, 0.0, 6.0]
    warning = "xpnet: warning: not compiling a function for cupy, which is slower: "
    assert capsys.readouterr().err.startswith(warning)
    monkeypatch.setattr("xpnet.backends.cupy_compile.MOST_ELEMENTS", 2)
    (result,) = cupy.compile(lambda x: [x * 2.0], exact=True)(x)
    assert cupy.to_host(result).tolist() == [-3.0, 0.0, 7.0]
    assert capsys.readouterr().err == f"{warning}an array has more than 2 elements\n"


def test_the_plan_that_is_unused_the_longest_gives_way(cupy, monkeypatch):
    from xpnet.backends import cupy_compile

    made = list[int]()
    original = cupy_compile.Plan.__init__

    def make(plan, tape, inputs, outputs):
        made.append(inputs[0].shape[0])
        original(plan, tape, inputs, outputs)

    monkeypatch.setattr(cupy_compile, "MOST_PLANS", 3)
    monkeypatch.setattr(cupy_compile.Plan, "__init__", make)
    double = cupy.compile(lambda x: [x * 2.0], exact=True)
    for size in (1, 2, 3, 1, 4, 1, 2):
        (result,) = double(cupy.from_host(np.arange(float(size))))
        assert cupy.to_host(result).tolist() == [2.0 * x for x in range(size)]
    assert made == [1, 2, 3, 4, 2]
    assert len(double.args[1]) == 3


FULL, REFUSED = (
    "out of memory",
    "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks in cooperative launch",
)


@pytest.mark.parametrize(("problem", "warnings"), [(FULL, 2), (REFUSED, 1)])
def test_a_plan_without_memory_is_tried_again_later_and_a_refused_launch_is_not(
    cupy, capsys, monkeypatch, problem, warnings
):
    from xpnet.backends import cupy_compile

    original, lengths = cupy_compile.Plan.__call__, list[int]()

    def call(plan, runs):
        lengths.append(len(runs))
        if len(lengths) <= 2:
            raise RuntimeError(problem)
        return original(plan, runs)

    monkeypatch.setattr(cupy_compile, "PATIENCE", 2)
    monkeypatch.setattr(cupy_compile.Plan, "__call__", call)
    step = cupy.compile(lambda variables, rate: [variables[0] * rate], exact=True)
    for _ in range(4):
        (result,) = step([cupy.from_host(np.ones(3))], 2.0, more=[(3.0,), (0.5,)])
        assert cupy.to_host(result).tolist() == [3.0] * 3
    assert capsys.readouterr().err.count(f"which is slower: {problem}\n") == warnings
    assert lengths == ([3] * 4 if problem == FULL else [3])
