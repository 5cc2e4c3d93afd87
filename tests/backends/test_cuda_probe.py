"""Without a GPU: every reason why one cannot be used, the choice of a backend, and the second of two GPUs.

Stand-ins take the place of CuPy, PyTorch, JAX and the NVIDIA driver.
"""

import ctypes
import importlib
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import array_api_compat.numpy
import numpy as np
import pytest

from xpnet.backends import probing
from xpnet.backends.probing import Probe
from xpnet.backends.resolve import BACKENDS, resolve
from xpnet.errors import BackendError, ConfigError

TESTS = Path(__file__).resolve().parents[1]

# The package's attribute of this name is the module; `from ... import resolve` is the function.
resolve_module = importlib.import_module("xpnet.backends.resolve")


# The stand-ins: libraries with two GPUs, which compute with NumPy


class Devices(threading.local):
    """The current devices of a thread, the inner one last; the operations on each, of all threads."""

    def __init__(self, log):
        self.current, self.log = [0], log

    def note(self, operation):
        self.log.add((operation, self.current[-1]))

    @contextmanager
    def entered(self, index):
        self.current.append(index)
        try:
            yield
        finally:
            assert self.current.pop() == index


class CUDARuntimeError(RuntimeError):
    """As CuPy's: it has the status, and its text the name and the description."""

    def __init__(self, status):
        super().__init__(f"cudaErrorOfStatus{status}: described\n over two lines.")
        self.status = status


def answer(value):
    """Return a function that returns the value, or raises it if it is an error."""

    def call(*_, **__):
        if isinstance(value, Exception):
            raise value
        return value

    return call


def on_any_device(function):
    def call(*args, device=None, **kwargs):
        return function(*args, **kwargs)

    return call


def fake_namespace(failure):
    """Return NumPy's namespace, whose arrays may be put on any device; `failure` replaces sums."""
    namespace = ModuleType(array_api_compat.numpy.__name__)
    namespace.__dict__.update(vars(array_api_compat.numpy))
    for name in ("arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"):
        setattr(namespace, name, on_any_device(getattr(np, name)))
    if failure is not None:
        namespace.sum = answer(failure)
    return namespace


def fake_cupy(devices, _, *, gpus=2, driver_version=12080, built_for=12090):
    class Device:
        def __init__(self, index):
            self.id, self.context = index, devices.entered(index)
            self.synchronize = lambda: devices.note("wait")

        def __enter__(self):
            self.context.__enter__()

        def __exit__(self, *error):
            self.context.__exit__(*error)

    runtime = SimpleNamespace(
        driverGetVersion=answer(driver_version),
        runtimeGetVersion=answer(built_for),
        getDeviceCount=answer(gpus),
        CUDARuntimeError=CUDARuntimeError,
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime, Device=Device),
        asarray=lambda array: devices.note("upload") or array,
        asnumpy=lambda array: devices.note("download") or array,
    )


def fake_torch(devices, _, *, gpus=2, built=True, warning=None):
    def is_available():
        if warning:
            warnings.warn(warning, stacklevel=1)
        return bool(gpus)

    def asarray(array, *, device):
        def numpy(*, force):
            assert force
            devices.note("download")
            return array

        devices.note("upload")
        return SimpleNamespace(numpy=numpy)

    cuda = SimpleNamespace(
        is_available=is_available,
        device_count=answer(gpus),
        device=lambda device: devices.entered(device.index),
        synchronize=lambda device: devices.log.add(("wait", device.index)),
    )
    return SimpleNamespace(
        backends=SimpleNamespace(cuda=SimpleNamespace(is_built=answer(built))),
        cuda=cuda,
        device=lambda name: SimpleNamespace(index=int(name[-1])),
        no_grad=nullcontext,
        asarray=asarray,
    )


