"""Without a GPU: every reason why one cannot be used, the choice of a backend, and the second of two GPUs."""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any, Self

import array_api_compat.numpy
import numpy as np
import pytest
from backend_enum import BackendCase
from networks import pixels

from xpnet import api
from xpnet._lib.tree import tree_map
from xpnet.backends import base, cupy, jax, probing, torch
from xpnet.backends.probing import Probe
from xpnet.backends.resolve import BACKENDS, resolve
from xpnet.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).resolve().parents[1]

# The package's attribute of this name is the module; `from ... import resolve` is the function.
resolve_module = importlib.import_module("xpnet.backends.resolve")

CUBLAS_MISSING = ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")
NVRTC_MISSING = RuntimeError("CuPy failed to load libnvrtc.so.12:\n OSError: libnvrtc.so.12: no such file.")
OLD_KERNELS = RuntimeError("no kernel image is available for execution on the device")
NO_SUCH_FILE = OSError("libcuda.so.1: cannot open shared object file")


class FakeNamespace(SimpleNamespace):
    """Computes with NumPy on whatever device; `failure` is what the sum raises or returns."""

    float32 = np.float32

    def __init__(self, failure: Exception | float | None = None) -> None:
        super().__init__(failure=failure)

    def ones(self, shape: tuple[int, ...], *, dtype: Any, device: object) -> Any:
        assert device is not None
        return np.ones(shape, dtype=dtype)

    def sum(self, x: Any) -> Any:
        if isinstance(self.failure, Exception):
            raise self.failure
        return np.sum(x) if self.failure is None else self.failure


class FakeDevice(nullcontext[None]):
    """A GPU that can be made the current one."""

    def __init__(self, name: object, platform: str = "cuda") -> None:
        super().__init__()
        self.id, self.type = name, platform


class CUDARuntimeError(RuntimeError):
    """As CuPy's: carries the status, and its text holds the name and the description."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaErrorOfStatus{status}: described\n over two lines.")
        self.status = status


def answer(value: Any) -> Callable[[], Any]:
    """Return a function that returns the value, or raises it when it is an error."""

    def call() -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Pretend that the driver supports this CUDA version, or that there is no driver."""

    def pretend(version: int | None) -> None:
        for module in (probing, resolve_module):
            monkeypatch.setattr(module, "cuda_driver_version", lambda: version)

    return pretend


@pytest.fixture(autouse=True)
def some_driver(driver: Callable[[int | None], None]) -> None:
    driver(12080)


