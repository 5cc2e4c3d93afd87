"""Run a command of xpnet on an emulated CUDA device: the unmodified CuPy wheel, on the host's processor.

``python scripts/emulated_cuda.py train --epochs 2 --backend cupy --device cuda`` takes the words of ``xpnet``.
It needs Linux on x86-64, g++, and the one version of ``cupy-cuda12x`` whose internals ``emulation/install.py``
knows. It is for tests of the CuPy backend where there is no GPU; it is not a GPU.
"""

import sys

from emulation.install import install

from xpnet.errors import XPNetError


def main(words: list[str]) -> int:
    """Run a command and return its exit code; 2 if there can be no emulated device."""
    try:
        install()
    except XPNetError as error:
        print(f"emulated_cuda: {error}", file=sys.stderr)
        return error.exit_code
    from xpnet.__main__ import main as run

    return run(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
if __name__ == "__mp_main__":  # a process that the command has started, for one of several trials
    install()
