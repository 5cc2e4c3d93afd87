"""CuPy on the emulated device: its runtime redirected, its kernels compiled by g++."""

import ctypes
import glob
import hashlib
import importlib
import importlib.util
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from xpnet._lib.switches import read_switch
from xpnet.errors import BackendError

VARIABLE = "XPNET_EMULATED_CUDA"
WHEEL = "cupy-cuda12x"
VERSION = "14.2.0"
"""The one version whose internals are known here."""
OTHER_WHEELS = ("cupy", "cupy-cuda11x", "cupy-cuda13x", "cupy-rocm-6-1", "cupy-rocm-7-0")
"""They install the same package: which of them is imported cannot be told."""
CARDS = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Devices of NVIDIA's driver, on Linux and on Linux within Windows."""
HERE = Path(__file__).resolve().parent
CUDA = HERE / "cuda"
LIBRARY = ["g++", "-std=c++17", "-march=native", "-shared", "-fPIC"]
KERNEL = ["-O2", "-ffp-contract=fast", "-fvisibility=hidden", "-fno-math-errno", "-fpermissive", "-w"]
"""Products and sums in one expression of a kernel are fused, as NVRTC may fuse them by default."""
INCLUDE = (f"-I{CUDA}", f"-I{CUDA}/include")
KINDS = ("kernels", "products", "uploads", "downloads", "copies", "synchronizations")
_drivers: list[ctypes.CDLL] = []
"""The driver, once the device is installed."""
SHARED_ARRAY = re.compile(r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];")
KERNEL_NAME = re.compile(r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\([^)]*\)\s+)?void\s+(\w+)\s*\(')


def install() -> None:
    """Make the emulated device the GPU of CuPy, not yet imported; BackendError if that is not possible.

    It holds for the process, in which a second call does nothing.
    """
    if is_installed():
        return
    check()
    if "cupy" in sys.modules:
        msg = "cupy is imported already: install the emulated device before"
        raise BackendError(msg)
    driver = ctypes.CDLL(str(build_driver()), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(build_cublas()), ctypes.RTLD_GLOBAL)
    redirect(driver)
    os.environ["CUPY_ACCELERATORS"] = ""  # else reductions are CUB's, in machine code of a GPU
    cupy = importlib.import_module("cupy")
    now = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_LAZY)  # as most functions of cuBLAS are missing
    importlib.import_module("cupy_backends.cuda.libs.cublas")  # CuPy would look for libcublasLt too
    sys.setdlopenflags(now)
    _import("cupy.cuda.compiler")._compile_module_with_cache = compile_module
    fill_memory(cupy)
    _drivers.append(driver)


def is_installed() -> bool:
    """Return whether CuPy's GPU is the emulated device in this process."""
    return bool(_drivers)


def describe() -> str:
    """Return a line that says what CuPy computes on."""
    return f"CuPy {VERSION} on an emulated device"


def read_counts() -> dict[str, int]:
    """Return how many of each of ``KINDS`` the host has asked of the device, copies being those within it."""
    numbers = (ctypes.c_uint64 * len(KINDS))()
    for driver in _drivers:
        driver.emulated_counts(numbers)
    return dict(zip(KINDS, numbers, strict=True))


def is_forced() -> bool:
    """Return whether the environment asks for the emulated device beside a card, too."""
    return os.environ.get(VARIABLE, "").lower() == "force"


def is_requested() -> bool:
    """Return whether the environment asks for the emulated device; ConfigError for an unknown word."""
    return is_forced() or read_switch(VARIABLE)


