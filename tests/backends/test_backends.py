"""Backends: arrays to the device and back, and the scope; and the tools of the tests of all backends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from assertions import assert_same
from backend_enum import BackendCase

from xpnet.backends.resolve import backend_of

if TYPE_CHECKING:
    from xpnet.backends.base import Backend

ROOT = Path(__file__).resolve().parents[2]


VIEWS = {
    "0-d": lambda a: a[0, 0, ...],
    "empty": lambda a: a[:0],
    "reversed and strided": lambda a: a[::-1, ::-2],
    "transposed": lambda a: a.T,
    "broadcast": lambda a: np.broadcast_to(a[0], (5, 4)),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype),
}


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_arrays_and_views_go_to_the_device_and_back_with_dtype_shape_and_values(
    backend: Backend, dtype: str
) -> None:
    for view in VIEWS.values():
        host = view(np.arange(12).reshape(3, 4).astype(dtype))
        array = backend.from_host(host)
        assert_same(array, host, backend)
        back = backend.to_host(array)
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, host, strict=True)


def test_a_backend_owns_the_arrays_of_its_library_alone(backend: Backend) -> None:
    assert backend.owns(backend.from_host(np.ones(2)))
    assert backend.owns(np.ones(2)) is (backend.name == "numpy")
    assert not any(backend.owns(value) for value in ([1.0, 2.0], 3.0, None))


def test_an_array_tells_its_library_and_device(backend: Backend) -> None:
    found = backend_of(backend.from_host(np.ones(2)))
    if backend.name == "numpy":
        assert found is None
    else:
        assert found is not None
        assert (found.name, found.device_name, found.device) == (
            backend.name,
            backend.device_name,
            backend.device,
        )
        assert_same(found.to_user(np.arange(3.0)), np.arange(3.0), backend)
    assert [backend_of(value) for value in ([1.0], 3.0, None, "a", pd.Series([1.0]))] == [None] * 5


@pytest.mark.needs("jax")
def test_jax_has_64_bits_inside_the_scope_and_in_its_thread_only() -> None:
    backend = BackendCase.JAX.make()
    xp = backend.xp

    def dtype() -> Any:
        return xp.asarray(1.5).dtype

    with backend.scope(), ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), backend.scope():
            raise ZeroDivisionError
        assert dtype() == xp.float64
        assert pool.submit(dtype).result() == xp.float32
    for host in (np.arange(3.0), np.arange(3)):  # from the host they keep 64 bits outside, too
        assert_same(backend.from_host(host), host, backend)
    assert dtype() == xp.float32


@pytest.mark.needs("array-api-strict")
def test_strict_refuses_shapes_that_depend_on_values() -> None:
    backend = BackendCase.STRICT.make()
    x = backend.from_host(np.arange(3.0))
    with backend.scope():
        with pytest.raises(RuntimeError, match="boolean"):
            x[x > 1]
        with pytest.raises(RuntimeError, match="data-dependent"):
            backend.xp.nonzero(x)


# The selection of the tests that can run


CUPY = "cupy is not installed"
REQUIRE, EMULATED = "XPNET_REQUIRE_BACKENDS", "XPNET_EMULATED_CUDA"


@pytest.mark.tooling
@pytest.mark.parametrize(
    ("variable", "value", "code", "message"),
    [
        (REQUIRE, "numpy", pytest.ExitCode.NO_TESTS_COLLECTED, rf"^cupy +1 tests  {CUPY}"),
        (REQUIRE, "numpy, cupy", pytest.ExitCode.TESTS_FAILED, f"^cupy is required, but missing: {CUPY}"),
        (REQUIRE, "Yes", pytest.ExitCode.TESTS_FAILED, f"^cupy is required, but missing: {CUPY}"),
        (REQUIRE, "no", pytest.ExitCode.NO_TESTS_COLLECTED, rf"^cupy +1 tests  {CUPY}"),
        (REQUIRE, "numpi", pytest.ExitCode.USAGE_ERROR, f"{REQUIRE}: numpi; expected some of numpy,"),
        (EMULATED, "2", pytest.ExitCode.USAGE_ERROR, f"{EMULATED}: expected 1, true, .*, got '2'"),
    ],
)
def test_tests_of_a_missing_backend_are_left_out_and_counted_or_fail_if_it_is_required(
    tmp_path: Path, variable: str, value: str, code: int, message: str
) -> None:
    (tmp_path / "cupy.py").write_text('raise ModuleNotFoundError("No cupy", name="cupy")')
    test = "import pytest\n@pytest.mark.needs('cupy')\ndef test_it():\n    pass\n"
    (tmp_path / "test_cupy.py").write_text(test)
    path = map(str, (tmp_path, ROOT, ROOT / "tests", ROOT / "tests" / "helpers"))
    variables = {"PYTHONPATH": os.pathsep.join(path), variable: value}
    words = ["-p", "conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    command, environment = [sys.executable, "-m", "pytest", *words], os.environ | variables
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == code, run.stdout
    assert re.search(message, run.stdout + run.stderr, re.MULTILINE)