# CuPy


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a CuPy whose runtime calls answer as told."""

    def install(
        *,
        driver_version: Any = 12080,
        built_for: int = 12090,
        count: Any = 2,
        failure: Exception | float | None = None,
    ) -> None:
        runtime = SimpleNamespace(
            driverGetVersion=answer(driver_version),
            runtimeGetVersion=answer(built_for),
            getDeviceCount=answer(count),
            CUDARuntimeError=CUDARuntimeError,
        )
        cuda = SimpleNamespace(runtime=runtime, Device=FakeDevice)
        module = SimpleNamespace(__version__="14.2.0", cuda=cuda)
        monkeypatch.setitem(sys.modules, "cupy", module)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", FakeNamespace(failure))

    return install


def test_cupy_is_usable_when_every_step_succeeds(fake_cupy: Callable[..., None]) -> None:
    fake_cupy()
    usable = Probe(usable=True, version="14.2.0", devices=("cuda:0", "cuda:1"))
    assert cupy.probe("cuda:1") == usable
    assert cupy.probe("cuda") == usable


@pytest.mark.parametrize(
    ("state", "reason", "fix"),
    [
        ({"driver_version": 0}, "there is no NVIDIA driver", "install or update the NVIDIA"),
        (
            {"driver_version": 11040},
            "the NVIDIA driver supports CUDA 11.4 and this CuPy needs CUDA 12",
            "install or update the NVIDIA driver: https://www.nvidia.com/drivers",
        ),
        (
            {"driver_version": 12080, "built_for": 13000},
            "the NVIDIA driver supports CUDA 12.8 and this CuPy needs CUDA 13",
            'in place of this CuPy: pip install "cupy-cuda12x[ctk]"',
        ),
        ({"driver_version": CUDARuntimeError(35)}, "missing or too old", "install or update"),
        ({"count": CUDARuntimeError(35)}, "missing or too old", "install or update"),
        ({"count": CUDARuntimeError(100)}, "the NVIDIA driver sees no GPU", "nvidia-smi"),
        ({"count": 0}, "the NVIDIA driver sees no GPU", "CUDA_VISIBLE_DEVICES"),
        ({"count": CUDARuntimeError(802)}, "not ready", "systemctl start nvidia-fabricmanager"),
        ({"count": CUDARuntimeError(803)}, "differ in version", "sudo reboot"),
        ({"count": CUDARuntimeError(999)}, "an unknown error", "modprobe nvidia_uvm"),
        (
            {"count": CUDARuntimeError(46)},
            "CUDA does not start: cudaErrorOfStatus46: described over two lines",
            "install or update",
        ),
        (
            {"failure": CUBLAS_MISSING},
            "a test computation failed: libcublas.so.12: cannot open shared object file",
            'pip install "cupy-cuda12x[ctk]"',
        ),
        (
            {"failure": NVRTC_MISSING, "driver_version": 13000, "built_for": 13000},
            "a test computation failed: CuPy failed to load libnvrtc.so.12: OSError",
            'pip install "cupy-cuda13x[ctk]"',
        ),
        ({"failure": 11.0}, "a test computation gave 11.0 where 12 is right", "cupy-cuda12x"),
    ],
)
def test_cupy_keeps_the_first_reason(
    fake_cupy: Callable[..., None], state: dict[str, Any], reason: str, fix: str
) -> None:
    fake_cupy(**state)
    found = cupy.probe("cuda:0")
    assert not found.usable
    assert found.version == "14.2.0"
    assert reason in (found.reason or "")
    assert fix in (found.fix or "")
    assert "\n" not in f"{found.reason}{found.fix}"


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (1, "cupy has no cuda:7 here: it sees 1 GPU (cuda:0)"),
        (2, "cupy has no cuda:7 here: it sees 2 GPUs (cuda:0, cuda:1)"),
    ],
)
def test_cupy_says_how_many_gpus_there_are(fake_cupy: Callable[..., None], count: int, reason: str) -> None:
    fake_cupy(count=count)
    found = cupy.probe("cuda:7")
    assert (found.usable, found.reason, found.fix) == (False, reason, "--device cuda:0")
    assert len(found.devices) == count


def test_cupy_has_no_cpu(fake_cupy: Callable[..., None]) -> None:
    fake_cupy()
    found = cupy.probe("cpu")
    assert (found.usable, found.reason) == (False, "cupy runs on CUDA GPUs only")


def test_cupy_make_raises_the_reason_and_the_fix_on_one_line(
    fake_cupy: Callable[..., None],
) -> None:
    fake_cupy(count=CUDARuntimeError(803))
    with pytest.raises(BackendError) as caught:
        cupy.make("cuda:0")
    assert str(caught.value) == (
        "the cupy backend cannot run on cuda:0: the NVIDIA driver's library and its kernel module "
        "differ in version; to fix it: restart the machine: sudo reboot"
    )


@pytest.mark.parametrize(("driver_version", "wheel"), [(None, "12x"), (12080, "12x"), (13000, "13x")])
def test_missing_cupy_names_the_wheel_for_the_driver(
    monkeypatch: pytest.MonkeyPatch,
    driver: Callable[[int | None], None],
    driver_version: int | None,
    wheel: str,
) -> None:
    driver(driver_version)
    monkeypatch.setitem(sys.modules, "cupy", None)
    found = cupy.probe("cuda:0")
    assert found == Probe(
        usable=False,
        version=None,
        devices=(),
        reason="cupy is not installed",
        fix=f'pip install "cupy-cuda{wheel}[ctk]"',
    )


def test_installed_cupy_without_a_gpu_gives_its_real_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    library = pytest.importorskip("cupy", reason="cupy is not installed")
    if library.cuda.is_available():
        pytest.skip("there is a GPU")
    found = cupy.probe("cuda:0")
    assert not found.usable
    assert found.version == library.__version__
    assert "NVIDIA driver" in (found.reason or "")
    assert found.fix


# The second of two GPUs: what is computed on it, put there and fetched, while it is the current one


class Devices(threading.local):
    """The current devices of a thread, the inner one last, and what was done on which."""

    def __init__(self, log: set[tuple[str, int]]) -> None:
        self.current, self.log = [0], log

    def note(self, what: str) -> None:
        self.log.add((what, self.current[-1]))

    @contextmanager
    def entered(self, index: int) -> Iterator[None]:
        self.current.append(index)
        try:
            yield
        finally:
            assert self.current.pop() == index


class GPUArray(np.ndarray):
    """An array on the GPU that was the current one when it was made; only there can it be used."""

    devices: Devices

    def __array_finalize__(self, source: Any) -> None:
        self.home = source.home if isinstance(source, GPUArray) else self.devices.current[-1]

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.computed(getattr(ufunc, method), args, kwargs)

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return self.computed(function, args, kwargs)

    def computed(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.devices.note("compute")

        def plain(leaf: Any) -> Any:
            if not isinstance(leaf, GPUArray):
                return leaf
            assert leaf.home == self.devices.current[-1], "an array of another GPU"
            return leaf.view(np.ndarray)

        found = function(*tree_map(plain, args), **tree_map(plain, kwargs))
        return tree_map(lambda leaf: np.asarray(leaf).view(GPUArray), found)


@pytest.fixture
def log() -> set[tuple[str, int]]:
    return set()


def two_gpu_cupy(devices: Devices) -> Any:
    """A CuPy with two GPUs, which leaves the computing to NumPy."""

    class Device:
        def __init__(self, index: int) -> None:
            self.id = index
            self.entries: list[Any] = []

        def __enter__(self) -> Self:
            self.entries.append(devices.entered(self.id))
            self.entries[-1].__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.entries.pop().__exit__(None, None, None)

        def synchronize(self) -> None:
            devices.note("wait")

    def asarray(array: Any) -> Any:
        devices.note("upload")
        return array.copy().view(GPUArray)

    def asnumpy(array: Any) -> Any:
        if not isinstance(array, GPUArray):  # the host's: its namespace has the same name here
            return array
        devices.note("download")
        assert array.home == devices.current[-1], "an array of another GPU"
        return np.array(array.view(np.ndarray))

    runtime = SimpleNamespace(
        driverGetVersion=answer(13000),
        runtimeGetVersion=answer(13000),
        getDeviceCount=answer(2),
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda = SimpleNamespace(runtime=runtime, Device=Device)
    return SimpleNamespace(__version__="14.2.0", cuda=cuda, asarray=asarray, asnumpy=asnumpy)


def two_gpu_namespace(devices: Devices) -> ModuleType:
    """NumPy's namespace, which puts new arrays on the current GPU, whatever device it is asked for."""

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, device: Any = None, **kwargs: Any) -> Any:
            devices.note("compute")
            return np.asarray(function(*args, **kwargs)).view(GPUArray)

        return call

    namespace = ModuleType(array_api_compat.numpy.__name__)
    namespace.__dict__.update(vars(array_api_compat.numpy))
    for name in ("arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"):
        setattr(namespace, name, made(getattr(np, name)))
    return namespace


