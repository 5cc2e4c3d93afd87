"""Run programs with a planted bug, and right ones, on the emulated CUDA device and on a stub over NumPy.

Each of ``PROGRAMS`` is right; its bug is one piece in place of another. A bug is found if the program fails,
by an error or by its own assertion. The script writes the table of docs/emulated-cupy.md and prints it.

Exit codes: 0 all bugs are found and no right program is flagged; 1 not so; 2 there can be no device.
"""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import checkout
import numpy as np
from shared import markdown, write_part

from xpnet import emulation
from xpnet.emulation.build import SANITIZE
from xpnet.errors import XPNetError

PAGE = checkout.ROOT / "docs" / "emulated-cupy.md"


class Program(NamedTuple):
    """A program, its right line, and the one with the bug; perhaps it needs the sanitizers."""

    text: str
    right: str
    wrong: str
    sanitized: bool = False


def _kernel(parameters: str, body: str) -> str:
    """Return the text of a kernel whose threads have the number i."""
    number = "int i = blockIdx.x * blockDim.x + threadIdx.x;"
    source = f'extern "C" __global__ void f({parameters}) {{ {number} {body} }}'
    return f"cupy.RawKernel({source!r}, 'f')"


WRITE = _kernel("double* x, int n", "if (i < n) x[i] = 7;")
COPY = _kernel("const double* x, double* y", "y[i] = x[i];")
SCALE = _kernel("float* x, float a", "x[i] *= a;")
WIDE = _kernel("const int* n, long long* y", "long long wide = *n; *y = wide * 4;")
TURN = """cupy.RawKernel(r'''extern "C" __global__ void f(const double* x, double* y) {
  __shared__ double s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x];
}''', "f")"""
PINNED = """
memory = cupy.cuda.alloc_pinned_memory(40)
host, stream = np.frombuffer(memory, np.float64, 5), cupy.cuda.Stream(non_blocking=True)
with stream:
    x = cupy.ones(5)
    x.get(out=host, blocking=False)
stream.synchronize()
assert (host == 1).all()
"""
STREAMS = """
one, two = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
with one:
    x = cupy.zeros(5) + 1
    event = one.record()
two.wait_event(event)
with two:
    y = x * 2
assert (y.get(stream=two) == 2).all()
"""
FREED = f"""
x = cupy.zeros(8)
kernel, address = {WRITE}, x.data.ptr
kernel((1,), (8,), (address, 8))
cupy.cuda.Device().synchronize()
"""
FREED_LINE = "kernel((1,), (8,), (address, 8))\n"
PROGRAMS = {
    "a host array in an operation": Program("y = X + cupy.asarray(h)", "cupy.asarray(h)", "h"),
    "a host array in an ElementwiseKernel": Program(
        'f = cupy.ElementwiseKernel("float64 x", "float64 y", "y = x + 1", "f")\ny = f(X)', "f(X)", "f(h)"
    ),
    "the address of a host array in a RawKernel": Program(
        f"f = {WRITE}\nf((1,), (5,), (X.data.ptr, 5))\nX.get()", "X.data.ptr", "h.ctypes.data"
    ),
    "a function of NumPy on a device array": Program(
        "import scipy.linalg\nscipy.linalg.lu(cupy.eye(3).get())", "eye(3).get()", "eye(3)"
    ),
    "an implicit conversion": Program("y = np.asarray(X.get())", "X.get()", "X"),
    "a device array as a size": Program("y = h.reshape(int(X[1]), 5)", "int(X[1])", "X[1].astype(int)"),
    "the wrong device": Program("cupy.cuda.Device(0).use()", "Device(0)", "Device(1)"),
    "pinned memory read without waiting": Program(PINNED, "stream.synchronize()\n", ""),
    "a stream that does not wait for another": Program(STREAMS, "two.wait_event(event)\n", ""),
    "a write out of bounds": Program(
        f"x = cupy.zeros(8)\n({WRITE})((1,), (9,), (x, 8))\nx.get()", "(x, 8)", "(x, 9)", sanitized=True
    ),
    "a read out of bounds": Program(
        f"x, y = cupy.zeros(8), cupy.zeros(9)\n({COPY})((1,), (8,), (x, y))\ny.get()",
        "(8,), (",
        "(9,), (",
        sanitized=True,
    ),
    "use after free": Program(FREED, FREED_LINE, f"del x\n{FREED_LINE}", sanitized=True),
    "a block that is too large": Program(
        f"x = cupy.zeros(2048)\n({WRITE})((2,), (1024,), (x, 2048))", "(2,), (1024,)", "(1,), (2048,)"
    ),
    "a grid that is too large": Program(
        f"x = cupy.zeros(1)\n({WRITE})((70000, 1), (1,), (x, 1))", "(70000, 1)", "(1, 70000)"
    ),
    "an index of int32 that overflows": Program(
        f"n, y = cupy.full(1, 2**29, 'i'), cupy.zeros(1, 'q')\n({WIDE})((1,), (1,), (n, y))\ny.get()",
        "*y = wide * 4",
        "*y = *n * 4",
        sanitized=True,
    ),
    "duplicate indices in an assignment": Program(
        "i = np.arange(64) % 8\ny = cupy.zeros(8)\n"
        "y[cupy.asarray(i[-8:])] = cupy.arange(64.0)[-8:]\nassert (y.get() == np.arange(56.0, 64.0)).all()",
        "y[cupy.asarray(i[-8:])] = cupy.arange(64.0)[-8:]",
        "y[cupy.asarray(i)] = cupy.arange(64.0)",
    ),
    "a missing __syncthreads": Program(
        f"f, x, y = {TURN}, cupy.arange(64.0), cupy.zeros(64)\nf((1,), (64,), (x, y))\n"
        "assert (y.get() == np.arange(64.0)[::-1]).all()",
        "  __syncthreads();\n",
        "",
    ),
    "an array of the wrong type in a RawKernel": Program(
        f"({SCALE})((1,), (5,), (X.astype(np.float32), np.float32(2)))", "X.astype(np.float32)", "X"
    ),
    "a number of the wrong type in a RawKernel": Program(
        f"({SCALE})((1,), (5,), (X.astype(np.float32), np.float32(2)))", "np.float32(2)", "2.0"
    ),
    "an uninitialised array": Program(
        "y = cupy.zeros(5)\ny += X\nassert (y.get() == h).all()", "cupy.zeros", "cupy.empty"
    ),
}
PREPARATION = "import numpy as np\nimport cupy\nh = np.arange(5.0)\nX = cupy.asarray(h)\n"


