"""Run xpnet or a script on an emulated CUDA device: the unmodified CuPy wheel, on the host's processor.

``python scripts/emulated_cuda.py train --epochs 2 --backend cupy --device cuda`` takes the words of
``xpnet``; ``python scripts/emulated_cuda.py examples/gpt.py --backend cupy`` runs a script. It needs Linux
on x86-64, g++, and the one version of ``cupy-cuda12x`` that is known.

  libcuda.so.1     the driver and the CUDA runtime (``emulation/driver.cpp``), loaded before CuPy looks for it
  libcublas.so.12  matrix products of float32 and float64 (``emulation/cublas.cpp``), too
  NVRTC            g++ compiles the CUDA source of each kernel, with ``emulation/kernel.h`` before it
  CUB              switched off by CUPY_ACCELERATORS: reductions are CuPy's own kernels

It cannot show the rounding of real hardware and of CUDA's mathematical functions, which expressions NVRTC
fuses, subnormal float32 (CuPy has them flushed to zero), speed, the memory model and races between threads,
CUB's kernels, several GPUs, nor what a real driver refuses.

Libraries and kernels are compiled once into ``~/.cache/xpnet-emulated-cuda`` (or in ``XDG_CACHE_HOME``).
Exit code 2, with a line that gives the reason, if there can be no emulated device; else the command's.
"""

import runpy
import sys

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from emulation.install import install

from xpnet.errors import XPNetError


def main(words: list[str]) -> int:
    """Run a command, or a script that ends in .py, and return its exit code."""
    try:
        install()
    except XPNetError as error:
        print(f"emulated_cuda: {error}", file=sys.stderr)
        return error.exit_code
    if words and words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        return 0
    from xpnet.__main__ import main as run

    return run(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
if __name__ == "__mp_main__":  # a process that the command has started, for one of several trials
    install()
