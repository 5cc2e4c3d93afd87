"""With stand-ins for the libraries: why a GPU cannot be used, the choice of a backend, the second GPU."""

import os
import re
import sys
import warnings
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, Mock

import array_api_compat.numpy
import numpy as np
import pytest

from xpnet.backends import probing
from xpnet.backends.base import Backend
from xpnet.backends.probing import Probe
from xpnet.backends.resolve import Selection, import_backend, resolve
from xpnet.errors import XPNetError
from xpnet.parity.devices import probe_all


class Gpus:
    def __init__(self):
        self.current, self.used = [0], set()

    def copy(self, array, *_, **__):
        self.used.add(self.current[-1])
        return array

    @contextmanager
    def entered(self, index):
        self.current.append(index)
        try:
            yield
        finally:
            self.current.pop()


class CUDARuntimeError(RuntimeError):
    status = 803


def answer(value):
    return Mock(side_effect=value) if isinstance(value, Exception) else lambda *_, **__: value


def fake_cupy(two_gpus, *, gpus=2, driver_version=12080, built_for=12090):
    class Device(ExitStack):
        def __init__(self, index):
            super().__init__()
            self.id = index

        def __enter__(self):
            self.enter_context(two_gpus.entered(self.id))

    runtime = MagicMock(CUDARuntimeError=CUDARuntimeError, getDeviceCount=answer(gpus))
    runtime.driverGetVersion, runtime.runtimeGetVersion = answer(driver_version), answer(built_for)
    cuda = MagicMock(Device=Device, runtime=runtime)
    return MagicMock(cuda=cuda, asarray=two_gpus.copy, asnumpy=two_gpus.copy)


def fake_torch(two_gpus, *, gpus=2, built=True, warning=None, mps=False):
    def is_available():
        if warning:
            warnings.warn(warning, stacklevel=1)
        return bool(gpus)

    torch = MagicMock()
    torch.device = lambda name: SimpleNamespace(index=int(name.partition(":")[2] or 0))
    torch.get_default_device = lambda: SimpleNamespace(index=0)
    torch.cuda.is_available, torch.cuda.device_count = is_available, answer(gpus)
    torch.cuda.device = lambda device: two_gpus.entered(device.index)
    torch.backends.cuda.is_built, torch.backends.mps.is_available = answer(built), answer(mps)
    torch.asarray = lambda array, **_: SimpleNamespace(numpy=lambda **_: two_gpus.copy(array))
    return torch


def fake_jax(two_gpus, *, gpus=2):
    devices = lambda platform: ["CPU"] if platform == "cpu" else list(range(answer(gpus)()))  # noqa: E731
    return MagicMock(devices=devices, default_device=two_gpus.entered, device_put=two_gpus.copy)


FAKES = {"cupy": fake_cupy, "torch": fake_torch, "jax": fake_jax}


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    monkeypatch.setattr(probing, "cuda_driver_version", lambda: 12080)


@pytest.fixture
def install(monkeypatch):

    def replace(name, two_gpus=None, *, failure=None, **state):
        namespace = ModuleType(array_api_compat.numpy.__name__)
        namespace.__dict__.update(vars(array_api_compat.numpy))
        namespace.ones = lambda shape, *, dtype, device: np.ones(shape, dtype)
        if failure is not None:
            namespace.sum = answer(failure)
        library = FAKES[name](two_gpus or Gpus(), **state)
        library.__version__, library.numpy = "1.2", namespace
        monkeypatch.setitem(sys.modules, name, library)
        monkeypatch.setitem(sys.modules, f"array_api_compat.{name}", namespace)
        return import_backend(name)

    return replace


DRIVER, CUPY = "https://www.nvidia.com/drivers", 'pip install "cupy-cuda12x[ctk]"'
READ_ONLY = OSError(30, "Read-only file system", "/root/.cupy/kernel_cache")
BUSY = RuntimeError("CUDA-capable device(s) is/are busy or unavailable")
NOT_DETERMINISTIC = RuntimeError("set CUBLAS_WORKSPACE_CONFIG=:4096:8.")
NO_BACKEND = RuntimeError("Unknown backend cuda.\n Available backends are ['cpu']")


@pytest.mark.parametrize(
    ("name", "state", "reason", "fix"),
    [
        ("cupy", {"driver_version": 11040}, "supports CUDA 11.4 and this CuPy needs CUDA 12", DRIVER),
        ("cupy", {"built_for": 13000}, "", f"or in place of this CuPy: {CUPY}"),
        ("cupy", {"gpus": CUDARuntimeError()}, "library and kernel module differ", "sudo reboot"),
        ("cupy", {"gpus": 1}, "cupy has no cuda:1 here, only cuda:0", "--device cuda:0"),
        ("cupy", {"failure": RuntimeError("no libnvrtc.so.12")}, "failed: no libnvrtc.so.12", CUPY),
        ("cupy", {"failure": READ_ONLY}, "failed: [Errno 30] Read-only file", "set CUPY_CACHE_DIR"),
        ("torch", {"failure": RuntimeError("CUDA out of memory")}, "failed: CUDA out", "what fills the GPU"),
        ("torch", {"failure": BUSY}, "failed: CUDA-capable", "let others in: sudo nvidia-smi -c 0"),
        ("torch", {"failure": NOT_DETERMINISTIC}, "failed: set CUBLAS", "CONFIG=:4096:8 before"),
        ("torch", {"gpus": 0, "warning": "driver\n is too old"}, "GPU: driver is too old", DRIVER),
        ("jax", {"gpus": NO_BACKEND}, "jax 1.2 sees no GPU: Unknown backend cuda. Av", '"jax[cuda12]"'),
    ],
)
def test_the_first_problem_is_reported_with_its_fix(install, name, state, reason, fix):
    probe = install(name, **state).probe("cuda:1")
    assert not probe.usable
    assert reason in probe.reason
    assert fix in probe.fix
    assert "\n" not in probe.reason + probe.fix


