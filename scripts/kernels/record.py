"""The CUDA sources that CuPy generates, recorded while it computes on the emulated device."""

import importlib
import os
from contextlib import suppress
from typing import Any

from kernels.tools import Kernel, load_nvrtc
from xpnet.emulation.device import install
from xpnet.emulation.kernels import find_names


class RecordedError(Exception):
    """Ends CuPy's compilation, once it has made the options."""


def record() -> list[Kernel]:
    """Install the emulated device; return a list that gets each source that CuPy would have NVRTC compile.

    BackendError if the emulated device or NVRTC is not available.
    """
    pathfinder: Any = importlib.import_module("cuda.pathfinder")
    load = pathfinder.load_nvidia_dynamic_lib
    install()
    load_nvrtc()  # CuPy asks for its version
    emulated_load = pathfinder.load_nvidia_dynamic_lib
    pathfinder.load_nvidia_dynamic_lib = lambda name: (load if name == "nvrtc" else emulated_load)(name)
    compiler = importlib.import_module("cupy.cuda.compiler")
    root = os.path.dirname(importlib.import_module("cupy").__file__)  # noqa: PTH120
    recorded: list[Kernel] = []

    class Program:
        """Takes the place of CuPy's program for NVRTC."""

        def __init__(self, source: str, *_: object, **__: object) -> None:
            self.source = source

        def compile(self, options: tuple[str, ...], *_: object) -> tuple[bytes, None]:
            if not self.source:  # CuPy reads the version of NVRTC from the PTX of an empty source
                return b"", None
            kept = (x for x in options if not x.startswith("-arch="))
            own = tuple(x for x in kept if not x.startswith("-I") or x.startswith(f"-I{root}"))
            kernel = Kernel(" ".join(find_names(self.source)), self.source, own)
            if kernel not in recorded:
                recorded.append(kernel)
            raise RecordedError

    emulated = compiler._compile_module_with_cache

    def compile_module(source: str, options: tuple[str, ...] = (), **keywords: Any) -> Any:
        with suppress(RecordedError):
            compiler._compile_with_cache_cuda(source, options, **keywords)
        if "#include <cub/" in source:
            raise compiler.CompileException("g++ cannot compile CUB's templates", source, "", options)
        return emulated(source, options, **keywords)

    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"  # else CuPy looks for the compiled kernel on the disk
    compiler._NVRTCProgram, compiler._compile_module_with_cache = Program, compile_module
    return recorded


def make_block_reductions() -> None:
    """Have CuPy generate reductions of float64 from CUB's templates, its default on a GPU for large arrays.

    They are recorded, but not run.
    """
    cupy = importlib.import_module("cupy")
    cupy._core._accelerator.set_reduction_accelerators(["cub"])  # the emulated device refuses them
    x = cupy.ones((64, 4096))
    for name in ("sum", "max", "argmax"):
        for axis in (None, 1):  # in two passes and in one
            with suppress(cupy.cuda.compiler.CompileException):
                getattr(x, name)(axis=axis)