def fake_jax(devices, namespace, *, gpus=2):
    def find(platform):
        return ["CPU"] if platform == "cpu" else [f"GPU {index}" for index in range(answer(gpus)())]

    names = ("enable_x64", "default_matmul_precision", "default_device")
    return SimpleNamespace(devices=find, numpy=namespace, **dict.fromkeys(names, answer(nullcontext())))


FAKES = {"cupy": fake_cupy, "torch": fake_torch, "jax": fake_jax}


@pytest.fixture
def driver(monkeypatch):
    """Pretend that the driver supports a CUDA version, or that there is none; to begin with, it is 12.8."""

    def pretend(version):
        for module in (probing, resolve_module):
            monkeypatch.setattr(module, "cuda_driver_version", lambda: version)

    pretend(12080)
    return pretend


@pytest.fixture
def two_gpus():
    return Devices(set())


@pytest.fixture
def install(monkeypatch, driver, two_gpus):
    """Put a stand-in in the place of a library, and return the module of its backend."""

    def replace(name, *, failure=None, driver_is=12080, **state):
        driver(driver_is)
        namespace = fake_namespace(failure)
        library = FAKES[name](two_gpus, namespace, **state)
        library.__version__ = "1.2"
        monkeypatch.setitem(sys.modules, name, library)
        monkeypatch.setitem(sys.modules, f"array_api_compat.{name}", namespace)
        return importlib.import_module(BACKENDS[name])

    return replace


# The reasons


@pytest.mark.parametrize("name", FAKES)
def test_a_library_is_usable_if_every_step_succeeds(install, name):
    devices = ("cuda:0", "cuda:1") if name == "cupy" else ("cpu", "cuda:0", "cuda:1")
    library = install(name)
    assert library.probe("cuda") == library.probe("cuda:1") == Probe(True, "1.2", devices)


CUPY, CUPY13, JAX = (f'pip install "{x}"' for x in ("cupy-cuda12x[ctk]", "cupy-cuda13x[ctk]", "jax[cuda12]"))
DRIVER, NVIDIA_SMI = "install or update the NVIDIA driver: https://www.nvidia.com/drivers", "run nvidia-smi"
TORCH = "pip install --force-reinstall torch, the build for your CUDA version"
NO_BACKEND = RuntimeError("Unknown backend cuda. Available backends are ['cpu']")
NO_NVRTC = RuntimeError("CuPy failed to load libnvrtc.so.12:\n OSError: no such file.")
OLD_KERNELS = RuntimeError("no kernel image is available for execution on the device")
OLD_DRIVER = "CUDA initialization: The NVIDIA driver\n is too old."


