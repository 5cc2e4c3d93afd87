"""The linear algebra of rp: accuracy beside LAPACK, signs and orders, errors, stacks, and bits by kernel."""

import warnings
from functools import cache

import linear_calls
import matrices
import numpy as np
import pytest
from array_calls import digest
from backend_enum import BackendCase
from matrices import CASES
from other_kernels import printed_with_others

import xpnet.reproducible as rp
from xpnet.arithmetic import factors
from xpnet.reproducible import linalg

XP = rp.namespace("numpy").linalg


def _call(name, *arrays, **options):
    results = getattr(XP, name)(*map(rp.asarray, arrays), **options)
    return [x.raw for x in results] if isinstance(results, tuple) else results.raw


def _norm(a):
    return np.linalg.norm(a, 2) if a.size else 0.0


def _errors(case):
    """Return the errors of all decompositions and solutions, over 50 n 2^-53."""
    a, s, p = matrices.general(*case), matrices.symmetric(*case), matrices.symmetric(*case, positive=True)
    generator = np.random.default_rng(0)
    b = generator.normal(size=(len(s), 3)) * _norm(a)
    q, r = _call("qr", a)
    u, values, vh = _call("svd", a, full_matrices=False)
    eigenvalues, v = _call("eigh", s)
    lower = _call("cholesky", p)
    x, inverse, plus = _call("solve", p, b), _call("inv", p), _call("pinv", a, rtol=1e-9)
    scale, of_s, of_p = _norm(a), _norm(s), _norm(p)
    exact = np.linalg.svd(a, compute_uv=False)
    bound = 50 * max(a.shape) * 2.0**-53
    full = _call("svd", a)[0] if max(a.shape) <= 50 else u
    errors = {
        "qr": _norm(q @ r - a) / scale,
        "q": _norm(q.T @ q - np.eye(q.shape[1])),
        "svd": _norm(u * values @ vh - a) / scale,
        "u": _norm(u.T @ u - np.eye(len(values))),
        "full u": _norm(full.T @ full - np.eye(full.shape[1])),
        "v": _norm(vh @ vh.T - np.eye(len(values))),
        "singular values": np.max(np.abs(values - exact)) / exact[0],
        "svdvals": np.max(np.abs(_call("svdvals", a) - exact)) / exact[0],
        "eigh": _norm(v * eigenvalues @ v.T - s) / of_s,
        "eigenvectors": _norm(v.T @ v - np.eye(len(s))),
        "eigenvalues": np.max(np.abs(eigenvalues - np.linalg.eigvalsh(s))) / of_s,
        "eigvalsh": np.max(np.abs(_call("eigvalsh", s) - np.linalg.eigvalsh(s))) / of_s,
        "cholesky": _norm(lower @ lower.T - p) / of_p,
        "solve": _norm(p @ x - b) / (of_p * _norm(x) + _norm(b)),
        "inv": _norm(p @ inverse - np.eye(len(p))) / (of_p * _norm(inverse) + 1.0),
        "pinv": _norm(a @ plus @ a - a) / scale / max(scale * _norm(plus), 1e9 if "e12" in case[0] else 1.0),
    }
    if a.shape[0] == a.shape[1] and exact[-1] > 1e-13 * exact[0]:
        y = _call("solve", a, b)
        errors["solve of any"] = _norm(a @ y - b) / (scale * _norm(y) + _norm(b))
    return {name: error / bound for name, error in errors.items()}


def _check(cases):
    with warnings.catch_warnings(action="error"):
        for case in cases:
            beyond = {name: error for name, error in _errors(case).items() if not error <= 1.0}
            assert not beyond, case


@pytest.mark.slow
def test_errors_are_of_the_order_of_lapacks():
    _check([case for case in CASES if case[1] in (2, 7, 20) and case[2] in (0, 4)])


