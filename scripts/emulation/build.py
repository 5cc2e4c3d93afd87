"""The emulated device's libraries and CuPy's kernels, compiled by g++ into a cache folder."""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from xpnet.errors import BackendError

HERE = Path(__file__).resolve().parent
LIBRARY = ["g++", "-std=c++17", "-march=native", "-shared", "-fPIC"]
KERNEL = ["-O2", "-ffp-contract=fast", "-fvisibility=hidden", "-fno-math-errno", "-fpermissive", "-w"]
"""Products and sums in one expression of a kernel are fused, as NVRTC may fuse them by default."""
INCLUDE = (f"-I{HERE}", f"-I{HERE}/include")
KERNEL_NAME = re.compile(r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\([^)]*\)\s+)?void\s+(\w+)\s*\(')


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
    flags = ("-O1", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1", HERE / "driver.cpp")
    return _build(cache_folder() / "libcuda.so.1", flags)


def build_cublas() -> Path:
    """Return the path of libcublas.so.12, whose symbols have the version that CuPy asks for."""
    flags = (
        "-O3",
        "-fvisibility=hidden",
        "-Wl,-soname,libcublas.so.12,--default-symver",
        HERE / "cublas.cpp",
    )
    return _build(cache_folder() / "libcublas.so.12", (*flags, f"-L{cache_folder()}", "-l:libcuda.so.1"))


def build_kernels(source: str, options: Sequence[str]) -> Path:
    """Return the path of a library of the kernels in a CUDA source, with the options of NVRTC."""
    digest = hashlib.sha256(repr((source, options)).encode()).hexdigest()[:24]
    is_loop = "CUPY_FOR" in source and not re.search(r"\bthreadIdx\b|__sync", source)
    kept = [x for x in options if x.startswith("-D") or x.endswith("_core/include")]
    kernels = (f"EMULATED_KERNEL({name})" for name in KERNEL_NAME.findall(source))
    text = "\n".join(["" if is_loop else "#define EMULATED_FIBERS", "#include <kernel.h>", source, *kernels])
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
