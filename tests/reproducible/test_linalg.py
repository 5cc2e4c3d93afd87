"""The linear algebra of rp: accuracy beside LAPACK, signs and orders, errors, stacks, and bits by kernel."""

import warnings
from functools import cache

import linear_calls
import matrices
import numpy as np
import pytest
from matrices import CASES
from other_kernels import printed_with_others

import xpnet.reproducible as rp
from xpnet.reproducible import linalg

XP = rp.namespace("numpy").linalg


def _all(name, *arrays, **options):
    results = getattr(XP, name)(*map(rp.asarray, arrays), **options)
    return [x.raw for x in results] if isinstance(results, tuple) else [results.raw]


def _call(name, *arrays, **options):
    results = _all(name, *arrays, **options)
    return results if len(results) > 1 else results[0]


def _norm(a):
    return np.linalg.norm(a, 2) if a.size else 0.0


def _from(product, a):
    return _norm(product - a) / _norm(a)


def _from_orthogonal(q):
    return _norm(q.T @ q - np.eye(q.shape[1]))


def _of_solution(a, x, b):
    return _norm(a @ x - b) / (_norm(a) * _norm(x) + _norm(b))


def _errors(case):
    a, s, p = matrices.general(*case), matrices.symmetric(*case), matrices.symmetric(*case, positive=True)
    b = np.random.default_rng(0).normal(size=(len(s), 3)) * _norm(a)
    (q, r), (u, values, vh), (eigenvalues, v) = _call("qr", a), _call("svd", a), _call("eigh", s)
    lower, plus, count = _call("cholesky", p), _call("pinv", a, rtol=1e-9), len(values)
    exact, of_eigh = np.linalg.svd(a, compute_uv=False), np.linalg.eigvalsh(s)
    errors = {
        "qr": _from(q @ r, a),
        "svd": _from(u[:, :count] * values @ vh[:count], a),
        "singular values": np.max(np.abs([values - exact, _call("svdvals", a) - exact])) / exact[0],
        "eigh": _from(v * eigenvalues @ v.T, s),
        **{f"orthogonality {i}": _from_orthogonal(each) for i, each in enumerate((q, u, vh.T, v))},
        "eigenvalues": np.max(np.abs([eigenvalues - of_eigh, _call("eigvalsh", s) - of_eigh])) / _norm(s),
        "cholesky": _from(lower @ lower.T, p),
        "solve": _of_solution(p, _call("solve", p, b), b),
        "inv": _of_solution(p, _call("inv", p), np.eye(len(p))),
        "pinv": _from(a @ plus @ a, a) / max(_norm(a) * _norm(plus), 1e9 if "e12" in case[0] else 1.0),
    }
    if a.shape[0] == a.shape[1] and exact[-1] > 1e-13 * exact[0]:
        errors["solve of any"] = _of_solution(a, _call("solve", a, b), b)
    return {name: error / (50 * max(a.shape) * 2.0**-53) for name, error in errors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("cases", [CASES[::10], pytest.param(CASES, marks=pytest.mark.nightly)], ids=len)
def test_errors_are_of_the_order_of_lapacks(cases):
    with warnings.catch_warnings(action="error"):
        for case in cases:
            beyond = {name: error for name, error in _errors(case).items() if not error <= 1.0}
            assert not beyond, case


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("steepness", [0.3, 3.0])
def test_graded_tridiagonal_matrices_converge_whatever_their_order(steepness, step):
    diagonal = 10.0 ** -(steepness * np.arange(101))[::step]
    beside = 0.7 * np.sqrt(diagonal[1:]) * np.sqrt(diagonal[:-1])
    a = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    (values, vectors), bound = _call("eigh", a), 5050 * 2.0**-53
    assert np.abs(values - np.linalg.eigvalsh(a)).max() < bound
    assert np.abs(_call("svdvals", a) - np.linalg.svd(a, compute_uv=False)).max() < bound
    assert _from_orthogonal(vectors) < bound


def test_signs_and_orders_are_part_of_the_definition():
    a = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 4.0], [0.0, 4.0, 1.0]])
    (values, vectors), (u, singular, vh) = _call("eigh", a), _call("svd", a)
    assert (np.diff(values) >= 0).all()
    assert (np.diff(singular) <= 0).all()
    assert all(column[np.argmax(np.abs(column))] > 0 for column in [*vectors.T, *u.T])
    assert np.allclose(u * singular @ vh, a, rtol=0, atol=1e-14)