@pytest.mark.parametrize("user", [{}, {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}])
def test_jax_reserves_no_memory_of_a_gpu_unless_the_user_says_so(install, monkeypatch, user):
    monkeypatch.setattr(os, "environ", used := {**user})
    install("jax")
    resolve("cuda", "jax")
    assert used == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **user}


def test_torch_on_an_apple_gpu_has_no_float64_and_is_compared_only_if_it_is_named(install):
    library = install("torch", gpus=0, built=False, mps=True)
    assert library.probe("mps") == Probe(True, "1.2", ("cpu", "mps:0"))
    assert not library.make("mps").has_float64
    assert [str(target) for target, _ in probe_all(["torch"])] == ["torch", "torch:cuda"]


@pytest.mark.parametrize("name", FAKES)
def test_the_second_gpu_is_current_within_calls_and_the_scope(install, name):
    two_gpus, x = Gpus(), np.ones(2)
    second_gpu = install(name, two_gpus).make("cuda:1")
    two_gpus.used.clear()
    assert second_gpu.to_host(second_gpu.from_host(x)) is x
    assert (two_gpus.used, two_gpus.current) == ({1}, [0])
    with second_gpu.scope():
        with pytest.raises(ZeroDivisionError), second_gpu.scope():
            raise ZeroDivisionError
        assert two_gpus.current == [0, 1]
    assert two_gpus.current == [0]


@pytest.fixture
def machine(monkeypatch):
    """Replace the libraries by some that can use these devices; return the list of those that are probed."""

    def build(**devices):
        probed = []

        def probe(name, device):
            probed.append(name)
            usable = device in devices.get(name, "cpu").split()
            return Probe(usable, "1.0", (), f"{name} lacks {device}", f"mend {name}")

        # The package's attribute of this name is the module; `from ... import resolve` is the function.
        monkeypatch.setattr(sys.modules["xpnet.backends.resolve"], "probe", probe)
        monkeypatch.setattr(sys.modules["xpnet.backends.resolve"], "make", lambda *of: of)
        return probed

    return build


GPUS = {"cupy": "cuda:0 cuda:1", "torch": "cpu cuda:0 mps:0", "dpnp": "cpu gpu:0 gpu:1"}
NONE = "cupy lacks cuda:0; torch lacks cuda:0; jax lacks cuda:0"
WARNING = "--device cuda:7 is not usable: jax lacks cuda:7; running on the CPU with jax; to fix it: mend jax"


@pytest.mark.parametrize(
    ("devices", "device", "backend", "used", "reason", "warning"),
    [
        ({}, "auto", "auto", ("numpy", "cpu"), NONE, None),
        ({}, "cuda:7", "jax", ("jax", "cpu"), "jax lacks cuda:7", WARNING),
        ({}, "auto", "dpnp", ("dpnp", "cpu"), "dpnp lacks gpu:0", None),
        (GPUS, "auto", "auto", ("cupy", "cuda:0"), None, None),
        (GPUS, "gpu:1", "auto", ("dpnp", "gpu:1"), None, None),
        (GPUS, "mps", "auto", ("torch", "mps:0"), None, None),
        ({"jax": "cuda:0"}, "cuda:0", "auto", ("jax", "cuda:0"), None, None),
    ],
)
def test_the_first_backend_that_works_is_used_and_the_cpu_replaces_a_gpu_with_the_reason(
    machine, devices, device, backend, used, reason, warning
):
    machine(**devices)
    selection = resolve(device, backend, require_device=used[1] != "cpu")
    assert selection == Selection(used, device, used[1], reason, warning)


@pytest.mark.parametrize(
    ("device", "backend", "message"),
    [
        ("cuda", "numpy", "the numpy backend cannot run on cuda, only on the CPU: use --backend cupy,"),
        ("cpu", "cupy", "the cupy backend cannot run on cpu, only on an NVIDIA GPU: use --backend numpy,"),
        ("cuda", "jax", "the jax backend cannot run on cuda:0: jax lacks cuda:0; to fix it: mend jax"),
        ("cuda:x", "torch", "unknown device 'cuda:x': expected auto, cpu, cuda, cuda:N, gpu, gpu:N"),
        ("cpu", "tensorflow", "unknown backend 'tensorflow': expected auto, numpy, cupy, torch, jax,"),
        ("auto", "auto", f"a GPU is required: no backend can run on cuda:0: {NONE}; to fix it: mend cupy"),
    ],
)
def test_a_named_backend_is_never_replaced_nor_a_required_gpu(machine, device, backend, message):
    machine()
    with pytest.raises(XPNetError, match=f"^{re.escape(message)}"):
        resolve(device, backend, require_device=True)


def test_arrays_on_the_cpu_are_no_gpu_that_is_required(machine, monkeypatch):
    machine(**GPUS)
    (rows := Mock(spec=Backend)).configure_mock(name="torch", device_name="cpu")
    assert resolve(like=rows).device_used == "cpu"
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "on")
    assert resolve(like=rows).device_used == "cuda:0"


def test_without_a_driver_no_gpu_library_is_loaded(machine, monkeypatch):
    probed = machine()
    monkeypatch.setattr(probing, "cuda_driver_version", lambda: None)
    assert resolve("auto").reason == "there is no NVIDIA driver"
    assert probed == []
