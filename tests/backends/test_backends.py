"""Backends: arrays to the device and back, and the scope."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import reduce
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from assertions import assert_same
from backend_enum import BackendCase

from xpnet.backends.resolve import backend_of


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_arrays_and_views_go_to_the_device_and_back_with_dtype_shape_and_values(backend, dtype):
    x = np.arange(12).reshape(3, 4).astype(dtype)
    for host in (x[0, 0, ...], x[:0], x[::-1, ::-2], x.T, np.broadcast_to(x[0], (5, 4))):
        array = backend.from_host(host)
        assert_same(array, host, backend)
        np.testing.assert_array_equal(backend.to_host(array), host, strict=True)


def test_an_array_tells_its_library_and_device_and_its_backend_owns_no_others(backend):
    array = backend.from_host(np.ones(2))
    owned = [backend.owns(value) for value in (array, np.ones(2), [1.0, 2.0], 3.0, None)]
    assert owned == [True, backend.name == "numpy", False, False, False]
    if (library := backend_of(array)) is None:
        assert backend.name == "numpy"
    else:
        assert (library.name, library.device_name) == (backend.name, backend.device_name)
        assert_same(library.to_user(np.arange(3.0)), np.arange(3.0), backend)
    assert [backend_of(value) for value in ([1.0], 3.0, None, "a", pd.Series([1.0]))] == [None] * 5


@pytest.mark.needs("jax")
def test_jax_has_64_bits_inside_the_scope_and_in_its_thread_only():
    backend = BackendCase.JAX.make()
    xp = backend.xp

    def dtype():
        return xp.asarray(1.5).dtype

    with backend.scope(), ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), backend.scope():
            raise ZeroDivisionError
        assert dtype() == xp.float64
        assert pool.submit(dtype).result() == xp.float32
    assert_same(backend.from_host(np.arange(3)), np.arange(3), backend)  # keeps 64 bits outside, too
    assert dtype() == xp.float32


PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def read_precisions(torch):
    """Read the settings, also the older one if it does not contradict the newer ones."""
    with suppress(RuntimeError):
        yield torch.get_float32_matmul_precision()
    yield from (attrgetter(name)(torch.backends).fp32_precision for name in PRECISIONS)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("precision", "setting", "value"),  # of ``torch.backends``, by the older interface and by the newer one
    [
        ("medium", "cuda.matmul.allow_tf32", True),
        ("medium", "mkldnn.matmul.fp32_precision", "bf16"),
        ("highest", "fp32_precision", "tf32"),
    ],
)
def test_torch_computes_in_full_precision_on_the_device_until_the_last_scope_ends(precision, setting, value):
    import torch

    torch.set_default_device("meta")
    torch.set_float32_matmul_precision(precision)
    *path, name = setting.split(".")
    setattr(reduce(getattr, path, torch.backends), name, value)
    before = [*read_precisions(torch)]
    first, last = (BackendCase.TORCH.make().scope() for _ in range(2))
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(first.__enter__).result()
            with suppress(ZeroDivisionError), last:
                pool.submit(first.__exit__, None, None, None).result()
                assert [*read_precisions(torch)] == ["highest", *["ieee"] * len(PRECISIONS)]
                assert torch.ones(1).device == torch.device("cpu")
                torch.set_float32_matmul_precision("medium")
                raise ZeroDivisionError
        assert [*read_precisions(torch)] == before
        assert torch.ones(1).device == torch.device("meta")
    finally:
        torch.set_default_device(None)
        torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
