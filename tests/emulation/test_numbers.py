"""The emulated device: no wrong number, refusals that name what is missing, bugs that a card would find."""

import os
import subprocess
import sys
from pathlib import Path

import emulated_bugs
import pytest
from emulated_bugs import PROGRAMS

pytestmark = [pytest.mark.tooling, pytest.mark.needs("emulated-cuda")]

HERE = Path(__file__).resolve().parent


def run(*words, **environment):
    """Return what a program on the device prints."""
    words = [sys.executable, "-m", "xpnet.emulation", *map(str, words)]
    environment = os.environ | environment
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_operations_agree_with_numpy():
    assert run(HERE / "operations.py") == ""


LEAVING = """
import cupy, numpy
root = "y = -1; for (int i = 0; i < 9; i++) { if (i * i >= x) { y = i; break; } }"
first = cupy.ElementwiseKernel("int64 x", "int64 y", root, "first")
print(first(cupy.arange(5)))
early = cupy.ElementwiseKernel("float64 x", "float64 y", "y = x; if (x > 1) return; y = 0", "early")
print(early(cupy.arange(4.0)))
print(cupy.searchsorted(cupy.asarray([1, 2]), cupy.asarray([0, 5, 2, 3])))
x, y = numpy.float64(1 + 2**-30), numpy.float64(-1 - 2**-29)
for options in ((), ("--fmad=false",)):
    source = 'extern "C" __global__ void f(double* x, double y) { x[0] = x[0] * x[0] + y; }'
    z = cupy.asarray([x])
    cupy.RawKernel(source, "f", options)((1,), (1,), (z, y))
    print(z[0] == 2.0**-60, z[0] == 0)
"""


def test_kernels_that_leave_their_loop_early_and_those_that_do_not_fuse_are_right():
    lines = run("-c", LEAVING).splitlines()
    assert lines == ["[0 1 2 2 2]", "[0. 0. 2. 3.]", "[0 2 1 2]", "True False", "False True"]


REDUCTION = """
import cupy
from xpnet.emulation import build
headers, built = [], build.build
build.build = lambda *words: headers.append(words[-1]) or built(*words)
print(cupy.arange(600).reshape(20, 30).sum(axis=1)[19], "FIBERS" in headers[-1])
"""


def test_cupys_reductions_are_loops():
    assert run("-c", REDUCTION) == "17535 False\n"


SPECIAL = """
import cupy, numpy
import cupyx.scipy.special as ours
import scipy.special as theirs
x = numpy.concatenate([numpy.geomspace(1e-6, 2, 300), numpy.linspace(2, 87, 300)])  # exp(-88) is subnormal
for name in ("k0", "k0e", "k1", "k1e", "i0", "i0e", "i1", "i1e", "erfcx"):
    for dtype, bound in (("float32", 1e-6), ("float64", 1e-13)):
        y = x.astype(dtype)
        error = getattr(ours, name)(cupy.asarray(y)).get() / getattr(theirs, name)(y.astype(float)) - 1
        if not abs(error).max() < bound:
            print(name, dtype, abs(error).max(), y[abs(error).argmax()])
"""


@pytest.mark.slow
def test_bessel_and_error_functions_have_the_accuracy_of_cupys_formulas():
    assert run("-c", SPECIAL) == ""


MISSING = """
import cupy
import cupy.cublas
from cupyx.scipy import sparse
for call in (
    lambda: cupy.cuda.malloc_managed(8),
    lambda: cupy.cuda.Stream(non_blocking=True).begin_capture(),
    lambda: cupy.cublas.syrk("N", cupy.ones((3, 3))),
    lambda: sparse.csr_matrix(cupy.eye(3)) @ cupy.ones(3),
    lambda: cupy._core.set_routine_accelerators(["cub"]),
    lambda: cupy.RawKernel('extern "C" __global__ void f() { asm("mov"); }', "f")((1,), (1,), ()),
    lambda: cupy.RawKernel('extern "C" __global__ void f() {}', "g")((1,), (1,), ()),
    lambda: cupy.cuda.Device(1).use(),
    lambda: cupy.random.rand(3),
):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_what_is_missing_is_named():
    lines = run("-c", MISSING).splitlines()
    assert lines[:5] == [
        "CUDARuntimeError cudaErrorNotSupported: cudaMallocManaged is not emulated",
        "CUDARuntimeError cudaErrorNotSupported: cudaStreamBeginCapture is not emulated",
        "CUBLASError cublasDsyrk_v2 is not emulated",
        "CUBLASError cublasDgeam is not emulated",
        "BackendError cub, an accelerator of CuPy, is not emulated",
    ]
    assert lines[5].startswith("CompileException g++ cannot compile")
    assert lines[6:] == [
        "CUDADriverError cudaErrorSymbolNotFound: named symbol not found: g",
        "CUDARuntimeError cudaErrorInvalidDevice: invalid device ordinal: the emulated device is number 0",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_bug_is_found_and_the_right_program_passes(name):
    program = PROGRAMS[name]
    assert program.text.count(program.right) == 1
    wrong = program.text.replace(program.right, program.wrong)
    assert emulated_bugs.fails(wrong, sanitized=program.sanitized)
    assert not emulated_bugs.fails(program.text, sanitized=program.sanitized)


ORDER = "import cupy; y = cupy.zeros(3); y[cupy.arange(60) % 3] = cupy.arange(60.0); print(y)"


def test_the_order_of_threads_is_that_of_the_seed():
    printed = [run("-c", ORDER, XPNET_EMULATED_CUDA_SEED=seed) for seed in ("0", "0", "1")]
    assert printed[0] == printed[1] != printed[2]


WAITS = """
import numpy as np
from xpnet.parity import assert_parity
x = np.arange(5.0)
keywords = dict(backends=["cupy"], tier="bitwise", sync=False, variations=False)
assert_parity(lambda x, xp: xp.sum(x) + 1, x, **keywords)
try:
    assert_parity(lambda x, xp: x * float(xp.sum(x)), x, **keywords)
except AssertionError as error:
    print(error)
"""


@pytest.mark.needs("torch")
def test_waits_are_counted_without_sync():
    (line,) = [line for line in run("-c", WAITS).splitlines() if line.startswith("cupy")]
    assert (
        line
        == "cupy on cuda:0: host synchronization, which sync=False forbids: it waits 1 times for the device"
    )


WEIGHTED = """
import cupy, numpy
x, weights = cupy.asarray([[0.0, 1.0, 5.0]]), cupy.asarray([1.0, 2.0, 4.0])
"""


def test_the_page_shows_the_bug_of_cov():
    page = (HERE.parents[1] / "docs" / "emulated-cupy.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("print(cupy.cov")]
    code, _, printed = line.partition("  # ")
    assert run("-c", WEIGHTED + code).strip() == printed
