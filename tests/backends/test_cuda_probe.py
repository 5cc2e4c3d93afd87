"""Without a GPU: every reason why one cannot be used, the choice of a backend, and the second of two GPUs.

Stand-ins take the place of CuPy, PyTorch, JAX and the NVIDIA driver.
"""

import ctypes
import importlib
import os
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
from xpnet.backends.resolve import BACKENDS, import_backend, make, resolve
from xpnet.errors import BackendError, XPNetError
from xpnet.parity.devices import probe_all

# The package's attribute of this name is the module; `from ... import resolve` is the function.
resolve_module = importlib.import_module("xpnet.backends.resolve")


class Gpus:
    """The current GPUs, that of the inner scope last, and the operations with the GPU of each."""

    def __init__(self):
        self.current, self.log = [0], set()

    def note(self, operation, result=None):
        self.log.add((operation, self.current[-1]))
        return result

    @contextmanager
    def entered(self, index):
        self.current.append(index)
        try:
            yield
        finally:
            self.current.pop()


class CUDARuntimeError(RuntimeError):
    """As CuPy's, which has the status."""

    status = property(lambda self: self.args[0])


def answer(value):
    """Return a function that returns the value, or raises it if it is an error."""

    def call(*_, **__):
        if isinstance(value, Exception):
            raise value
        return value

    return call


def fake_namespace(failure):
    """Return NumPy's namespace, whose ones may be put on any device; `failure` replaces sums."""
    namespace = ModuleType(array_api_compat.numpy.__name__)
    namespace.__dict__.update(vars(array_api_compat.numpy))
    namespace.ones = lambda shape, *, dtype, device: np.ones(shape, dtype)
    if failure is not None:
        namespace.sum = answer(failure)
    return namespace


def fake_cupy(two_gpus, *, gpus=2, driver_version=12080, built_for=12090):
    class Device(ExitStack):
        def __init__(self, index):
            super().__init__()
            self.id = index

        def __enter__(self):
            self.enter_context(two_gpus.entered(self.id))

    cupy = MagicMock()
    cupy.cuda.Device = Device
    cupy.cuda.runtime.driverGetVersion = answer(driver_version)
    cupy.cuda.runtime.runtimeGetVersion = answer(built_for)
    cupy.cuda.runtime.getDeviceCount = answer(gpus)
    cupy.cuda.runtime.CUDARuntimeError = CUDARuntimeError
    cupy.asarray = lambda array: two_gpus.note("upload", array)
    cupy.asnumpy = lambda array: two_gpus.note("download", array)
    return cupy


def fake_torch(two_gpus, *, gpus=2, built=True, warning=None, mps=False):
    def is_available():
        if warning:
            warnings.warn(warning, stacklevel=1)
        return bool(gpus)

    def asarray(array, *, device):
        host = SimpleNamespace(numpy=lambda *, force: two_gpus.note("download", array))
        return two_gpus.note("upload", host)

    torch = MagicMock()
    torch.device = lambda name: SimpleNamespace(index=int(name.partition(":")[2] or 0))
    torch.get_default_device = lambda: SimpleNamespace(index=0)
    torch.cuda.is_available = is_available
    torch.cuda.device_count = answer(gpus)
    torch.cuda.device = lambda device: two_gpus.entered(device.index)
    torch.backends.cuda.is_built = answer(built)
    torch.backends.mps.is_available = answer(mps)
    torch.asarray = asarray
    return torch


def fake_jax(two_gpus, *, gpus=2):
    jax = MagicMock()
    jax.devices = lambda platform: ["CPU"] if platform == "cpu" else list(range(answer(gpus)()))
    jax.default_device = two_gpus.entered
    jax.device_put = lambda array, device: two_gpus.note("upload", array)
    return jax


FAKES = {"cupy": fake_cupy, "torch": fake_torch, "jax": fake_jax}


@pytest.fixture
def driver(monkeypatch):
    """Pretend that the driver supports a CUDA version, or that there is none; to begin with, it is 12.8."""

    def pretend(version):
        monkeypatch.setattr(probing, "cuda_driver_version", lambda: version)

    pretend(12080)
    return pretend


