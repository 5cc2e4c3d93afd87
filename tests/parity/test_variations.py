"""assert_parity: what is compared in results, the forms of arguments, and calls beyond the first."""

import re
from collections import Counter
from dataclasses import make_dataclass
from typing import NamedTuple

import numpy as np
import pytest

from xpnet.parity import assert_parity

X, BIG = np.arange(6.0).reshape(2, 3) + 0.5, 2**53 + 1
EXACT, NUMPY, ALL = {"tier": "bitwise"}, ["numpy"], ["numpy", "array-api-strict", "torch", "jax"]
Pair, Other = (NamedTuple("Pair", [("a", object), ("b", object)]) for _ in range(2))
Record = make_dataclass("Record", ["a"])
LOOSE, SIMPLE = {"check_dtype": False}, {"check_memory": False, "variations": False}


def message(port, reference, **options):
    with pytest.raises(AssertionError) as caught:
        assert_parity(port, X, reference=reference, rtol=1e-9, backends=NUMPY, **options)
    return str(caught.value).removeprefix("numpy on cpu: ").removeprefix("the reference: ")


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "text"),
    [
        (np.int64(BIG), np.float64(2**53), LOOSE, "differs first at (): 9007199254740993 where the refe"),
        (np.float64(2**53), BIG, LOOSE, "differs first at (): 9007199254740992.0 where the reference ha"),
        (np.int64(1), 1.0, {}, "has dtype int64, the reference a Python float"),
        ((1, np.float64(2)), [1, np.float64(2)], {}, "is a tuple of 2, the reference's a list of 2"),
        (tuple(X), Pair(*X), {}, "is a tuple of 2, the reference's a named tuple of a, b"),
        ({"a": X}, Record(X), {}, 'is a dict of "a", the reference\'s a dataclass of a'),
        (X, (X,), {}, "is no container, the reference's a tuple of 1"),
        (X, None, {}, "is of type ndarray, the reference's is None"),
        (np.ma.masked_less(X, 1), X, {}, "is a masked array, which other libraries do not have: "),
    ],
)
def test_results_are_compared_as_what_they_are(ours, theirs, options, text):
    found = message(lambda x: (x, ours), lambda x: (x, theirs), **SIMPLE, **options)
    assert found.startswith(f"result[1] {text}")


@pytest.mark.needs("torch", "jax")
def test_equal_integers_named_tuples_text_and_none_pass_and_the_librarys_own_named_tuples():
    def results(pair):
        return lambda x: (pair(x + 1, None), "text", 2**70, Record(x * 2.0), [BIG])

    assert_parity(results(Other), X, reference=results(Pair), **EXACT, backends=ALL, jit=False)
    assert_parity(lambda x: np.float64(2**53), X, reference=lambda x: 2**53, **EXACT, backends=NUMPY, **LOOSE)
    assert_parity(lambda x, xp: xp.linalg.eigh(x @ x.T), X, norm=1e-9, backends=ALL[1:], jit=True)


def test_arguments_reach_the_port_in_the_form_that_the_user_passes():
    seen, fixed, wide = [], np.arange(3.0), np.arange(12.0).reshape(2, 6)
    fixed.flags.writeable = False
    arrays = (np.asfortranarray(X), wide[:, ::-2], np.broadcast_to(1.0, (2, 3)), fixed)

    def port(*arrays):
        seen.extend((x.strides, x.flags.writeable) for x in arrays)
        return arrays[0] + 0.0

    assert_parity(port, *arrays, reference=lambda x, *_: x + 0.0, **EXACT, backends=NUMPY, variations=False)
    assert seen == [((8, 16), True), ((48, -16), True), ((0, 0), False), ((8,), False)]


def count_calls():
    calls = []
    return lambda x: calls.append(1) or x + len(calls) // 2


def workspace():
    space = np.zeros((2, 3))
    return lambda x: np.add(x, 1, out=space)


@pytest.mark.parametrize(
    ("port", "reference", "text"),
    [
        (lambda x: x + (not x.flags.forc), np.copy, r"result differs.*\['strided'\]"),
        (lambda x: np.add(x, 0, out=x) + 0, np.copy, r"ValueError: output array.*\['read-only'\]"),
        (count_calls(), np.copy, r"result differs.*\['second call'\] repeats it"),
        (workspace(), lambda x: x + 1, "result shares memory with that of an earlier call, the"),
        (lambda x: [x + 1] * 2, lambda x: [x + 1, x + 1], r"result\[1\] shares memory with result\[0\],"),
    ],
)
def test_one_example_finds_forms_state_and_shared_memory(port, reference, text):
    assert re.fullmatch(f"{text}.*", message(port, reference))


def test_a_named_variation_repeats_a_failure_and_false_does_without():
    def port(x):
        return x + (0 if x.flags.c_contiguous else 1)

    assert "variations=['F order'] repeats it" in message(port, np.copy, variations=["F order"])
    options = {**EXACT, "reference": np.copy, "backends": NUMPY}
    assert_parity(port, X, **options, variations=False)
    assert_parity(port, X, **options, variations=["second call", "read-only"])


@pytest.mark.parametrize(
    ("port", "reference", "options"),
    [
        (lambda x: x + x.flags.c_contiguous, lambda x: x + x.flags.c_contiguous, {}),
        (count_calls(), count_calls(), {"variations": ["second call"]}),
        (workspace(), workspace(), {}),
        (lambda x: tuple(x.copy().T), lambda x: tuple(np.array(y) for y in x.T), {}),
    ],
)
def test_what_the_original_does_too_is_no_failure(port, reference, options):
    assert_parity(port, X, reference=reference, rtol=1e-12, backends=NUMPY, **options)


@pytest.mark.needs("torch", "jax")
def test_each_function_is_called_at_most_eight_times_with_a_library():
    calls = Counter()

    def port(x, y, xp):
        calls[xp.__name__] += 1
        return xp.matmul(x, y)

    def original(x, y):
        calls["reference"] += 1
        return x @ y

    options = {"jit": True, "sync": False, "gradients": True, "norm": 1e-6}
    assert_parity(port, X, np.asfortranarray(X.T), reference=original, **options, backends=ALL)
    assert len(calls) == 5
    assert 6 <= max(calls.values()) <= 8