@pytest.mark.parametrize(
    ("name", "state", "reason", "fix"),
    [
        ("cupy", {"driver_version": 0}, "there is no NVIDIA driver", DRIVER),
        ("cupy", {"driver_version": 11040}, "supports CUDA 11.4 and this CuPy needs CUDA 12", DRIVER),
        ("cupy", {"built_for": 13000}, "", f"or in place of this CuPy: {CUPY}"),
        ("cupy", {"gpus": CUDARuntimeError(35)}, "the NVIDIA driver is missing or too old", DRIVER),
        ("cupy", {"gpus": CUDARuntimeError(100)}, "the NVIDIA driver sees no GPU", NVIDIA_SMI),
        ("cupy", {"gpus": 0}, "the NVIDIA driver sees no GPU", "CUDA_VISIBLE_DEVICES must not hide it"),
        ("cupy", {"gpus": CUDARuntimeError(802)}, "not ready", "sudo systemctl start nvidia-fabricmanager"),
        ("cupy", {"gpus": CUDARuntimeError(803)}, "library and its kernel module differ", "sudo reboot"),
        ("cupy", {"gpus": CUDARuntimeError(999)}, "an unknown error", "sudo modprobe nvidia_uvm, or restart"),
        ("cupy", {"gpus": CUDARuntimeError(46)}, "CUDA does not start: cudaErrorOfStatus46: descr", DRIVER),
        ("cupy", {"gpus": 1}, "cupy has no cuda:1 here, only cuda:0", "--device cuda:0"),
        ("cupy", {"failure": NO_NVRTC}, "failed: CuPy failed to load libnvrtc.so.12: OSError: no", CUPY),
        (
            "cupy",
            {"failure": OLD_KERNELS, "driver_is": 13000, "driver_version": 13000, "built_for": 13000},
            "kernel",
            CUPY13,
        ),
        ("cupy", {"failure": 11.0}, "a test computation gave 11.0 where 12 is right", CUPY),
        ("torch", {"built": False, "driver_is": None}, "no NVIDIA driver, and torch 1.2 was built w", DRIVER),
        ("torch", {"gpus": 0, "warning": OLD_DRIVER}, "GPU: CUDA initialization: The NVIDIA", NVIDIA_SMI),
        ("torch", {"failure": OLD_KERNELS}, "a test computation failed: no kernel image", TORCH),
        ("jax", {"gpus": NO_BACKEND}, "jax 1.2 sees no GPU: Unknown backend cuda. Available", JAX),
        ("jax", {"gpus": NO_BACKEND, "driver_is": None}, "no NVIDIA driver, and jax 1.2 sees no GPU", DRIVER),
        ("jax", {"failure": OLD_KERNELS}, "a test computation failed: no kernel image", JAX),
    ],
)
def test_the_first_problem_is_reported_with_its_fix(install, name, state, reason, fix):
    library = install(name, **state)
    probe = library.probe("cuda:1")
    assert (probe.usable, probe.version) == (False, "1.2")
    assert reason in probe.reason
    assert fix in probe.fix
    with pytest.raises(BackendError) as caught:
        library.make("cuda:1")
    message = f"the {name} backend cannot run on cuda:1: {probe.reason}; to fix it: {probe.fix}"
    assert str(caught.value) == message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "version", "fix"),
    [
        ("cupy", None, CUPY),
        ("cupy", 13000, CUPY13),
        ("torch", 1, "pip install torch"),
        ("jax", 1, "pip install jax"),
    ],
)
def test_a_missing_library_names_the_command_that_installs_it(monkeypatch, driver, name, version, fix):
    driver(version)
    monkeypatch.setitem(sys.modules, name, None)
    probe = importlib.import_module(BACKENDS[name]).probe("cuda:0")
    assert probe == Probe(False, None, (), f"{name} is not installed", fix)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No lib", name="lib"), "not installed"),
        (ModuleNotFoundError("No other", name="other"), "installed but does not import: No other"),
        (ImportError("libx.so: cannot\nopen."), "installed but does not import: libx.so: cannot open"),
    ],
)
def test_a_damaged_library_is_distinguished_from_a_missing_one(monkeypatch, error, reason):
    monkeypatch.setattr(importlib, "import_module", lambda _: answer(error)())
    assert probing.import_library("lib", "pip install lib") == (f"lib is {reason}", "pip install lib")


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_names_a_device_that_it_has(name):
    module = importlib.import_module(BACKENDS[name])
    with pytest.raises(BackendError, match=f"the {name} backend cannot run on nowhere: .*; to fix it: "):
        module.make("nowhere")


# The driver


def fill(value, status=0):
    """Return a function of the driver that writes to where its first argument points."""

    def call(target, *_):
        if target:
            target._obj.value = value
        return status

    return call


@pytest.mark.parametrize(
    ("platform", "name", "functions", "version"),
    [
        ("linux", "libcuda.so.1", {"cuDriverGetVersion": fill(12040)}, 12040),
        ("win32", "nvcuda.dll", {"cuDriverGetVersion": fill(12040)}, 12040),
        ("linux", "libcuda.so.1", {"cuDriverGetVersion": fill(12040, status=3)}, None),
        ("linux", "libcuda.so.1", {}, None),
        ("linux", "another.so", {}, None),
    ],
)
def test_the_drivers_own_library_tells_its_version(monkeypatch, platform, name, functions, version):
    def load(wanted):
        return answer(SimpleNamespace(**functions) if wanted == name else OSError("no such file"))()

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert probing.cuda_driver_version() == version


