"""A compiled function of PyTorch's tensors gives what the function gives, call after call."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make

pytestmark = pytest.mark.needs("torch")

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def torch():
    return make("torch", "cpu")


def operations(xp):
    return {
        "add": lambda x, y: x + y * 0.5,
        "divide": lambda x, y: x / (xp.abs(y) + 1.0),
        "max": xp.maximum,
        "where": lambda x, y: xp.where((x > y) & (x >= -0.5), x, 0.5),
        "mask": lambda x, y: xp.where(x < y, x, 0.0) + xp.where(x == y, y, -0.0),
        "sum": lambda x, y: y - xp.sum(x, axis=-1, keepdims=True) * 0.125,
        "centre": lambda x, y: x - xp.max(y, axis=0, keepdims=True),
        "turn": lambda x, y: xp.matrix_transpose(x),
        "matmul": lambda x, y: xp.matmul(x, y) * 0.25,
        "cut": lambda x, y: xp.concat([x[:2, :], y[2:, :]], axis=0),
        "rows": lambda x, y: xp.take(x, xp.argmax(y, axis=1), axis=0),
        "shape alone": lambda x, y: xp.full_like(x, 3.0) / (xp.ones_like(y) + xp.abs(y)),
    }


NAMES = sorted(operations(np))
STEP = st.tuples(st.sampled_from(NAMES), st.integers(0, 9), st.integers(0, 9))


def assert_same(results, expected):
    for value, expected_value in zip(leaves(results), leaves(expected), strict=True):
        assert value.dtype == expected_value.dtype
        np.testing.assert_array_equal(value.numpy(), expected_value.numpy(), strict=True)


@settings(max_examples=60)
@given(
    st.lists(STEP, min_size=1, max_size=25),
    st.sampled_from([4, 67]),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_program_gives_the_same(torch, steps, size, dtype):
    """Results of 67 x 67 numbers are written into the memory of operands."""
    functions = operations(torch.xp)

    def run(a, b, factor):
        values = [a, b * factor]
        for name, i, j in steps:
            values.append(functions[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        return values[-1], (values[len(values) // 2], [])

    a, b = (torch.from_host(x) for x in np.clip(RNG.normal(size=(2, size, size)), -1, 1).astype(dtype))
    before = (a + 0.0, b + 0.0)
    fast, results = torch.compile(run, exact=True), []
    with torch.workers(1):  # for products of the same bits
        for factor in (1.0, 0.5, -1.0):
            results.append((fast(a, b, factor), run(a, b, factor)))
            for result, expected in results:
                assert_same(result, expected)
    assert_same((a, b), before)


def test_workers_use_one_thread_each_and_leave_the_number_of_threads(torch):
    count = torch.library.get_num_threads()
    with torch.workers(2):
        assert set(torch.map_blocks(lambda _: torch.library.get_num_threads(), range(4))) == {1}
        with torch.single_blocks(1 << 40):
            assert torch.library.get_num_threads() == 2
    assert torch.library.get_num_threads() == count