@pytest.mark.slow
@pytest.mark.nightly
def test_errors_are_of_the_order_of_lapacks_for_hundreds_of_matrices():
    assert len(CASES) > 900
    _check(CASES)


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("steepness", [0.3, 3.0])
def test_graded_tridiagonal_matrices_converge_whatever_their_order(steepness, step):
    n = 101
    diagonal = 10.0 ** -(steepness * np.arange(n))[::step]
    beside = 0.7 * np.sqrt(diagonal[1:]) * np.sqrt(diagonal[:-1])
    a = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values, vectors = _call("eigh", a)
    singular = _call("svdvals", a)
    bound = 50 * n * 2.0**-53
    assert np.abs(values - np.linalg.eigvalsh(a)).max() < bound
    assert np.abs(singular - np.linalg.svd(a, compute_uv=False)).max() < bound
    assert np.abs(vectors.T @ vectors - np.eye(n)).max() < bound


# Signs and orders


def test_signs_and_orders_are_part_of_the_definition():
    a = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 4.0], [0.0, 4.0, 1.0]])
    values, vectors = _call("eigh", a)
    u, singular, vh = _call("svd", a)
    assert (np.diff(values) >= 0).all()
    assert (np.diff(singular) <= 0).all()
    for matrix in (vectors, u):
        assert all(column[np.argmax(np.abs(column))] > 0 for column in matrix.T)
    assert np.allclose(u * singular @ vh, a, rtol=0, atol=1e-14)
    # Equal eigenvalues keep the order of the columns; zeros have the vectors of the identity.
    for n, matrix in ((3, np.eye(3)), (3, np.zeros((3, 3)))):
        assert np.array_equal(np.sort(_call("eigh", matrix)[1], axis=0), np.sort(np.eye(n), axis=0))
        assert np.array_equal(_call("svd", matrix)[0], np.eye(n))
    # Reflections leave a column alone that is zero below its first element.
    assert _call("qr", np.diag([-2.0, 3.0]))[1].tolist() == [[-2.0, 0.0], [0.0, 3.0]]
    assert _call("qr", np.array([[3.0], [4.0]]))[1].tolist() == [[-5.0]]
    # The pivot of a column is the first of its largest magnitudes.
    assert _call("det", np.array([[0.0, 1.0], [1.0, 0.0]])) == -1.0
    assert _call("slogdet", np.array([[0.0, 2.0], [1.0, 0.0]]))[0] == -1.0


# Errors, stacks, dtypes

BAD = {
    ("cholesky", "positive definite"): [[1.0, 2.0], [2.0, 1.0]],
    ("cholesky", "square"): [[1.0, 2.0]],
    ("solve", "singular"): [[1.0, 2.0], [2.0, 4.0]],
    ("inv", "singular"): [[0.0]],
    ("inv", "square"): [[1.0, 2.0]],
    ("det", "square"): [[1.0, 2.0]],
    ("eigh", "square"): [[1.0, 2.0]],
    ("eigh", "infinities or NaN"): [[np.nan]],
    ("svd", "infinities or NaN"): [[np.inf]],
    ("qr", "infinities or NaN"): [[np.nan, 1.0]],
    ("pinv", "infinities or NaN"): [[np.nan, 1.0]],
    ("svdvals", "expected matrices"): [1.0, 2.0],
}


