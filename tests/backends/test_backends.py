"""Backends: arrays to the device and back, the scope, and the primitives the mathematics uses."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from assertions import assert_same
from backend_enum import BackendCase

from xpnet.backends.base import NamespaceMismatchError, check_namespace
from xpnet.errors import XPNetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xpnet.backends.base import Backend

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]
ROOT = Path(__file__).resolve().parents[2]


# Arrays to the device and back


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_keeps_dtype_shape_and_values(backend: Backend, dtype: str) -> None:
    host = np.asarray([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    array = backend.from_host(host)
    assert_same(array, host, backend)
    back = backend.to_host(array)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, host, strict=True)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: a.T,
        lambda a: a[:0],
        lambda a: a[0, 0, ...],
        lambda a: np.broadcast_to(a[0], (5, 4)),
    ],
    ids=["reversed", "strided", "transposed", "empty", "0-d", "broadcast"],
)
def test_from_host_takes_any_view(backend: Backend, view: Callable[[Any], Any]) -> None:
    host = view(np.arange(12.0).reshape(3, 4))
    assert_same(backend.from_host(host), host, backend)


def test_from_host_takes_a_read_only_array(backend: Backend) -> None:
    host = np.frombuffer(b"\x00\x7f\xff", dtype=np.uint8)
    assert_same(backend.from_host(host), host, backend)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_jax_from_host_keeps_64_bits_outside_the_scope(dtype: str) -> None:
    backend = BackendCase.JAX.make()
    host = np.arange(3).astype(dtype)
    assert_same(backend.from_host(host), host, backend)


def test_synchronize_returns_when_the_work_is_done(backend: Backend) -> None:
    x = backend.from_host(np.ones((64, 64), dtype=np.float32))
    product = backend.xp.matmul(x, x)
    assert backend.synchronize() is None
    assert_same(product, np.full((64, 64), 64, dtype=np.float32), backend)


def test_map_blocks_keeps_the_order_of_the_items(backend: Backend) -> None:
    assert list(backend.map_blocks(lambda n: n * n, range(5))) == [0, 1, 4, 9, 16]


def test_attributes_describe_the_backend(backend: Backend) -> None:
    assert backend.name in {case.backend_name for case in BackendCase}
    assert backend.device_name in {case.device for case in BackendCase}
    assert backend.version[0].isdigit()
    assert backend.has_float64
    assert repr(backend) == f"<{backend.name} {backend.version} on {backend.device_name}>"


@pytest.mark.needs("array-api-strict")
def test_a_device_without_float64_says_so() -> None:
    strict = importlib.import_module("xpnet.backends.strict")
    found = strict.probe("no_float64")
    if not found.usable:
        pytest.skip(f"array-api-strict {found.version}: {found.reason}")
    assert not strict.make("no_float64").has_float64


@pytest.mark.needs("torch")
def test_meta_device_computes_shapes_and_refuses_values() -> None:
    backend = importlib.import_module("xpnet.backends.torch").make("meta")
    x = backend.from_host(np.ones((2, 3), dtype=np.float32))
    product = backend.xp.matmul(x, backend.xp.matrix_transpose(x))
    assert tuple(product.shape) == (2, 2)
    assert backend.device_name == "meta"
    with pytest.raises(RuntimeError):
        float(product[0, 0])
    with pytest.raises(NotImplementedError):
        backend.to_host(product)


@pytest.mark.needs("jax")
@pytest.mark.parametrize(("rows", "laid_out"), [(10, False), (256, True)])
def test_jax_lays_out_the_operands_of_large_compiled_products(rows: int, laid_out: bool) -> None:
    backend = BackendCase.JAX.make()
    jax = importlib.import_module("jax")
    w, x = (np.arange(6.0 * n).reshape(n, 6) for n in (rows, 4))

    def product(w: Any, x: Any) -> Any:
        return backend.xp.matmul(w, backend.xp.matrix_transpose(x))

    with backend.scope():
        assert ("optimization_barrier" in str(jax.make_jaxpr(product)(w, x))) is laid_out
        for function in (product, backend.compile(product, exact=False)):
            found = function(backend.from_host(w), backend.from_host(x))
            assert_same(found, w @ x.T, backend, rtol=1e-12)


# The scope


@pytest.mark.needs("jax")
def test_jax_x64_is_on_inside_the_scope_only() -> None:
    backend = BackendCase.JAX.make()
    xp = backend.xp
    before = xp.asarray(1.5).dtype
    with backend.scope():
        assert xp.asarray(1.5).dtype == xp.float64
        with backend.scope():
            assert xp.asarray(1.5).dtype == xp.float64
        assert xp.asarray(1.5).dtype == xp.float64
    assert before == xp.asarray(1.5).dtype == xp.float32


@pytest.mark.needs("jax")
def test_jax_x64_is_restored_after_an_error() -> None:
    backend = BackendCase.JAX.make()
    with pytest.raises(ZeroDivisionError), backend.scope():
        raise ZeroDivisionError
    assert backend.xp.asarray(1.5).dtype == backend.xp.float32


@pytest.mark.needs("jax")
def test_jax_x64_stays_off_in_other_threads() -> None:
    backend = BackendCase.JAX.make()
    seen = []
    with backend.scope():
        other = threading.Thread(target=lambda: seen.append(backend.xp.asarray(1.5).dtype))
        other.start()
        other.join()
    assert seen == [backend.xp.float32]


@pytest.mark.needs("jax")
def test_jax_from_host_leaves_x64_off() -> None:
    backend = BackendCase.JAX.make()
    backend.from_host(np.ones(3))
    assert backend.xp.asarray(1.5).dtype == backend.xp.float32


@pytest.mark.needs("array-api-strict")
def test_strict_scope_refuses_shapes_that_depend_on_values() -> None:
    backend = BackendCase.STRICT.make()
    x = backend.from_host(np.arange(3.0))
    with backend.scope():
        with pytest.raises(RuntimeError, match="boolean"):
            x[x > 1]
        with pytest.raises(RuntimeError, match="data-dependent"):
            backend.xp.nonzero(x)
    assert backend.xp.nonzero(x)[0].shape == (2,)


@pytest.mark.needs("array-api-strict")
def test_strict_device1_refuses_implicit_conversion_and_other_devices() -> None:
    backend = BackendCase.STRICT.make()
    x = backend.from_host(np.arange(3.0))
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(x)
    with pytest.raises(ValueError, match="device"):
        x + backend.xp.asarray(np.arange(3.0))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_take_gathers_rows(backend: Backend, dtype: str, index: str) -> None:
    host = np.arange(12).reshape(4, 3).astype(dtype)
    rows = np.asarray([3, 0, 3]).astype(index)
    taken = backend.xp.take(backend.from_host(host), backend.from_host(rows), axis=0)
    assert_same(taken, host[rows], backend)
    column = backend.xp.take(backend.from_host(host[:, 0]), backend.from_host(rows))
    assert_same(column, host[rows, 0], backend)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_widen_to_floats(backend: Backend, dtype: str) -> None:
    host = np.arange(256).astype(np.uint8)
    widened = backend.xp.astype(backend.from_host(host), getattr(backend.xp, dtype))
    assert_same(widened, host.astype(dtype), backend)


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_creation_keeps_dtype_and_device(backend: Backend, dtype: str) -> None:
    xp = backend.xp
    kind = getattr(xp, dtype)
    assert_same(xp.zeros((2,), dtype=kind, device=backend.device), np.zeros(2, dtype), backend)
    assert_same(xp.arange(3, dtype=kind, device=backend.device), np.arange(3, dtype=dtype), backend)
    full = xp.full((2, 2), 7, dtype=kind, device=backend.device)
    assert_same(full, np.full((2, 2), 7, dtype=dtype), backend)


# An array of another library


def test_check_namespace_accepts_the_backends_own_arrays(backend: Backend) -> None:
    x = backend.from_host(np.ones(2))
    check_namespace(backend, x, x)


def test_check_namespace_refuses_a_numpy_array_and_says_what_to_do(backend: Backend) -> None:
    if backend.name == "numpy":
        pytest.skip("NumPy's own array is the right one")
    wanted = (
        f"Encountered a numpy.ndarray when working with {backend.name}: "
        r"convert with backend.from_host\(...\)"
    )
    x = backend.from_host(np.ones(2))
    with pytest.raises(NamespaceMismatchError, match=wanted) as caught:
        check_namespace(backend, x, np.ones(2))
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, XPNetError)


@pytest.mark.parametrize("value", [[1.0, 2.0], 3.0, None], ids=["list", "float", "None"])
def test_check_namespace_refuses_what_is_no_array(backend: Backend, value: object) -> None:
    with pytest.raises(NamespaceMismatchError, match=f"builtins.{type(value).__name__} when"):
        check_namespace(backend, value)


# The comparison that the other tests rely on


def test_assert_same_fails_on_numpy_in_place_of_the_backends_array(backend: Backend) -> None:
    if backend.name == "numpy":
        pytest.skip("NumPy's own array is the right one")
    with pytest.raises(AssertionError, match="not an array of"):
        assert_same(np.ones(2), np.ones(2), backend)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (np.ones(2, dtype=np.float32), "dtype is"),
        (np.ones((2, 1)), r"shape is \(2,\)"),
        (np.asarray([1.0, 1.0 + 2**-52]), "not equal"),
    ],
    ids=["dtype", "shape", "value"],
)
def test_assert_same_fails_on_a_difference(backend: Backend, expected: np.ndarray, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_same(backend.from_host(np.ones(2)), expected, backend)


@pytest.mark.needs("array-api-strict")
def test_assert_same_fails_on_another_device() -> None:
    backend = BackendCase.STRICT.make()
    elsewhere = backend.xp.asarray(np.ones(2))
    with pytest.raises(AssertionError, match="device is"):
        assert_same(elsewhere, np.ones(2), backend)


def test_assert_same_with_a_tolerance_accepts_what_is_within_it(backend: Backend) -> None:
    actual = backend.from_host(np.asarray([1.0, 2.0]))
    assert_same(actual, np.asarray([1.0, 2.0 + 1e-9]), backend, rtol=1e-8)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(actual, np.asarray([1.0, 2.0 + 1e-7]), backend, rtol=1e-8)


# What a test run says of missing backends


def run_tests_without_cupy(folder: Path, required: str) -> subprocess.CompletedProcess[str]:
    hidden = 'raise ModuleNotFoundError("No module named cupy", name="cupy")\n'
    (folder / "cupy.py").write_text(hidden, encoding="utf-8")
    chosen = "round_trip and cupy and float32"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    return subprocess.run(
        [*command, "-k", chosen],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "XPNET_REQUIRE_BACKENDS": required,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_tests_of_a_missing_backend_are_left_out_and_counted(tmp_path: Path) -> None:
    run = run_tests_without_cupy(tmp_path, "numpy")
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, run.stdout
    assert re.search(r"^cupy +1 tests  cupy is not installed", run.stdout, re.MULTILINE)


def test_a_missing_backend_that_is_required_fails(tmp_path: Path) -> None:
    run = run_tests_without_cupy(tmp_path, "numpy, cupy")
    assert run.returncode == 1, run.stdout
    assert "cupy is required, but missing: cupy is not installed" in run.stdout


def test_an_unknown_required_backend_stops_the_run(tmp_path: Path) -> None:
    run = run_tests_without_cupy(tmp_path, "numpi")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "XPNET_REQUIRE_BACKENDS: numpi; expected some of numpy," in run.stderr
