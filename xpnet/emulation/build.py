"""Compilation with g++, once, into the user's cache."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from xpnet._lib.files import write_atomic
from xpnet.emulation import wheels
from xpnet.errors import BackendError

CUDA = Path(__file__).resolve().parent / "cuda"
"""The folder of what is compiled."""
COMPILER, OLDEST = "g++", 9
LIBRARY = ("-std=c++17", "-march=haswell", "-shared", "-fPIC", "-fvisibility=hidden")
"""The processor is one that has what CPU_FLAGS names, so that machines can share a cache."""
CPU_FLAGS = ("avx2", "bmi2", "f16c", "fma")
STANDARD_INPUT = ("-x", "c++", "-", "-x", "none")
"""The source is read from there; what follows are files again."""
IN_CUPY = re.compile(r"-I[^'\"]*(?=/cupy/(?:_core/include|random))")
INCLUDE = (f"-I{CUDA}", f"-I{CUDA}/include")
SANITIZE = "XPNET_EMULATED_CUDA_SANITIZE"
"""The environment variable that has kernels checked by the address sanitizer."""


def check_compiler() -> None:
    """Raise BackendError if g++ is missing or too old, or the processor is."""
    if shutil.which(COMPILER) is None:
        raise BackendError("g++ is not on the PATH: install it, for example with apt install g++")
    version = _run_compiler("-dumpversion")
    if int(version.split(".")[0]) < OLDEST:
        msg = f"g++ {version} is too old: install version {OLDEST} or newer, for example with apt install g++"
        raise BackendError(msg)
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if lacking := [flag for flag in CPU_FLAGS if flag not in known]:
        msg = f"the processor lacks {', '.join(lacking)}: the emulated device needs one of 2015 or later"
        raise BackendError(msg)


@cache
def _run_compiler(*words: str) -> str:
    run = subprocess.run([COMPILER, *words], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@cache
def cache_folder() -> Path:
    """Return the folder of what is compiled, named by the digest of CuPy, the compiler and the headers."""
    headers = [file.read_bytes() for file in sorted(CUDA.rglob("*.*h"))]
    key = [*wheels.find(), _run_compiler("--version"), *LIBRARY]
    name = hashlib.sha256("\n".join(key).encode() + b"".join(headers)).hexdigest()[:16]
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "xpnet-emulated-cuda" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build(name: str, flags: Collection[str | Path], text: str = "", header: str = "") -> Path:
    """Return the path of a library in the cache, compiled from `text` and from the files in `flags`.

    `header` is the beginning of `text`, which other libraries share. Processes and threads may compile
    at once. BackendError, with the first error of g++, if it cannot be compiled.
    """
    words = [*map(str, flags)]
    files = "".join(flag.read_text(encoding="utf-8") for flag in flags if isinstance(flag, Path))
    own = [flag for flag in flags if isinstance(flag, str)]  # not where files are
    target = cache_folder() / f"{digest((header, text, own, files))}-{name}"
    if not _is_whole(target):
        if header:
            text = f'#include "{precompile(header, tuple(words))}"\n{text}'
        _compile(target, [*(STANDARD_INPUT if text else ()), *words], text)
    return target


@cache
def precompile(text: str, flags: tuple[str, ...]) -> Path:
    """Return the path of a header with this text, beside which g++ finds it compiled with these flags.

    The headers are three quarters of what g++ reads of a kernel of CuPy.
    """
    header = cache_folder() / f"{digest((text, flags))}.h"
    compiled = header.with_suffix(".h.gch")
    if not _is_whole(compiled):
        write_atomic(header, text.encode())
        _compile(compiled, [*flags, "-x", "c++-header", str(header)])
    return header


def preprocess(text: str, flags: Iterable[str]) -> str:
    """Return a source with the text of the files that it includes, as far as they are found."""
    words = [COMPILER, *INCLUDE, *flags, "-E", "-P", *STANDARD_INPUT]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False).stdout


def digest(key: object) -> str:
    """Return the digest of what decides the content of a file, but for the folder of CuPy."""
    return hashlib.sha256(IN_CUPY.sub("-I", repr(key)).encode()).hexdigest()[:24]


def _compile(target: Path, flags: Iterable[str], text: str = "") -> None:
    """Compile a file of the cache, at whose end is its digest: one that is damaged is compiled again."""
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        file = Path(folder, "compiled")
        words = [COMPILER, *LIBRARY, *INCLUDE, "-o", str(file), *flags]
        run = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if run.returncode:
            lines = run.stderr.splitlines()
            problem = next((line for line in lines if "error: " in line.lower()), lines[-1])
            raise BackendError(f"g++ cannot compile {target.name.rpartition('-')[2]}: {problem}")
        content = file.read_bytes()
        file.write_bytes(content + hashlib.sha256(content).digest())
        file.replace(target)


def _is_whole(file: Path) -> bool:
    """Return whether a file is there, with its digest at the end."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def build_source(name: str, source: str) -> Path:
    """Return the path of a library of one source file, which finds the driver in the process."""
    return build(name, ("-O2", CUDA / source))


def build_driver() -> Path:
    """Return the path of libcuda.so.1, the CUDA driver and runtime."""
    return build("libcuda.so.1", ("-O1", "-Wl,-soname,libcuda.so.1", CUDA / "driver.cpp"))