def fails(program: str, *, sanitized: bool) -> bool:
    """Tell whether a program fails on the emulated device."""
    words = [sys.executable, "-m", "xpnet.emulation", "-c", PREPARATION + program]
    environment = os.environ | {SANITIZE: "1" if sanitized else "", "PYTHONPATH": str(checkout.ROOT)}
    return subprocess.run(words, env=environment, capture_output=True, check=False).returncode != 0


class Stub(types.ModuleType):
    """CuPy as NumPy, as projects without a GPU write it for their tests."""

    asnumpy = staticmethod(np.asarray)

    def __getattr__(self, name: str) -> object:
        """Return what NumPy has by this name; its arrays have the method ``get``."""
        function = getattr(np, name)
        if isinstance(function, type) or not callable(function):
            return function
        return lambda *words, **named: _with_get(function(*words, **named))


class Host(np.ndarray):
    """An array of NumPy that has CuPy's method ``get``."""

    def get(self, **_: object) -> object:
        """Return it as a plain array."""
        return np.asarray(self)


def _with_get(value: object) -> object:
    return value.view(Host) if isinstance(value, np.ndarray) else value


def fails_on_stub(program: str) -> bool | None:
    """Tell whether a program fails on the stub, None if it cannot run there."""
    sys.modules["cupy"] = Stub("cupy")
    try:
        exec(PREPARATION + program, {})
    except AttributeError:
        return None
    except Exception:  # noqa: BLE001  whatever a program raises
        return True
    finally:
        del sys.modules["cupy"]
    return False


def run_all() -> dict[str, tuple[bool, bool, bool | None]]:
    """Return of each bug whether it is found, the right program is flagged, and the stub finds it."""
    results = {}
    for name, each in PROGRAMS.items():
        bug = each.text.replace(each.right, each.wrong)
        found, flagged = (fails(text, sanitized=each.sanitized) for text in (bug, each.text))
        results[name] = found, flagged, fails_on_stub(bug)
    return results


def main() -> int:
    """Write and print the table, and return the exit code."""
    try:
        emulation.check()
    except XPNetError as error:
        print(f"emulated_bugs: {error}", file=sys.stderr)
        return 2
    results = run_all()
    words = {True: "yes", False: "no", None: "cannot run it"}
    rows = [
        [
            name,
            words[found] + ", with the sanitizers" * (found and PROGRAMS[name].sanitized),
            words[flagged],
            words[stub],
        ]
        for name, (found, flagged, stub) in results.items()
    ]
    found, flagged, stub = (sum(bool(x[i]) for x in results.values()) for i in range(3))
    rows.append([f"of {len(rows)}", str(found), str(flagged), str(stub)])
    table = markdown(["bug", "found", "right program flagged", "a stub over NumPy finds it"], rows)
    print(table)
    write_part(PAGE, "bugs", table)
    return int(found < len(results) or flagged > 0)


if __name__ == "__main__":
    checkout.need_own()
    sys.exit(main())