def two_gpu_torch(devices: Devices) -> Any:
    """A PyTorch with two GPUs, which uploads, downloads and waits."""

    def asarray(array: Any, *, device: Any) -> Any:
        devices.note("upload")

        def numpy(*, force: bool) -> Any:
            assert force
            devices.note("download")
            return array

        return SimpleNamespace(numpy=numpy)

    cuda = SimpleNamespace(
        device=lambda device: devices.entered(device.index),
        synchronize=lambda device: devices.log.add(("wait", device.index)),
    )
    return SimpleNamespace(
        asarray=asarray,
        device=lambda name: SimpleNamespace(type=name.partition(":")[0], index=int(name[-1])),
        no_grad=nullcontext,
        cuda=cuda,
    )


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, log: set[tuple[str, int]]) -> Devices:
    devices = Devices(log)
    monkeypatch.setattr(GPUArray, "devices", devices, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", two_gpu_cupy(devices))
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", two_gpu_namespace(devices))
    monkeypatch.setitem(sys.modules, "torch", two_gpu_torch(devices))
    monkeypatch.setitem(sys.modules, "array_api_compat.torch", FakeNamespace())
    return devices


@pytest.fixture(params=["cupy", "torch"])
def second_gpu(request: pytest.FixtureRequest, two_gpus: Devices) -> base.Backend:
    if request.param == "cupy":
        return cupy.CuPyBackend("cuda:1", "14.2.0")
    return torch.TorchBackend("cuda:1", "2.13.0")


def test_arrays_go_to_the_second_gpu_and_come_back_while_it_is_current(
    second_gpu: base.Backend, two_gpus: Devices, log: set[tuple[str, int]]
) -> None:
    host = second_gpu.to_host(second_gpu.from_host(np.ones(2)))
    second_gpu.synchronize()
    assert log == {("upload", 1), ("download", 1), ("wait", 1)}
    assert two_gpus.current == [0]
    np.testing.assert_array_equal(host, np.ones(2), strict=True)


def test_the_scope_makes_the_second_gpu_current_however_often_it_is_entered(
    second_gpu: base.Backend, two_gpus: Devices
) -> None:
    with second_gpu.scope():
        with second_gpu.scope():
            assert two_gpus.current[-1] == 1
        assert two_gpus.current[-1] == 1
        with pytest.raises(ZeroDivisionError), second_gpu.scope():
            raise ZeroDivisionError
        assert two_gpus.current[-1] == 1
    assert two_gpus.current == [0]


def test_the_scope_is_that_of_the_thread_which_enters_it(second_gpu: base.Backend, two_gpus: Devices) -> None:
    seen: list[int] = []

    def other() -> None:
        seen.append(two_gpus.current[-1])
        with second_gpu.scope():
            seen.append(two_gpus.current[-1])
        seen.append(two_gpus.current[-1])

    with second_gpu.scope():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [0, 1, 0]


@pytest.mark.parametrize("batch_size", ["full", 50])
@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_a_network_is_trained_and_used_on_the_second_gpu_alone(
    two_gpus: Devices, log: set[tuple[str, int]], batch_size: str | int, arithmetic: str
) -> None:
    x, labels = pixels(1300, 20, 5)  # one block and a short one
    settings = {"epochs": 2, "batch_size": batch_size, "arithmetic": arithmetic, "classes": 5}
    model = api.fit(x, labels, backend="cupy", device="cuda:1", **settings)
    model.device, model.backend = "cuda:1", "cupy"
    probabilities = model.predict_proba(x)
    assert {index for _, index in log} == {1}
    assert {what for what, _ in log} >= {"upload", "compute", "download"}
    assert two_gpus.current == [0]
    expected = api.fit(x, labels, backend="numpy", device="cpu", **settings)
    if arithmetic == "reproducible":
        assert model.fingerprint == expected.fingerprint
    np.testing.assert_allclose(probabilities, expected.predict_proba(x), rtol=1e-4)


@pytest.mark.needs("jax")
def test_jax_computes_on_the_second_device_alone() -> None:
    """Here the host as two devices stands for two GPUs."""
    program = (
        "import numpy as np, jax\n"
        "from networks import pixels\n"
        "from xpnet import api\n"
        "from xpnet.backends import jax as ours\n"
        "second = jax.devices('cpu')[1]\n"
        "ours._find_device = lambda jax, name: second\n"
        "places = set()\n"
        "def look(_):\n"
        "    places.update(d.id for a in jax.live_arrays() for d in a.devices())\n"
        "x, labels = pixels(100, 20, 5)\n"
        "for arithmetic in ('reproducible', 'native'):\n"
        "    model = api.fit(x, labels, backend='jax', device='cpu', epochs=1, batch_size=50,\n"
        "                    arithmetic=arithmetic, callback=look)\n"
        "    model.backend, model.device = 'jax', 'cpu'\n"
        "    model.predict(x); look(None)\n"
        "print(places)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS / "helpers"), str(TESTS.parent)]),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("{1}\n", 0), run.stderr


# Importing a library


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'lib'", name="lib"), "lib is not installed"),
        (
            ModuleNotFoundError("No module named 'other'", name="other"),
            "lib is installed but does not import: No module named 'other'",
        ),
        (
            ImportError("libcudart.so.12: cannot open\nshared object file."),
            "lib is installed but does not import: libcudart.so.12: cannot open shared object file",
        ),
        (OSError(), "lib is installed but does not import: OSError"),
    ],
)
def test_import_failure_is_told_apart(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    assert probing.import_library("lib", "pip install lib") == (reason, "pip install lib")


# The driver


@pytest.mark.parametrize(("platform", "library"), [("linux", "libcuda.so.1"), ("win32", "nvcuda.dll")])
def test_driver_version_comes_from_the_drivers_own_library(
    monkeypatch: pytest.MonkeyPatch, platform: str, library: str
) -> None:
    def version_call(pointer: Any) -> int:
        pointer._obj.value = 12040
        return 0

    def load(name: str) -> SimpleNamespace:
        assert name == library
        return SimpleNamespace(cuDriverGetVersion=version_call)

    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert probing.cuda_driver_version() == 12040


@pytest.mark.parametrize(
    "library",
    [NO_SUCH_FILE, SimpleNamespace(), SimpleNamespace(cuDriverGetVersion=lambda _: 3)],
    ids=["no library", "a library without the function", "a failing call"],
)
def test_no_driver_is_none(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: answer(library)())
    assert probing.cuda_driver_version() is None


# PyTorch


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(
        *,
        built: bool = True,
        available: Callable[[], bool] = lambda: True,
        count: int = 2,
        failure: Exception | float | None = None,
    ) -> None:
        module = SimpleNamespace(
            __version__="2.13.0",
            backends=SimpleNamespace(cuda=SimpleNamespace(is_built=answer(built))),
            cuda=SimpleNamespace(
                is_available=available, device_count=answer(count), device=lambda device: device
            ),
            device=FakeDevice,
            no_grad=nullcontext,
        )
        monkeypatch.setitem(sys.modules, "torch", module)
        monkeypatch.setitem(sys.modules, "array_api_compat.torch", FakeNamespace(failure))

    return install


def warn_of_an_old_driver() -> bool:
    warnings.warn("CUDA initialization: The NVIDIA driver\n is too old.", stacklevel=1)
    return False


def test_torch_is_usable_when_every_step_succeeds(fake_torch: Callable[..., None]) -> None:
    fake_torch()
    assert torch.probe("cuda") == Probe(usable=True, version="2.13.0", devices=("cpu", "cuda:0", "cuda:1"))


@pytest.mark.parametrize(
    ("state", "reason", "fix"),
    [
        (
            {"built": False},
            "torch 2.13.0 was built without CUDA",
            "the build for your CUDA version",
        ),
        ({"available": lambda: False}, "torch 2.13.0 sees no usable GPU", "nvidia-smi"),
        (
            {"available": warn_of_an_old_driver},
            "torch 2.13.0 sees no usable GPU: CUDA initialization: The NVIDIA driver is too old",
            "nvidia-smi",
        ),
        ({"count": 1}, "torch has no cuda:1 here: it sees 1 GPU (cuda:0)", "--device cuda:0"),
        (
            {"failure": OLD_KERNELS},
            "a test computation failed: no kernel image is available for execution on the device",
            "pip install --force-reinstall torch",
        ),
    ],
)
def test_torch_keeps_the_first_reason(
    fake_torch: Callable[..., None], state: dict[str, Any], reason: str, fix: str
) -> None:
    fake_torch(**state)
    found = torch.probe("cuda:1")
    assert (found.usable, found.version, found.reason) == (False, "2.13.0", reason)
    assert fix in (found.fix or "")


def test_torch_without_cuda_on_a_machine_without_a_driver_blames_the_driver_first(
    fake_torch: Callable[..., None], driver: Callable[[int | None], None]
) -> None:
    fake_torch(built=False)
    driver(None)
    found = torch.probe("cuda")
    assert found.reason == ("there is no NVIDIA driver, and torch 2.13.0 was built without CUDA")
    assert (found.fix or "").startswith("install or update the NVIDIA driver")


@pytest.mark.parametrize(("name", "library"), [("torch", torch), ("jax", jax)])
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, name: str, library: Any) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    for device in ("cpu", "cuda:0"):
        assert library.probe(device) == Probe(
            usable=False,
            version=None,
            devices=(),
            reason=f"{name} is not installed",
            fix=f"pip install {name}",
        )