@pytest.mark.parametrize(("name", "reason"), BAD)
def test_errors_are_a_line_that_names_the_function_and_the_reason(name, reason):
    a = rp.asarray(BAD[name, reason])
    with pytest.raises(np.linalg.LinAlgError, match=reason) as error:
        getattr(XP, name)(a, *([a] if name == "solve" else []))
    assert str(error.value).startswith(f"{name}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stack", [(2, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_stacks_hold_the_results_of_each_matrix_in_the_dtype(stack, dtype):
    generator = np.random.default_rng(0)
    a = (generator.normal(size=(*stack, 4, 4)) * 9).astype(dtype) + dtype(40) * np.eye(4, dtype=dtype)
    a = a + np.swapaxes(a, -1, -2)
    expected = np.float32 if dtype == np.float32 else np.float64
    for name in ("cholesky", "inv", "det", "slogdet", "qr", "eigh", "eigvalsh", "svd", "svdvals", "pinv"):
        results, parts = _call(name, a), [_call(name, each) for each in a.reshape(-1, 4, 4)]
        reference = getattr(np.linalg, name, None)
        for number, result in enumerate(results if isinstance(results, list) else [results]):
            assert result.dtype == expected
            assert result.shape[: len(stack)] == stack
            each = [part[number] if isinstance(results, list) else part for part in parts]
            assert result.reshape(-1, *result.shape[len(stack) :]).tolist() == [x.tolist() for x in each]
        if reference and name not in ("eigh", "svd", "qr"):
            of_numpy = reference(a)
            of_numpy = of_numpy if isinstance(of_numpy, tuple) else [of_numpy]
            for x, y in zip(results if isinstance(results, list) else [results], of_numpy, strict=True):
                assert np.allclose(x, y, rtol=1e-4 if dtype == np.float32 else 1e-12)


def test_norms_ranks_and_powers_are_numpys():
    generator = np.random.default_rng(1)
    a = generator.normal(size=(3, 4, 4))
    a[0, 3] = a[0, 2]
    for ord_ in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        expected = np.linalg.norm(a, ord=ord_, axis=(-2, -1), keepdims=True)
        assert np.allclose(_call("matrix_norm", a, ord=ord_, keepdims=True), expected, rtol=1e-13, atol=1e-15)
    for ord_ in (0, 1, 2, 3, 0.5, -2, np.inf, -np.inf):
        expected = np.linalg.norm(a, ord=ord_, axis=1)
        assert np.allclose(_call("vector_norm", a, ord=ord_, axis=1), expected, rtol=1e-13)
    assert _call("matrix_rank", a).tolist() == [3, 4, 4]
    assert _call("matrix_rank", a, rtol=2.0).tolist() == [0, 0, 0]
    for n in (0, 1, 2, 5, -3):
        power = XP.matrix_power(rp.asarray(a[1]), n).raw
        assert np.allclose(power, np.linalg.matrix_power(a[1], n), rtol=1e-11)
    assert np.array_equal(_call("diagonal", a, offset=-1), np.diagonal(a, -1, -2, -1))
    assert np.array_equal(_call("cross", a[0, :, :3], a[1, :, :3]), np.cross(a[0, :, :3], a[1, :, :3]))


def test_a_large_matrix_warns_before_it_takes_minutes(monkeypatch):
    monkeypatch.setitem(linalg.SLOW, "eigh", 3)
    with pytest.warns(UserWarning, match="eigh of a matrix of 4 rows and 4 columns takes minutes") as record:
        XP.eigh(rp.asarray(np.eye(4)))
    assert record[0].filename == __file__


# Bits


@cache
def _of_numpy():
    return linear_calls.digests("numpy")


@pytest.mark.parametrize(
    "case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX], ids=lambda case: case.value
)
def test_every_library_has_the_bits_of_numpy(case):
    digests = linear_calls.digests(case.backend_name)
    assert {call for call, each in digests.items() if each != _of_numpy()[call]} == set()


def test_kernels_and_threads_have_the_same_bits():
    expected = digest([np.frombuffer(repr(_of_numpy()).encode(), np.uint8)])
    assert printed_with_others(linear_calls.__file__) == {expected}


def test_the_digest_notices_lapack(monkeypatch):
    right = _of_numpy()
    monkeypatch.setattr(factors, "qr", lambda a, complete=False: np.linalg.qr(a))
    monkeypatch.setattr(linalg.factors, "solve", np.linalg.solve)
    digests = linear_calls.digests("numpy")
    assert {call for call, each in digests.items() if each != right[call]} >= {
        ("qr", "square"),
        ("inv", "square"),
    }