@pytest.fixture
def install(monkeypatch, driver):
    """Put a stand-in in the place of a library, and return the class of its backend."""

    def replace(name, two_gpus=None, *, failure=None, driver_is=12080, **state):
        driver(driver_is)
        namespace = fake_namespace(failure)
        library = FAKES[name](two_gpus or Gpus(), **state)
        library.__version__, library.numpy = "1.2", namespace
        monkeypatch.setitem(sys.modules, name, library)
        monkeypatch.setitem(sys.modules, f"array_api_compat.{name}", namespace)
        return import_backend(name)

    return replace


@pytest.mark.parametrize("name", FAKES)
def test_a_library_is_usable_if_every_step_succeeds(install, name):
    devices = ("cuda:0", "cuda:1") if name == "cupy" else ("cpu", "cuda:0", "cuda:1")
    library = install(name)
    assert library.probe("cuda") == library.probe("cuda:1") == Probe(True, "1.2", devices)


CUPY, JAX = 'pip install "cupy-cuda12x[ctk]"', 'pip install "jax[cuda12]"'
DRIVER, NVIDIA_SMI = "install or update the NVIDIA driver: https://www.nvidia.com/drivers", "run nvidia-smi"
NO_BACKEND = RuntimeError("Unknown backend cuda. Available backends are ['cpu']")
NO_NVRTC = RuntimeError("CuPy failed to load libnvrtc.so.12:\n OSError: no such file.")
READ_ONLY = OSError(30, "Read-only file system", "/root/.cupy/kernel_cache")
FULL, EXCLUSIVE = "end what fills the GPU, or choose another", "let others in: sudo nvidia-smi -c 0"
BUSY = "CUDA-capable device(s) is/are busy or unavailable"
OLD_PTX = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the PTX was compiled with an unsupported toolchain."
NOT_DETERMINISTIC = "Deterministic behavior was enabled with: set CUBLAS_WORKSPACE_CONFIG=:4096:8."
OLD_DRIVER = "CUDA initialization: The NVIDIA driver\n is too old."


@pytest.mark.parametrize(
    ("name", "state", "reason", "fix"),
    [
        ("cupy", {"driver_version": 0}, "there is no NVIDIA driver", DRIVER),
        ("cupy", {"driver_version": 11040}, "supports CUDA 11.4 and this CuPy needs CUDA 12", DRIVER),
        ("cupy", {"built_for": 13000}, "", f"or in place of this CuPy: {CUPY}"),
        ("cupy", {"gpus": CUDARuntimeError(803)}, "library and kernel module differ", "sudo reboot"),
        ("cupy", {"gpus": CUDARuntimeError(304)}, "CUDA does not start: 304", DRIVER),
        ("cupy", {"gpus": 0}, "the NVIDIA driver sees no GPU", NVIDIA_SMI),
        ("cupy", {"gpus": 1}, "cupy has no cuda:1 here, only cuda:0", "--device cuda:0"),
        ("cupy", {"failure": NO_NVRTC}, "failed: CuPy failed to load libnvrtc.so.12: OSError: no", CUPY),
        ("torch", {"built": False, "driver_is": None}, "no NVIDIA driver, and torch 1.2 was built w", DRIVER),
        (
            "cupy",
            {"failure": READ_ONLY},
            "failed: [Errno 30] Read-only file",
            "set CUPY_CACHE_DIR to a folder",
        ),
        ("cupy", {"failure": MemoryError("Out of memory")}, "failed: Out of memory", FULL),
        (
            "cupy",
            {"failure": RuntimeError(f"cudaErrorDevicesUnavailable: {BUSY}")},
            "failed: cudaE",
            EXCLUSIVE,
        ),
        ("cupy", {"failure": RuntimeError(OLD_PTX)}, "failed: CUDA_ERROR_UNSUPPORTED_PTX_VERSION", DRIVER),
        ("torch", {"failure": RuntimeError("CUDA out of memory. Tried")}, "failed: CUDA out of memory", FULL),
        ("torch", {"failure": RuntimeError(f"CUDA error: {BUSY}")}, "failed: CUDA error", EXCLUSIVE),
        ("torch", {"failure": RuntimeError(NOT_DETERMINISTIC)}, "failed: Determ", "CONFIG=:4096:8 before"),
        ("jax", {"failure": RuntimeError("RESOURCE_EXHAUSTED: Out of")}, "failed: RESOURCE_EXHA", FULL),
        ("torch", {"gpus": 0}, "torch 1.2 sees no usable GPU", NVIDIA_SMI),
        ("torch", {"gpus": 0, "warning": OLD_DRIVER}, "GPU: CUDA initialization: The NVIDIA", DRIVER),
        ("jax", {"gpus": NO_BACKEND}, "jax 1.2 sees no GPU: Unknown backend cuda. Available", JAX),
    ],
)
def test_the_first_problem_is_reported_with_its_fix(install, name, state, reason, fix):
    probe = install(name, **state).probe("cuda:1")
    assert (probe.usable, probe.version) == (False, "1.2")
    assert reason in probe.reason
    assert fix in probe.fix
    assert "\n" not in probe.reason + probe.fix


