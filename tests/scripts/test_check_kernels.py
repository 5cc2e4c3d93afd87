"""scripts/check_kernels.py: the machine code of CuPy's kernels, and planted kernels that break its rules."""

import re

import check_kernels
import pytest
from kernels import workload
from kernels.tools import Kernel
from script_processes import run

from xpnet import reproducible

pytestmark = [pytest.mark.tooling, pytest.mark.needs("kernels")]


@pytest.mark.slow
def test_no_kernel_of_the_reproducible_arithmetic_breaks_a_rule():
    versions, *lines = run(check_kernels.__file__, "--only", "sm_90")
    assert versions.startswith("CuPy 14.2.0, nvidia-cuda-nvrtc-cu12 12.")
    notes = [line for line in lines if not line.startswith("|")]
    assert re.fullmatch(r"sm_90: \d+ kernels not compiled again", notes.pop())
    fuses = "note: _tensordot_core_mul_sum fuses products and sums of slices, which are exact either way"
    # Kernels that read float32 features, of which the host has made subnormal ones zeros.
    flushes = "reads float32, and flushes subnormal numbers to zero"
    assert all(note == fuses or re.fullmatch(rf"note: [\w ]+ {flushes}", note) for note in notes)
    heading, _, row = ([cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|"))
    counts = dict(zip(heading[2:-1], map(int, row[2:-1]), strict=True))
    assert counts["kernels"] > counts["with float64"] > 300
    assert counts["with quotients or roots"] >= 2
    assert counts["problems"] == 0


OTHERS = "Array asarray conversions namespace einsum quantile median cov corrcoef"


def test_every_function_that_computes_is_in_the_workload():
    assert {*workload.FUNCTIONS} == {*reproducible.__all__} - {*OTHERS.split()}


RECORDED = """
from check_kernels import check_kernels
from kernels.record import record

kernels = record()
import cupy

a, b, c = cupy.ones((3, 5))
fused = cupy.ElementwiseKernel("float64 a, float64 b, float64 c", "float64 y", "y = a * b + c", "planted")
print(fused(a, b, c))
print(*(problem for finding in check_kernels(kernels, "sm_90", {}).values() for problem in finding.problems))
"""


def test_a_planted_kernel_of_cupy_is_recorded_and_reported():
    assert run("-c", RECORDED) == ["[2. 2. 2. 2. 2.]", "planted: fuses a product and a sum: DFMA"]


PRODUCT_AND_SUM = 'asm("{ mul.f64 %0, %1, %2; add.f64 %0, %0, %3; }" : "=&d"(*y) : "d"(a), "d"(b), "d"(c));'
RECIPROCAL = 'asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y[0]) : "d"(a));'
HIDDEN = ("can hide a fused operation: fma.rn.f64 beside a quotient",)
APPROXIMATE = ("approximates or flushes to zero: rcp.approx.ftz.f64", "approximates: MUFU.RCP64H")
PLANTED = {
    "a quotient": ("y[0] = a / b;", ()),
    "a quotient of integers": ("y[n / m] = a;", ()),
    "operations that are not fused": ("y[0] = __dadd_rn(__dmul_rn(a, b), c);", ()),
    "fused by the assembler": (PRODUCT_AND_SUM, ("fuses a product and a sum: DFMA",)),
    "fused beside a quotient": ("y[0] = a / b; y[1] = a * b + c;", HIDDEN),
    "an approximate reciprocal": (RECIPROCAL, APPROXIMATE),
    "a power in float32": ("y[0] = exp2f(n);", ("approximates: MUFU.EX2",)),
    "a sum in float32": ("y[0] = a; *(float*)(y + 1) = (float)n + 0.5f;", ("flushes to zero: FADD.FTZ",)),
    "another rounding": ("y[0] = __dadd_rd(a, b);", ("does not round to nearest: DADD.RM",)),
}
OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


def test_a_planted_kernel_is_reported_if_it_breaks_a_rule():
    parameters = "double a, double b, double c, unsigned n, unsigned m, double* y"
    head = f'extern "C" __global__ void planted({parameters})'
    kernels = [Kernel(name, f"{head} {{ {body} }}", OPTIONS) for name, (body, _) in PLANTED.items()]
    findings = check_kernels.check_kernels(kernels, "sm_90", {})
    expected = [f"{name}: {problem}" for name, (_, problems) in PLANTED.items() for problem in problems]
    assert [problem for finding in findings.values() for problem in finding.problems] == expected