@pytest.mark.parametrize("case", [BackendCase.TORCH_CUDA, BackendCase.JAX_CUDA])
def test_installed_library_without_a_gpu_gives_its_real_reason(
    monkeypatch: pytest.MonkeyPatch, case: BackendCase
) -> None:
    monkeypatch.undo()
    found = case.probe()
    if found.usable or found.version is None:
        pytest.skip(found.reason or "there is a GPU")
    assert found.devices[:1] == ("cpu",)
    assert case.backend_name in (found.reason or "")
    assert found.fix


# JAX


@pytest.fixture
def fake_jax(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(*, gpus: Any = ("GPU 0", "GPU 1"), failure: Any = None) -> None:
        def devices(platform: str) -> Any:
            return ["CPU"] if platform == "cpu" else answer(gpus)()

        module = SimpleNamespace(
            __version__="0.10.2",
            devices=devices,
            numpy=FakeNamespace(failure),
            enable_x64=lambda *, new_val: nullcontext(new_val),
            default_matmul_precision=nullcontext,
            default_device=nullcontext,
        )
        monkeypatch.setitem(sys.modules, "jax", module)

    return install


def test_jax_is_usable_when_every_step_succeeds(fake_jax: Callable[..., None]) -> None:
    fake_jax()
    assert jax.probe("cuda:1") == Probe(usable=True, version="0.10.2", devices=("cpu", "cuda:0", "cuda:1"))


@pytest.mark.parametrize(
    ("state", "reason", "fix"),
    [
        (
            {"gpus": RuntimeError("Unknown backend cuda. Available backends are ['cpu']")},
            "jax 0.10.2 sees no GPU: Unknown backend cuda. Available backends are ['cpu']",
            'pip install "jax[cuda12]"',
        ),
        (
            {"gpus": ("GPU 0",)},
            "jax has no cuda:1 here: it sees 1 GPU (cuda:0)",
            "--device cuda:0",
        ),
        (
            {"failure": OLD_KERNELS},
            "a test computation failed: no kernel image is available for execution on the device",
            'pip install "jax[cuda12]"',
        ),
    ],
)
def test_jax_keeps_the_first_reason(
    fake_jax: Callable[..., None], state: dict[str, Any], reason: str, fix: str
) -> None:
    fake_jax(**state)
    found = jax.probe("cuda:1")
    assert (found.usable, found.version, found.reason, found.fix) == (False, "0.10.2", reason, fix)


# The choice of a backend: `world` says which devices each library can use


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replace the libraries; return the list of those that are then loaded."""

    def build(**devices: str) -> list[str]:
        loaded: list[str] = []

        def library(name: str) -> SimpleNamespace:
            loaded.append(name)
            offered = tuple(devices.get(name, "").split())

            def find(device: str) -> Probe:
                usable = device in offered
                reason = None if usable else f"{name} lacks {device}"
                fix = None if usable else f"mend {name}"
                return Probe(usable, "1.0", offered, reason, fix)

            def make(device: str) -> SimpleNamespace:
                probing.check_usable(name, device, find(device))
                return SimpleNamespace(name=name, device_name=device)

            return SimpleNamespace(probe=find, make=make)

        monkeypatch.setattr(resolve_module, "_import_backend", library)
        return loaded

    return build


CPUS = {"numpy": "cpu", "torch": "cpu", "jax": "cpu", "array-api-strict": "cpu device1"}
GPUS = {**CPUS, "cupy": "cuda:0 cuda:1", "torch": "cpu cuda:0", "jax": "cpu cuda:0"}
TORCH_GPU = {**CPUS, "torch": "cpu cuda:0"}
JAX_GPU = {**CPUS, "jax": "cpu cuda:0"}

GPU_WANTED = "only on the CPU: use --backend cupy, torch or jax, or --device cpu"
CPU_WANTED = "only on a GPU: use --backend numpy, torch, jax or array-api-strict, or --device cuda"


@pytest.mark.parametrize(
    ("machine", "device", "backend", "chosen", "used"),
    [
        (CPUS, "auto", "auto", "numpy", "cpu"),
        (CPUS, "cpu", "auto", "numpy", "cpu"),
        (CPUS, "cpu", "torch", "torch", "cpu"),
        (CPUS, "cpu", "array-api-strict", "array-api-strict", "cpu"),
        (CPUS, "device1", "array-api-strict", "array-api-strict", "device1"),
        (CPUS, "auto", "jax", "jax", "cpu"),
        (GPUS, "auto", "auto", "cupy", "cuda:0"),
        (GPUS, "cpu", "auto", "numpy", "cpu"),
        (GPUS, "cuda", "auto", "cupy", "cuda:0"),
        (GPUS, "cuda:1", "auto", "cupy", "cuda:1"),
        (GPUS, "auto", "numpy", "numpy", "cpu"),
        (GPUS, "auto", "array-api-strict", "array-api-strict", "cpu"),
        (GPUS, "auto", "cupy", "cupy", "cuda:0"),
        (GPUS, "auto", "torch", "torch", "cuda:0"),
        (GPUS, "cuda", "jax", "jax", "cuda:0"),
        (TORCH_GPU, "auto", "auto", "torch", "cuda:0"),
        (JAX_GPU, "cuda:0", "auto", "jax", "cuda:0"),
    ],
)
def test_choice(
    *,
    world: Callable[..., list[str]],
    machine: dict[str, str],
    device: str,
    backend: str,
    chosen: str,
    used: str,
) -> None:
    world(**machine)
    selection = resolve(device, backend)
    assert selection.backend.name == chosen
    assert selection.backend.device_name == selection.device_used == used
    assert selection.device_requested == device
    assert selection.warning is None


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_named_backend_falls_back_to_its_own_cpu_with_a_warning(
    world: Callable[..., list[str]], backend: str, device: str
) -> None:
    world(**CPUS)
    selection = resolve(device, backend)
    index = "cuda:7" if device == "cuda:7" else "cuda:0"
    assert (selection.backend.name, selection.device_used) == (backend, "cpu")
    assert selection.device_requested == device
    assert selection.reason == f"{backend} lacks {index}"
    assert selection.warning == (
        f"--device {device} is not usable: {backend} lacks {index}; "
        f"running on the CPU with {backend}; to fix it: mend {backend}"
    )


def test_cuda_falls_back_to_numpy_with_the_reasons_of_all_and_the_fix_of_the_first(
    world: Callable[..., list[str]],
) -> None:
    world(**CPUS)
    selection = resolve("cuda")
    assert (selection.backend.name, selection.device_used) == ("numpy", "cpu")
    assert selection.reason == "cupy lacks cuda:0; torch lacks cuda:0; jax lacks cuda:0"
    assert (selection.warning or "").endswith("with numpy; to fix it: mend cupy")


def test_auto_says_why_it_is_not_a_gpu_without_a_warning(
    world: Callable[..., list[str]],
) -> None:
    world(**CPUS)
    selection = resolve("auto")
    assert selection.reason == "cupy lacks cuda:0; torch lacks cuda:0; jax lacks cuda:0"
    assert selection.warning is None
    assert resolve("auto", "torch").reason == "torch lacks cuda:0"
    assert resolve("auto", "numpy").reason is None
    assert resolve("cpu").reason is None


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_without_a_driver_no_gpu_library_is_loaded(
    world: Callable[..., list[str]], driver: Callable[[int | None], None], device: str
) -> None:
    loaded = world(**CPUS)
    driver(None)
    selection = resolve(device)
    assert set(loaded) == {"numpy"}
    assert selection.reason == "there is no NVIDIA driver"
    assert (selection.warning is None) == (device == "auto")


def test_without_a_driver_auto_imports_no_gpu_library() -> None:
    program = (
        "import sys, importlib\n"
        "module = importlib.import_module('xpnet.backends.resolve')\n"
        "module.cuda_driver_version = lambda: None\n"
        "assert module.resolve('auto').backend.name == 'numpy'\n"
        "print(sorted({'cupy', 'jax', 'torch', 'array_api_strict'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("device", "backend", "message"),
    [
        ("cuda", "numpy", f"the numpy backend cannot run on cuda, {GPU_WANTED}"),
        (
            "cuda:0",
            "array-api-strict",
            f"the array-api-strict backend cannot run on cuda:0, {GPU_WANTED}",
        ),
        ("cpu", "cupy", f"the cupy backend cannot run on cpu, {CPU_WANTED}"),
        (
            "auto",
            "cupy",
            "the cupy backend cannot run on cuda:0: cupy lacks cuda:0; to fix it: mend cupy",
        ),
        (
            "cuda",
            "cupy",
            "the cupy backend cannot run on cuda:0: cupy lacks cuda:0; to fix it: mend cupy",
        ),
    ],
)
def test_a_named_backend_is_never_replaced(
    world: Callable[..., list[str]], device: str, backend: str, message: str
) -> None:
    world(**CPUS)
    with pytest.raises(BackendError) as caught:
        resolve(device, backend)
    assert str(caught.value) == message


@pytest.mark.parametrize("backend", ["auto", "torch", "jax", "cupy"])
def test_a_required_device_that_is_not_usable_is_an_error(
    world: Callable[..., list[str]], backend: str
) -> None:
    world(**CPUS)
    with pytest.raises(BackendError, match=r"cuda:7: .*lacks cuda:7.*; to fix it: mend"):
        resolve("cuda:7", backend, require_device=True)


def test_a_required_device_that_is_usable_is_used(world: Callable[..., list[str]]) -> None:
    world(**GPUS)
    assert resolve("cuda:1", require_device=True).device_used == "cuda:1"
    assert resolve("cpu", require_device=True).device_used == "cpu"


def test_a_library_that_is_missing_is_an_error_when_named(
    world: Callable[..., list[str]],
) -> None:
    world(numpy="cpu")
    for device in ("cpu", "auto", "cuda"):
        with pytest.raises(BackendError, match="cannot run on cpu: torch lacks cpu; to fix it"):
            resolve(device, "torch")


@pytest.mark.parametrize("device", ["cuda:x", "gpu", "cuda:-1", "cuda:", "CPU", "", "cuda:0 "])
@pytest.mark.parametrize("backend", ["auto", "torch", "array-api-strict"])
def test_an_unknown_device_names_the_allowed_ones(device: str, backend: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown device .*: expected auto, cpu, cuda or cuda:N"):
        resolve(device, backend)


def test_a_pretended_device_is_for_array_api_strict_alone() -> None:
    with pytest.raises(ConfigError, match="unknown device 'device1'"):
        resolve("device1", "numpy")


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'tensorflow': expected auto, numpy"):
        resolve("cpu", "tensorflow")


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_file_probes_and_makes(name: str) -> None:
    module = importlib.import_module(BACKENDS[name])
    with pytest.raises(BackendError, match=f"the {name} backend cannot run on nowhere: .*; to fix"):
        module.make("nowhere")


@pytest.mark.parametrize(
    ("statuses", "ratio"),
    [((0, 0, 0), 32), ((100, 0, 0), None), ((0, 101, 0), None), ((0, 0, 1), None)],
)
def test_the_driver_tells_how_slow_float64_is(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, int, int], ratio: int | None
) -> None:
    def fill(value: int, status: int) -> Callable[..., int]:
        def call(target: Any, *_: Any) -> int:
            if target:
                target._obj.value = value
            return status

        return call

    library = SimpleNamespace(
        cuInit=fill(0, statuses[0]),
        cuDeviceGet=fill(5, statuses[1]),
        cuDeviceGetAttribute=fill(32, statuses[2]),
    )
    monkeypatch.setattr(probing, "_load_driver", lambda: library)
    assert probing.float64_ratio(0) == ratio