@pytest.mark.parametrize(
    ("statuses", "ratio"), [((0, 0, 0), 32), ((100, 0, 0), None), ((0, 101, 0), None), ((0, 0, 1), None)]
)
def test_the_driver_tells_how_slow_float64_is(monkeypatch, statuses, ratio):
    names, values = ("cuInit", "cuDeviceGet", "cuDeviceGetAttribute"), (0, 5, 32)
    library = SimpleNamespace(**dict(zip(names, map(fill, values, statuses), strict=True)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert probing.float64_ratio(0) == ratio


# The second of two GPUs: arrays are computed on it, put there and fetched while it is the current one


@pytest.fixture(params=["cupy", "torch"])
def second_gpu(request, install):
    return install(request.param).make("cuda:1")


def test_the_second_gpu_is_current_within_calls_and_the_scope_of_one_thread(second_gpu, two_gpus):
    two_gpus.log.clear()
    np.testing.assert_array_equal(
        second_gpu.to_host(second_gpu.from_host(np.ones(2))), np.ones(2), strict=True
    )
    second_gpu.synchronize()
    assert (two_gpus.log, two_gpus.current) == ({("upload", 1), ("download", 1), ("wait", 1)}, [0])
    elsewhere = []
    with second_gpu.scope():
        with pytest.raises(ZeroDivisionError), second_gpu.scope():
            raise ZeroDivisionError
        assert two_gpus.current[-1] == 1
        thread = threading.Thread(target=lambda: elsewhere.append(two_gpus.current[-1]))
        thread.start()
        thread.join()
    assert (two_gpus.current, elsewhere) == ([0], [0])


TWO_DEVICES = """
import jax
from networks import pixels
from xpnet import api

host, used, (x, labels) = jax.devices("cpu"), set(), pixels(40, 6, 3)
jax.devices = lambda platform: host
def note(_):
    used.update(device.id for array in jax.live_arrays() for device in array.devices())
for arithmetic in ("reproducible", "native"):
    settings = {"hidden": [], "epochs": 1, "batch_size": 20, "arithmetic": arithmetic, "callback": note}
    model = api.fit(x, labels, backend="jax", device="cuda:1", **settings)
    model.backend, model.device = "jax", "cuda:1"
    model.predict(x)
    note(None)
print(used)
"""


@pytest.mark.slow
@pytest.mark.needs("jax")
def test_jax_computes_on_the_second_device_alone():
    """Two devices on the host take the place of two GPUs."""
    variables = {
        "PYTHONPATH": os.pathsep.join([str(TESTS / "helpers"), str(TESTS.parent)]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    words = [sys.executable, "-c", TWO_DEVICES]
    run = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == ("{1}\n", 0), run.stderr


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
                return Probe(
                    usable, "1.0", (), *(() if usable else (f"{name} lacks {device}", f"mend {name}"))
                )

            def make(device):
                if not probe(device).usable:
                    raise BackendError(probe(device).reason)
                return SimpleNamespace(name=name, device_name=device)

            return SimpleNamespace(probe=probe, make=make)

        monkeypatch.setattr(resolve_module, "_import_backend", library)
        return loaded

    return build


CPUS = {"numpy": "cpu", "torch": "cpu", "jax": "cpu", "array-api-strict": "cpu device1"}
GPUS = {**CPUS, "cupy": "cuda:0 cuda:1", "torch": "cpu cuda:0", "jax": "cpu cuda:0"}
TORCH_GPU = {**CPUS, "torch": "cpu cuda:0"}
JAX_GPU = {**CPUS, "jax": "cpu cuda:0"}
NONE = "cupy lacks cuda:0; torch lacks cuda:0; jax lacks cuda:0"


@pytest.mark.parametrize(
    ("devices", "device", "backend", "name", "used", "reason"),
    [
        (CPUS, "auto", "auto", "numpy", "cpu", NONE),
        (CPUS, "cpu", "auto", "numpy", "cpu", None),
        (CPUS, "device1", "array-api-strict", "array-api-strict", "device1", None),
        (CPUS, "cuda", "auto", "numpy", "cpu", NONE),
        (CPUS, "cuda", "torch", "torch", "cpu", "torch lacks cuda:0"),
        (CPUS, "cuda:7", "jax", "jax", "cpu", "jax lacks cuda:7"),
        (GPUS, "auto", "auto", "cupy", "cuda:0", None),
        (GPUS, "cpu", "auto", "numpy", "cpu", None),
        (GPUS, "cuda:1", "auto", "cupy", "cuda:1", None),
        (GPUS, "auto", "numpy", "numpy", "cpu", None),
        (GPUS, "cuda", "jax", "jax", "cuda:0", None),
        (TORCH_GPU, "auto", "auto", "torch", "cuda:0", None),
        (JAX_GPU, "cuda:0", "auto", "jax", "cuda:0", None),
    ],
)
def test_the_first_backend_that_works_is_used_and_the_cpu_replaces_a_gpu_with_the_reason(
    machine, devices, device, backend, name, used, reason
):
    machine(**devices)
    selection = resolve(device, backend, require_device=reason is None)
    assert (selection.backend.name, selection.backend.device_name) == (name, used)
    assert (selection.device_requested, selection.device_used) == (device, used)
    assert selection.reason == reason
    warning = None
    if reason is not None and device != "auto":
        warning = (
            f"--device {device} is not usable: {reason}; running on the CPU with {name}; to fix it: mend "
        )
        warning += reason.split()[0]
    assert selection.warning == warning


STRICT, LACKING = "array-api-strict", "jax lacks cuda:0; to fix it: mend jax"
ON_CPU = "only on the CPU: use --backend cupy, torch or jax, or --device cpu"
ON_GPU = "only on a GPU: use --backend numpy, torch, jax or array-api-strict, or --device cuda"


@pytest.mark.parametrize(
    ("devices", "device", "backend", "required", "message"),
    [
        (CPUS, "cuda", "numpy", False, f"the numpy backend cannot run on cuda, {ON_CPU}"),
        (CPUS, "cpu", "cupy", False, f"the cupy backend cannot run on cpu, {ON_GPU}"),
        (CPUS, "cuda", "cupy", False, "cupy lacks cuda:0"),
        ({}, "cuda", "torch", False, "torch lacks cpu"),
        (CPUS, "cuda:7", "cupy", True, "cupy lacks cuda:7"),
        (CPUS, "cuda", "jax", True, f"the jax backend cannot run on cuda:0: {LACKING}"),
        (CPUS, "cuda", "auto", True, f"no backend can run on cuda:0: {NONE}; to fix it: mend cupy"),
    ],
)
def test_a_named_backend_is_never_replaced_nor_a_required_gpu(
    machine, devices, device, backend, required, message
):
    machine(**devices)
    with pytest.raises(BackendError) as caught:
        resolve(device, backend, require_device=required)
    assert str(caught.value) == message


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_without_a_driver_no_gpu_library_is_loaded(machine, driver, device):
    loaded = machine(**CPUS)
    driver(None)
    selection = resolve(device)
    assert set(loaded) == {"numpy"}
    assert selection.reason == "there is no NVIDIA driver"
    assert (selection.warning is None) == (device == "auto")


@pytest.mark.parametrize("device", ["cuda:x", "gpu", "cuda:-1", "cuda:", "CPU", "", "cuda:0 ", "device1"])
def test_unknown_devices_and_backends_name_the_known_ones(device):
    with pytest.raises(ConfigError, match=f"unknown device '{device}': expected auto, cpu, cuda or cuda:N"):
        resolve(device, "torch")
    with pytest.raises(ConfigError, match="unknown backend 'tensorflow': expected auto, numpy, cupy, torch"):
        resolve("cpu", "tensorflow")
