"""CUDA's runtime and libraries, in place of those that CuPy calls."""

import ctypes
import importlib
import importlib.util
import re
import struct
import subprocess
import types
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.emulation.build import CUDA, build, build_source
from xpnet.emulation.wheels import find as find_wheel
from xpnet.errors import BackendError

RUNTIME = r"cuda[A-Z]\w*"
GENERATOR = (
    r"_Z\d+(?:exponential|hypergeometric|random_uniform(?:_float)?|standard_(?:gamma|normal|normal_float)"
    r"|init_curand_generator|raw|beta|poisson|binomial|geometric|logseries|interval_(?:32|64))[il]m?[a-z]*"
)
LAUNCH = re.compile(r"(\w+<[\w, ]+>)<<<bpg, tpb, 0, _stream>>>\(std::forward<Args>\(args\)\.\.\.\);")
ROUTINES = "potrf potrs getrf getrs getri geqrf orgqr ungqr ormqr unmqr geev gesvd syevd heevd trsm"


NVRTC = """extern "C" __attribute__((visibility("default"))) int nvrtcVersion(int* major, int* minor) {
  return *major = 12, *minor = 9, 0;
}"""


class Library(NamedTuple):
    """A library of CUDA: its source, the status of what is not supported, and the error that CuPy raises."""

    source: str
    unsupported: int
    error: str


LIBRARIES = {
    "cupy_backends.cuda.libs.cublas": Library("cublas.cpp", 15, "CUBLASError"),
    "cupy_backends.cuda.libs.cusolver": Library("cusolver.cpp", 9, "CUSOLVERError"),
    "cupy_backends.cuda.libs.curand": Library("curand.cpp", 999, "CURANDError"),
    "cupy_backends.cuda.libs.cusparse": Library("", 10, "CuSparseError"),
    "cupy.cuda.cufft": Library("fft.cpp", 16, "CuFFTError"),
}
"""By the module of CuPy that calls it. Of cuSPARSE nothing is emulated; other modules import it."""


def redirect_all(driver: ctypes.CDLL) -> None:
    """Make CuPy's compiled functions that need a card jump to those of this package."""
    redirect("cupy_backends.cuda.api.runtime", {RUNTIME: driver}, driver)
    if find_wheel()[1].startswith("13."):  # it asks for the version of NVRTC
        library = build("libnvrtc.so.12", ["-Wl,-soname,libnvrtc.so.12"], NVRTC)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def redirect_rest(driver: ctypes.CDLL) -> None:
    """Do the same in modules that can be loaded only once CuPy is imported."""
    sort = ctypes.CDLL(str(build_source("sort.so", "sort.cpp")))
    redirect("cupy.cuda.thrust", {RUNTIME: driver, r"_Z\d+thrust_\w+": sort}, driver)
    redirect("cupy.cuda.cub", {RUNTIME: driver, r"_Z\d+cub_device_\w+": driver}, driver)
    generator = ctypes.CDLL(str(build_generator()))
    redirect("cupy.random._generator_api", {RUNTIME: driver, GENERATOR: generator}, driver)


def redirect(module: str, libraries: dict[str, ctypes.CDLL], driver: ctypes.CDLL) -> None:
    """Make functions of a module of CuPy jump to those of a library, by patterns of their names.

    The jumps are written over the machine code in this process's memory; the file stays as it is. Where the
    library lacks a function, its status or exception names it.
    """
    origin = find_file(module)
    loaded, libc = ctypes.CDLL(origin), ctypes.CDLL(None)  # Python will find the module loaded
    lines = _read_symbols(origin)
    addresses = {name: int(x, 16) for x, name in re.findall(r"^(\w+) [tT] (\w+)$", lines, re.MULTILINE)}
    init = f"PyInit_{module.rpartition('.')[2]}"
    base = _address_of(loaded[init]) - addresses[init]
    for pattern, library in libraries.items():
        names = [name for name in addresses if re.fullmatch(pattern, name)]
        if not names:
            msg = f"the emulated device does not know this {module}: it has no functions like {pattern}"
            raise BackendError(msg)
        for name in names:
            target = getattr(library, name, None)
            code = b"" if target else b"\x48\xbf" + struct.pack("<Q", _keep(name))  # mov rdi, name
            target = target or (driver.emulated_throw if name.startswith("_Z") else driver.emulated_missing)
            # mov rax, target; jmp rax
            code += b"\x48\xb8" + struct.pack("<Q", _address_of(target)) + b"\xff\xe0"
            page = (base + addresses[name]) & ~4095
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(8192), 7):
                msg = "the system refuses to change machine code in memory: allow it, or use another machine"
                raise BackendError(msg)
            ctypes.memmove(base + addresses[name], code, len(code))


