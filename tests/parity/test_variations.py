"""assert_parity: what is compared in results, the forms of arguments, and calls beyond the first."""

import re
import sys
from collections import Counter
from dataclasses import make_dataclass
from typing import NamedTuple

import array_api_compat
import numpy as np
import pytest

from xpnet.parity import assert_parity

X, BIG = np.arange(6.0).reshape(2, 3) + 0.5, 2**53 + 1
EXACT, NUMPY, ALL = {"tier": "bitwise"}, ["numpy"], ["numpy", "array-api-strict", "torch", "jax"]
is_numpy, namespace = array_api_compat.is_numpy_array, array_api_compat.array_namespace
Pair, Swapped, Other = (
    NamedTuple("Pair", [(name, object) for name in names]) for names in ("ab", "ba", "ab")
)
Record, Wide = make_dataclass("Record", ["a"]), make_dataclass("Wide", ["a", "b"])


def message(port, reference, *arguments, **options):
    """What is said of a port."""
    with pytest.raises(AssertionError) as caught:
        assert_parity(
            port, *(arguments or (X,)), reference=reference, **{"rtol": 1e-9, "backends": NUMPY, **options}
        )
    return str(caught.value)


# Results


@pytest.mark.needs("torch", "jax")
def test_of_a_workspace_that_original_and_port_share_the_port_alone_is_blamed():
    space = np.zeros((2, 3))

    def fill(x, factor):
        if not is_numpy(x):
            return x * 2.0
        return np.multiply(x, factor, out=space)

    text = message(lambda x: fill(x, 3.0), lambda x: fill(x, 2.0), backends=ALL, variations=False)
    assert text.startswith("numpy on cpu: result differs first at (0, 0): 1.5 where the reference has 1.0")
    assert "\n" not in text


LOOSE = {"check_dtype": False}


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "text"),
    [
        (np.int64(BIG), np.float64(2**53), LOOSE, " differs first at (): 9007199254740993 where the refe"),
        (np.float64(2**53), np.int64(BIG), LOOSE, " differs first at (): 9007199254740992.0 where the re"),
        (np.int64(BIG), np.uint64(2**53), LOOSE, " differs first at (): 9007199254740993 where the refer"),
        (np.float64(2**53), BIG, LOOSE, " differs first at (): 9007199254740992.0 where the reference ha"),
        (np.float64(2**53), BIG, {}, " has dtype float64, the reference a Python int"),
        (np.int64(1), True, {}, " has dtype int64, the reference a Python bool"),
        (np.int64(1), 1.0, {}, " has dtype int64, the reference a Python float"),
        (
            np.longdouble(1) / 3,
            np.longdouble(1) / 3 + 1e-8,
            {},
            " differs first at (): 0.3333333333333333 wh",
        ),
        ((1, np.float64(2)), [1, np.float64(2)], {}, " is a tuple of 2, the reference's a list of 2"),
        (Swapped(*X), Pair(*X), {}, " is a named tuple of b, a, the reference's a named tuple of a, b"),
        (tuple(X), Pair(*X), {}, " is a tuple of 2, the reference's a named tuple of a, b"),
        ({"a": X}, Record(X), {}, ' is a dict of "a", the reference\'s a dataclass of a'),
        (Wide(X, X), Record(X), {}, " is a dataclass of a, b, the reference's a dataclass of a"),
        (X, (X,), {}, " is no container, the reference's a tuple of 1"),
        ((X, "b"), (X, "a"), {}, "[1] is of type str, the reference's is 'a'"),
        ((X, None), (X, X), {}, "[1] is a builtins.NoneType, not an array of numpy"),
        ((X, X), (X, None), {}, "[1] is of type ndarray, the reference's is None"),
        (
            np.ma.masked_less(X, 1),
            X,
            {},
            " is a masked array, which other libraries do not have: return its ",
        ),
        (
            X,
            np.ma.masked_less(X, 1),
            {},
            " is a masked array, which other libraries do not have: return its ",
        ),
    ],
)
def test_results_are_compared_as_what_they_are(ours, theirs, options, text):
    found = message(lambda x: ours, lambda x: theirs, check_memory=False, variations=False, **options)
    assert re.sub("^(numpy on cpu|the reference): result", "", found).startswith(text)


@pytest.mark.needs("torch", "jax")
def test_equal_integers_named_tuples_text_and_none_pass():
    def results(pair):
        return lambda x: (pair(x + 1, None), "text", 2**70, Record(x * 2.0), [BIG])

    assert_parity(results(Other), X, reference=results(Pair), **EXACT, backends=ALL, jit=False)
    assert_parity(lambda x: np.float64(2**53), X, reference=lambda x: 2**53, **EXACT, backends=NUMPY, **LOOSE)


@pytest.mark.needs("torch")
@pytest.mark.needs("jax")
def test_the_librarys_own_named_tuples_have_the_names_of_numpys():
    def port(x, xp):
        return xp.linalg.eigh(x @ xp.matrix_transpose(x)), "name", None

    assert_parity(port, X, norm=1e-9, backends=ALL[1:], jit=True)


# The forms of arguments, and further calls


