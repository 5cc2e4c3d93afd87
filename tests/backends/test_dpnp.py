"""dpnp: devices are named, and arrays stay on their queue."""

import sys
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from networks import pixels

import xpnet
import xpnet.reproducible as rp
from xpnet.backends.resolve import backend_of, import_backend, make

library = import_backend("dpnp")


def device(backend, kind, has_aspect_fp64=True):
    """A SYCL device; two of a kind are two devices."""
    return MagicMock(backend=backend, kind=kind, has_aspect_fp64=has_aspect_fp64, filter_string="")


def array_on(sycl_device):
    return SimpleNamespace(device=SimpleNamespace(sycl_device=sycl_device))


CPU, OTHER_CPU, OPENCL = device("opencl", "cpu"), device("opencl", "cpu"), device("opencl", "gpu", False)
LEVEL_ZERO, SECOND = device("level_zero", "gpu"), device("level_zero", "gpu")


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([CPU, OTHER_CPU, OPENCL], {"cpu": CPU, "gpu:0": OPENCL}),
        ([CPU, OPENCL, LEVEL_ZERO, SECOND], {"cpu": CPU, "gpu:0": LEVEL_ZERO, "gpu:1": SECOND}),
    ],
)
def test_the_cpu_and_each_gpu_have_a_name_and_perhaps_float64(monkeypatch, devices, expected):

    def get_devices(backend="all", device_type="all"):
        return [each for each in devices if backend in ("all", each.backend) and device_type == each.kind]

    dpnp = MagicMock(__version__="1.2", sum=lambda *_, **__: 12.0, ones=lambda shape, **_: np.ones(shape))
    dpnp.empty = lambda shape, *, dtype, device: array_on(device)
    monkeypatch.setenv("OCL_ICD_FILENAMES", "libx.so")
    monkeypatch.setitem(sys.modules, "dpnp", dpnp)
    monkeypatch.setitem(sys.modules, "dpctl", SimpleNamespace(get_devices=get_devices))
    assert library.probe("gpu").devices == tuple(expected)
    assert {name: library.make(name).device.sycl_device for name in expected} == expected
    for name, each in expected.items():
        assert library.of(array_on(each)).device_name == name
        assert library.make(name).has_float64 == each.has_aspect_fp64


@pytest.mark.needs("dpnp")
def test_results_are_on_the_queue_of_the_rows_and_reproducible_functions_refuse_another():
    queue = import_module("dpctl").SyclQueue("cpu")
    another_queue = partial(import_module("dpnp").asarray, sycl_queue=queue)
    x, y = pixels(60, 8, 3)
    model, rows = xpnet.fit(another_queue(x), another_queue(y), epochs=1, hidden=[]), another_queue(x)
    assert model.select_predictor(backend_of(rows)).backend.name == "dpnp"
    assert model.predict(rows).device == rows.device != make("dpnp", "cpu").device
    np.testing.assert_array_equal(model.predict(rows).asnumpy(), model.predict(x))
    with pytest.raises(xpnet.DataError, match=r"^sum: expected an array of the default queue of dpnp on cpu"):
        rp.sum(another_queue(np.ones(3)))