_kept: list[Any] = []
"""Names that machine code refers to."""


def _keep(name: str) -> int:
    """Return the address of a name, for as long as the process lasts."""
    _kept.append(ctypes.create_string_buffer(name.encode()))
    return ctypes.addressof(_kept[-1])


def _address_of(function: Any) -> int:
    """Return the address of a function of a library."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def find_file(module: str) -> str:
    """Return the file of a module."""
    spec = importlib.util.find_spec(module)
    return str(spec.origin) if spec else ""


def _read_symbols(file: str, *options: str) -> str:
    return subprocess.run(["nm", *options, file], capture_output=True, text=True, check=True).stdout


def load_libraries(driver: ctypes.CDLL) -> None:
    """Load the libraries of CUDA that are emulated, and have CuPy find them."""
    driver.emulated_detail.restype = ctypes.c_char_p
    pathfinder: Any = importlib.import_module("cuda.pathfinder")
    handles = dict[str, ctypes.CDLL]()

    def find(name: str) -> Any:
        if name not in handles:
            raise pathfinder.DynamicLibNotFoundError(f"{name}, a library of CUDA, is not emulated")
        loaded = {"_handle_uint": handles[name]._handle, "was_already_loaded_from_elsewhere": True}
        return types.SimpleNamespace(abs_path=name, **loaded)

    pathfinder.load_nvidia_dynamic_lib = find
    for name, library in LIBRARIES.items():
        short = name.rpartition(".")[2]
        loaded = ctypes.CDLL(str(build_library(short, library, find_file(name))), ctypes.RTLD_GLOBAL)
        if hasattr(loaded, "emulated_set_routine"):
            set_routines(loaded)
        handles[short] = loaded
        name_missing(getattr(importlib.import_module(name), library.error), library.unsupported, driver)


def build_library(short: str, library: Library, module: str) -> Path:
    """Return the path of a library whose symbols have the versions that a module of CuPy asks for.

    Functions without a source fail and are named.
    """
    asked = re.findall(rf"(\w+)@(lib{short}\.so\.\d+)", _read_symbols(module, "-D", "--undefined-only"))
    lines = ['extern "C" int emulated_missing(const char*);']
    lines += [
        f'extern "C" __attribute__((weak, visibility("default"))) int {name}() '
        f'{{ return emulated_missing("{name}"), {library.unsupported}; }}'
        for name, _ in asked
    ]
    soname = asked[0][1]
    flags: list[str | Path] = ["-O2", f"-Wl,-soname,{soname},--default-symver"]
    if library.source:
        flags.append(CUDA / library.source)
    return build(soname, flags, "\n".join(lines))


def build_generator() -> Path:
    """Return the path of a library of the source of CuPy's generators, which is part of its wheel."""
    folder = Path(find_file("cupy.random")).parent
    source = (folder / "cupy_distributions.cu").read_text(encoding="utf-8")
    source = LAUNCH.sub(r"emulated_grid(_stream, bpg, tpb, [=] { \1(args...); });", source)
    flags = ("-O2", "-fvisibility=default", "-fpermissive", "-w", f"-I{folder}")
    return build("generator.so", flags, f"#include <generator.h>\n{source}")


def set_routines(library: ctypes.CDLL) -> None:
    """Pass the addresses of SciPy's LAPACK and BLAS; BackendError if SciPy is not installed."""
    if importlib.util.find_spec("scipy") is None:
        raise BackendError("SciPy is not installed, whose LAPACK the emulated device uses: pip install scipy")
    get_name, get = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for module in ("scipy.linalg.cython_lapack", "scipy.linalg.cython_blas"):
        capsules = importlib.import_module(module).__pyx_capi__
        for name in (letter + routine for letter in "sdcz" for routine in ROUTINES.split()):
            if name in capsules:
                address = get(capsules[name], get_name(capsules[name]))
                library.emulated_set_routine(name.encode(), ctypes.c_void_p(address))


def name_missing(error: Any, unsupported: int, driver: ctypes.CDLL) -> None:
    """Make an error of CuPy say which function is missing."""
    init = error.__init__

    def describe(self: Any, status: int) -> None:
        init(self, status)
        if status == unsupported:
            self.args = (driver.emulated_detail().decode(),)

    error.__init__ = describe