BAD = {
    ("cholesky", "positive definite"): [[1.0, 2.0], [2.0, 1.0]],
    ("solve", "singular"): [[1.0, 2.0], [2.0, 4.0]],
    ("det", "square"): [[1.0, 2.0]],
    ("eigh", "infinities or NaN"): [[np.nan]],
    ("svd", "infinities or NaN"): [[np.inf]],
    ("svdvals", "expected matrices"): [1.0, 2.0],
}


@pytest.mark.parametrize(("name", "reason"), BAD)
def test_errors_are_a_line_that_names_the_function_and_the_reason(name, reason):
    a = rp.asarray(BAD[name, reason])
    with pytest.raises(np.linalg.LinAlgError, match=f"^{name}: [^\n]*{reason}[^\n]*$"):
        getattr(XP, name)(a, *([a] if name == "solve" else []))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize(
    "name", ["cholesky", "inv", "det", "slogdet", "qr", "eigh", "eigvalsh", "svd", "svdvals", "pinv"]
)
def test_stacks_hold_the_results_of_each_matrix_in_the_dtype(name, dtype):
    a = (np.random.default_rng(0).normal(size=(2, 3, 4, 4)) * 9 + 40 * np.eye(4)).astype(dtype)
    a = a + np.swapaxes(a, -1, -2)
    whole, empty, *each = (_all(name, x) for x in (a, a[:0], *a.reshape(-1, 4, 4)))
    for result, none, *parts in zip(whole, empty, *each, strict=True):
        assert result.dtype == (np.float32 if dtype == np.float32 else np.float64)
        assert result.tolist() == np.reshape(parts, (2, 3, *parts[0].shape)).tolist()
        assert none.shape == (0, *result.shape[1:])


def test_norms_ranks_and_powers_are_numpys():
    a = np.random.default_rng(1).normal(size=(3, 4, 4))
    a[0, 3] = a[0, 2]
    for ord_ in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        expected = np.linalg.norm(a, ord=ord_, axis=(-2, -1), keepdims=True)
        assert np.allclose(_call("matrix_norm", a, ord=ord_, keepdims=True), expected, rtol=1e-13, atol=1e-15)
    for ord_ in (0, 1, 2, 0.5, np.inf):
        expected = np.linalg.norm(a, ord=ord_, axis=1)
        assert np.allclose(_call("vector_norm", a, ord=ord_, axis=1), expected, rtol=1e-13)
    for name, extra in (("det", ()), ("slogdet", ()), ("matrix_power", (5,)), ("matrix_power", (-3,))):
        result = getattr(XP, name)(rp.asarray(a[1]), *extra)
        assert np.allclose(result, getattr(np.linalg, name)(a[1], *extra), rtol=1e-11)
    assert _call("matrix_rank", a).tolist() == [3, 4, 4]


def test_a_large_matrix_warns_before_it_takes_minutes(monkeypatch):
    monkeypatch.setitem(linalg.SLOW, "eigh", 3)
    with pytest.warns(UserWarning, match="eigh of a matrix of 4 rows and 4 columns takes minutes") as record:
        XP.eigh(rp.asarray(np.eye(4)))
    assert record[0].filename == __file__


digests = cache(linear_calls.digests)


def test_every_library_has_the_bits_of_numpy(case):
    found, expected = digests(case.backend_name), digests("numpy")
    assert {call for call, digest in found.items() if digest != expected[call]} == set()


def test_kernels_and_threads_have_the_same_bits():
    assert printed_with_others(linear_calls.__file__) == {linear_calls.of_all()}