def check() -> None:
    """Raise BackendError where the emulated device cannot be installed."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        msg = f"the emulated device needs Linux on x86-64, not {sys.platform} on {platform.machine()}"
        raise BackendError(msg)
    cards = [card for pattern in CARDS for card in sorted(glob.glob(pattern))]  # noqa: PTH207
    if cards and not is_forced():
        msg = f"{cards[0]} is a CUDA device: use it, or set {VARIABLE}=force to emulate one nevertheless"
        raise BackendError(msg)
    version = find_version(WHEEL)
    if version != VERSION:
        fix = f"pip install {WHEEL}=={VERSION}"
        msg = f"the emulated device knows {WHEEL} {VERSION} alone, but found {version}: {fix}"
        raise BackendError(msg)
    if others := [name for name in OTHER_WHEELS if find_version(name) != "none"]:
        fix = f"pip uninstall {others[0]} {WHEEL}; pip install {WHEEL}=={VERSION}"
        msg = f"{others[0]} is installed beside {WHEEL}: {fix}"
        raise BackendError(msg)
    if shutil.which("g++") is None:
        msg = "g++ is not on the PATH: install it, for example with apt install g++"
        raise BackendError(msg)


def find_version(wheel: str) -> str:
    """Return the version of an installed wheel, or "none"."""
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return "none"


def redirect(driver: ctypes.CDLL) -> None:
    """Make the functions of the CUDA runtime that is part of CuPy jump to those of the driver.

    The jumps are written over the machine code in this process's memory; the file stays as it is.
    """
    module = _find("cupy_backends.cuda.api.runtime")
    loaded, libc = ctypes.CDLL(module), ctypes.CDLL(None)  # Python will find the module loaded
    words = ["nm", module]
    symbols = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    addresses = {name: int(x, 16) for x, name in re.findall(r"^(\w+) \w (\w+)", symbols, re.MULTILINE)}
    base = address_of(loaded.PyInit_runtime) - addresses["PyInit_runtime"]
    for name, address in addresses.items():
        if re.fullmatch(r"cuda[A-Z]\w*", name):
            target = address_of(getattr(driver, name, driver.emulated_unsupported))
            jump = b"\x48\xb8" + struct.pack("<Q", target) + b"\xff\xe0"  # mov rax, target; jmp rax
            page = (base + address) & ~4095
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(8192), 7):
                msg = "the system refuses to change machine code in memory: allow it, or use another machine"
                raise BackendError(msg)
            ctypes.memmove(base + address, jump, len(jump))


def _import(name: str) -> Any:
    return importlib.import_module(name)


def _find(name: str) -> str:
    """Return the file of a module."""
    spec = importlib.util.find_spec(name)
    return str(spec.origin) if spec else ""


def address_of(function: Any) -> int:
    """Return the address of a function of a library."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def compile_module(source: str, options: tuple[str, ...] = (), **_: object) -> Any:
    """Take the place of CuPy's function that calls NVRTC: return a module of g++'s kernels."""
    module = importlib.import_module("cupy.cuda.function").Module()
    module.load(b"EMULATED:" + os.fsencode(build_kernels(source, options)) + b"\0")
    module._set_mapping(None)
    return module


def fill_memory(cupy: Any) -> None:
    """Fill whatever the memory pool gives out with the bits of NaN, in the order of the stream.

    CuPy asks for it thread by thread: in other threads than this one, only memory new to the pool is filled.
    """

    class Fill(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "fill"

        def malloc_postprocess(self, *, mem_ptr: int, mem_size: int, **_: object) -> None:
            stream = cupy.cuda.get_current_stream()
            cupy.cuda.runtime.memsetAsync(mem_ptr, 0xFF, mem_size, stream.ptr)

    Fill().__enter__()  # for as long as the process lasts


@cache
def cache_folder() -> Path:
    """Return the folder of what is compiled, whose name has the digest of the sources and the processor."""
    sources = sorted(file for file in HERE.rglob("*.*") if file.suffix in {".py", ".h", ".cpp", ".cuh"})
    processor = Path("/proc/cpuinfo").read_bytes().partition(b"flags")[2].partition(b"\n")[0]
    digest = hashlib.sha256(b"".join([processor, *(file.read_bytes() for file in sources)]))
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "xpnet-emulated-cuda" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_driver() -> Path:
    """Return the path of libcuda.so.1, the CUDA driver and runtime."""
    flags = ("-O1", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1", CUDA / "driver.cpp")
    return _build(cache_folder() / "libcuda.so.1", flags)


def build_cublas() -> Path:
    """Return the path of libcublas.so.12, whose symbols have the version that CuPy asks for."""
    flags = (
        "-O3",
        "-fvisibility=hidden",
        "-Wl,-soname,libcublas.so.12,--default-symver",
        CUDA / "cublas.cpp",
    )
    return _build(cache_folder() / "libcublas.so.12", (*flags, f"-L{cache_folder()}", "-l:libcuda.so.1"))


def build_kernels(source: str, options: Sequence[str]) -> Path:
    """Return the path of a library of the kernels in a CUDA source, with the options of NVRTC."""
    digest = hashlib.sha256(repr((source, options)).encode()).hexdigest()[:24]
    is_loop = "CUPY_FOR" in source and not re.search(r"\bthreadIdx\b|__sync", source)
    kept = [x for x in options if x.startswith("-D") or x.endswith("_core/include")]
    kernels = (f"EMULATED_KERNEL({name})" for name in KERNEL_NAME.findall(source))
    kinds = {"EMULATED_FIBERS": not is_loop, "EMULATED_GRID": "wait_for_all((" in source}
    head = [f"#define {kind}" for kind, is_meant in kinds.items() if is_meant]
    source = SHARED_ARRAY.sub(r"static \1 \2[49152 / sizeof(\1)];", source)  # as large as it can be
    text = "\n".join([*head, "#include <kernel.h>", source, *kernels])
    return _build(cache_folder() / f"{digest}.so", (*KERNEL, *INCLUDE, *kept, "-x", "c++", "-"), text)


def _build(target: Path, flags: Iterable[object], text: str = "") -> Path:
    """Compile `target` unless it exists, also in several processes at once; BackendError if that fails."""
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            words = [*LIBRARY, "-o", f"{folder}/library", *map(str, flags)]
            run = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
            if run.returncode:
                problem = next((x for x in run.stderr.splitlines() if "error" in x), run.stderr[:200])
                msg = f"g++ cannot compile {target.name}: {problem}"
                raise BackendError(msg)
            Path(folder, "library").replace(target)
    return target