@pytest.mark.parametrize(("user", "used"), [(None, "false"), ("true", "true")])
def test_jax_reserves_no_memory_of_a_gpu_whatever_asks_for_it(install, monkeypatch, user, used):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", user or "")
    if user is None:
        del os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"]
    install("jax")
    resolve("cuda", "jax")
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == used


def test_torch_on_an_apple_gpu_is_usable_without_float64_and_compared_only_if_it_is_named(install):
    library = install("torch", gpus=0, built=False, mps=True)
    assert library.probe("mps") == Probe(True, "1.2", ("cpu", "mps:0"))
    apple, narrow = library.make("mps"), np.float32([0.1])
    np.testing.assert_array_equal(apple.to_host(apple.put(np.array([0.1]))), narrow, strict=True)
    assert not apple.has_float64
    assert [str(target) for target, _ in probe_all(["torch"])] == ["torch", "torch:cuda"]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No cupy", name="cupy"), "not installed"),
        (OSError("libx.so: cannot\nopen."), "installed but does not import: libx.so: cannot open"),
    ],
)
def test_a_missing_or_damaged_library_names_its_installation(monkeypatch, error, reason):
    library = import_backend("cupy")
    monkeypatch.setattr(importlib, "import_module", answer(error))
    assert library.probe("cuda:0") == Probe(False, None, (), f"cupy is {reason}", CUPY)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_names_a_device_that_it_has(name):
    with pytest.raises(BackendError, match=f"the {name} backend cannot run on nowhere: .*; to fix it: "):
        make(name, "nowhere")


def test_the_driver_tells_the_version_of_cuda_that_it_supports(monkeypatch):
    def write_version(pointer):
        pointer._obj.value = 12040
        return 0

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", answer(SimpleNamespace(cuDriverGetVersion=write_version)))
    assert probing.cuda_driver_version() == 12040


@pytest.mark.parametrize("name", FAKES)
def test_the_second_gpu_is_current_within_calls_and_the_scope(install, name):
    two_gpus, x = Gpus(), np.ones(2)
    second_gpu = install(name, two_gpus).make("cuda:1")
    two_gpus.log.clear()
    assert second_gpu.to_host(second_gpu.from_host(x)) is x
    assert (two_gpus.log - {("download", 1)}, two_gpus.current) == ({("upload", 1)}, [0])
    with second_gpu.scope():
        with pytest.raises(ZeroDivisionError), second_gpu.scope():
            raise ZeroDivisionError
        assert two_gpus.current == [0, 1]
    assert two_gpus.current == [0]


# The choice of a backend, on machines where each library can use some devices


@pytest.fixture
def machine(monkeypatch, driver):
    """Replace the libraries by some that can use these devices; return the list of those that are loaded."""

    def build(**devices):
        loaded = []

        def library(name):
            loaded.append(name)

            def probe(device):
                usable = device in devices.get(name, "").split()
                return Probe(usable, "1.0", (), f"{name} lacks {device}", f"mend {name}")

            def make(device):
                if not probe(device).usable:
                    raise BackendError(probe(device).reason)
                (backend := Mock(spec=Backend)).configure_mock(name=name, device_name=device)
                return backend

            return SimpleNamespace(probe=probe, make=make)

        monkeypatch.setattr(resolve_module, "import_backend", library)
        return loaded

    return build