@pytest.mark.needs("torch")
def test_arguments_reach_the_port_in_the_form_that_the_user_passes():
    seen = []

    def port(*arrays):
        strides = [x.stride() if hasattr(x, "stride") else x.strides for x in arrays]
        seen.append((strides, [x.flags.writeable for x in arrays if is_numpy(x)]))
        return arrays[0] + 0.0

    fixed, wide = np.arange(3.0), np.arange(12.0).reshape(2, 6)
    fixed.flags.writeable = False
    arrays = (np.asfortranarray(X), wide[:, ::-2], np.broadcast_to(1.0, (2, 3)), fixed)
    options = {**EXACT, "reference": lambda x, *_: x + 0.0, "variations": False}
    assert_parity(port, *arrays, **options, backends=["numpy"])
    assert_parity(port, arrays[0], **options, backends=["torch"])
    strides = [(8, 16), (48, -16), (0, 0), (8,)]
    assert seen == [(strides, [True, True, False, False]), ([(1, 2)], [])]
    seen.clear()
    column = np.zeros((1 << 16, 64))[:, 0]  # little in large memory, which is not copied
    assert_parity(port, column, **{**options, "reference": port}, backends=["numpy"])
    assert seen == [([(8,)], [True])] * 2


def count_calls():
    calls = []
    return lambda x: calls.append(1) or x + len(calls) // 2


def workspace():
    space = np.zeros((2, 3))
    return lambda x: np.add(x, 1, out=space)


@pytest.mark.parametrize(
    ("port", "reference", "text"),
    [
        (lambda x: x.ravel(order="K") + 0, lambda x: x.ravel() + 0, r"result differs.*\['F order'\]"),
        (lambda x: x + (0 if x.flags.forc else 1), lambda x: x + 0, r"result differs.*\['strided'\]"),
        (
            lambda x: np.multiply(x, 1, out=x) + 0,
            np.copy,
            r"ValueError: output array.*\['read-only'\] repeats it",
        ),
        (count_calls(), np.copy, r"result differs.*\['second call'\] repeats it"),
        (
            workspace(),
            lambda x: x + 1,
            r"result shares memory with that of an earlier call, the.*\['second call'\]",
        ),
        (
            lambda x: (x.copy(),) * 2,
            lambda x: (x.copy(), x.copy()),
            r"result\[1\] shares memory with result\[0\],",
        ),
        (
            lambda x: np.broadcast_to(1.0, 3),
            lambda x: np.ones(3),
            "result is read-only, the reference's is not",
        ),
    ],
)
def test_one_example_finds_forms_state_and_shared_memory(port, reference, text):
    found = message(port, reference)
    assert re.match(f"numpy on cpu: {text}", found)
    assert "\n" not in found


def test_a_named_variation_repeats_a_failure_and_false_does_without():
    def port(x):
        return x + (0 if x.flags.c_contiguous else 1)

    assert "variations=['F order'] repeats it" in message(port, np.copy, variations=["F order"])
    assert_parity(port, X, reference=np.copy, **EXACT, backends=NUMPY, variations=False)
    assert_parity(
        port, X, reference=np.copy, **EXACT, backends=NUMPY, variations=["second call", "read-only"]
    )


@pytest.mark.parametrize(
    ("port", "reference", "options"),
    [
        # The original's own result depends on the form, is not repeated, or it needs to write.
        (lambda x: x + x.flags.c_contiguous, lambda x: x + x.flags.c_contiguous, {}),
        (count_calls(), count_calls(), {"variations": ["second call"]}),
        (workspace(), workspace(), {}),
        (
            lambda x: np.add(x, 1, out=x),
            lambda x: np.add(x, 1, out=x),
            {"mutates": [0], "check_memory": False},
        ),
        (lambda x: np.split(x, 3, axis=1), lambda x: np.split(x.copy(), 3, axis=1), {"check_memory": False}),
        (lambda x: tuple(x.copy().T), lambda x: tuple(np.array(y) for y in x.T), {}),
    ],
)
def test_what_the_original_does_too_is_no_failure(port, reference, options):
    assert_parity(port, X, reference=reference, rtol=1e-12, backends=NUMPY, **options)


@pytest.mark.needs("torch")
@pytest.mark.needs("jax")
@pytest.mark.parametrize("options", [{"float64": False}, {"gradients": True}])
def test_each_function_is_called_at_most_eight_times_with_a_library(options):
    calls = Counter()

    def port(x, y, xp):
        calls[xp.__name__] += 1
        return xp.matmul(x, y)

    def original(x, y):
        calls["reference"] += 1
        return x @ y

    options = {"jit": True, "sync": False, "reference": original, "norm": 1e-6, "backends": ALL, **options}
    assert_parity(port, X, np.asfortranarray(X.T), **options)
    assert len(calls) == 5
    assert 6 <= max(calls.values()) <= 8


def test_the_work_beside_the_calls_of_both_functions_is_bounded():
    """Counted by calls of Python's functions, of which a million take about half a second."""
    counts = Counter()

    def count(frame, event, _):
        counts[event] += 1

    def port(x, y):
        return x * 2.0 + y

    for trace in (None, count):  # what is computed once is not counted
        sys.setprofile(trace)
        assert_parity(port, X, X, reference=port, rtol=1e-9, backends=NUMPY)
        sys.setprofile(None)
    assert counts["call"] < 1600


@pytest.mark.needs("torch")
def test_a_gradient_that_is_nan_near_the_arguments_is_a_failure():
    """But not at them; there is no such gradient of the original."""

    def port(x, xp):
        return xp.where(x < 2.0005, x * x, x * x + 0.0 * xp.sqrt(2.0005 - x))

    with pytest.raises(AssertionError, match="gradient"):
        assert_parity(
            port, np.full(3, 2.0), reference=np.square, rtol=1e-12, gradients=True, backends=["torch"]
        )