CPUS = {"numpy": "cpu", "torch": "cpu", "jax": "cpu", "dpnp": "cpu", "array-api-strict": "cpu device1"}
JAX_GPU = {**CPUS, "jax": "cpu cuda:0"}
GPUS = {**JAX_GPU, "cupy": "cuda:0 cuda:1", "torch": "cpu cuda:0", "dpnp": "cpu gpu:0 gpu:1"}
APPLE = {**CPUS, "torch": "cpu mps:0"}
NONE = "cupy lacks cuda:0; torch lacks cuda:0; jax lacks cuda:0"


@pytest.mark.parametrize(
    ("devices", "device", "backend", "name", "used", "reason"),
    [
        (CPUS, "auto", "auto", "numpy", "cpu", NONE),
        (CPUS, "cuda:7", "jax", "jax", "cpu", "jax lacks cuda:7"),
        (CPUS, "auto", "dpnp", "dpnp", "cpu", "dpnp lacks gpu:0"),
        (GPUS, "auto", "auto", "cupy", "cuda:0", None),
        (GPUS, "gpu:1", "auto", "dpnp", "gpu:1", None),
        (JAX_GPU, "cuda:0", "auto", "jax", "cuda:0", None),
        (APPLE, "mps", "auto", "torch", "mps:0", None),
    ],
)
def test_the_first_backend_that_works_is_used_and_the_cpu_replaces_a_gpu_with_the_reason(
    machine, devices, device, backend, name, used, reason
):
    machine(**devices)
    selection = resolve(device, backend, require_device=used != "cpu" or device == "cpu")
    assert (selection.backend.name, selection.backend.device_name) == (name, used)
    assert (selection.device_requested, selection.device_used) == (device, used)
    assert selection.reason == reason
    if reason is None or device == "auto":
        assert selection.warning is None
    else:
        remedy = f"running on the CPU with {name}; to fix it: mend {reason.split()[0]}"
        assert selection.warning == f"--device {device} is not usable: {reason}; {remedy}"


ON_CPU = "only on the CPU: use --backend cupy, torch or jax, or --device cpu"
ON_GPU = "only on an NVIDIA GPU: use --backend numpy, torch, jax, dpnp or array-api-strict, or --device cuda"
ON_CUDA = "only on the CPU or an NVIDIA GPU: use --backend torch, or --device cpu or cuda"
NOT_ANY = f"no backend can run on cuda:0: {NONE}; to fix it: mend cupy"
LACKING = "the jax backend cannot run on cuda:0: jax lacks cuda:0; to fix it: mend jax"


@pytest.mark.parametrize(
    ("device", "backend", "required", "message"),
    [
        ("cuda", "numpy", False, f"the numpy backend cannot run on cuda, {ON_CPU}"),
        ("mps", "jax", False, f"the jax backend cannot run on mps, {ON_CUDA}"),
        ("cpu", "cupy", False, f"the cupy backend cannot run on cpu, {ON_GPU}"),
        ("cuda", "jax", True, LACKING),
        ("cuda:x", "torch", False, "unknown device 'cuda:x': expected auto, cpu, cuda, cuda:N, gpu, gpu:N"),
        ("cpu", "tensorflow", False, "unknown backend 'tensorflow': expected auto, numpy, cupy, torch, jax,"),
        ("auto", "auto", True, f"a GPU is required: {NOT_ANY}"),
        ("cuda", "auto", True, NOT_ANY),
    ],
)
def test_a_named_backend_is_never_replaced_nor_a_required_gpu(machine, device, backend, required, message):
    machine(**CPUS)
    with pytest.raises(XPNetError) as caught:
        resolve(device, backend, require_device=required)
    assert str(caught.value).startswith(message)


def test_arrays_on_the_cpu_are_no_gpu_that_is_required(machine, monkeypatch):
    machine(**GPUS)
    rows = resolve("cpu", "torch").backend
    assert resolve(like=rows).device_used == "cpu"
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "on")
    assert resolve(like=rows).device_used == "cuda:0"


def test_without_a_driver_no_gpu_library_is_loaded(machine, driver):
    loaded = machine(**CPUS)
    driver(None)
    assert resolve("auto").reason == "there is no NVIDIA driver"
    assert set(loaded) == {"numpy"}
