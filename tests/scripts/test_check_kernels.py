"""scripts/check_kernels.py: the machine code of CuPy's kernels, and planted kernels that break its rules."""

import re
from concurrent.futures import Executor, Future

import check_kernels
import pytest
from kernels import tools, workload
from kernels.tools import Kernel
from script_processes import run

from xpnet import reproducible

pytestmark = [pytest.mark.tooling, pytest.mark.needs("kernels")]


NOTES = [
    "note: _tensordot_core_mul_sum fuses products and sums of slices, which are exact either way",
    "note: cupy_copy__float32_float64 reads float32, and flushes subnormal numbers to zero",
]


@pytest.mark.slow
def test_no_kernel_of_the_reproducible_arithmetic_breaks_a_rule():
    versions, *lines = run(check_kernels.__file__, "--only", "sm_90")
    assert versions.startswith("CuPy 14.2.0, nvidia-cuda-nvrtc-cu12 12.")
    notes = [line for line in lines if not line.startswith("|")]
    assert re.fullmatch(r"sm_90: \d+ kernels not compiled again", notes.pop())
    assert {*NOTES} <= {*notes}
    # Also generated kernels that read float32 features, of which the host has made subnormal ones zeros.
    flushes = "reads float32, and flushes subnormal numbers to zero"
    assert all(re.fullmatch(rf"note: [\w ]+ {flushes}", note) for note in {*notes} - {*NOTES})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ((architecture, *numbers),) = rows[2:]
    counts = dict(zip(rows[0][1:], map(int, numbers), strict=True))
    assert architecture == "sm_90"
    assert counts["kernels"] > counts["with float64"] > 300
    assert counts["with quotients or roots"] >= 2
    assert counts["problems"] == 0
    others = {"Array", "asarray", "conversions", "namespace"}
    others |= {"einsum", "quantile", "median", "cov", "corrcoef"}
    assert {*workload.FUNCTIONS} == {*reproducible.__all__} - others


RECORDED = """
from check_kernels import check_kernels
from kernels.record import make_block_reductions, record

kernels = record()
make_block_reductions()
print(*(kernel.name for kernel in kernels))
kernels.clear()
import cupy

a, b, c = cupy.ones((3, 5))
fused = cupy.ElementwiseKernel("float64 a, float64 b, float64 c", "float64 y", "y = a * b + c", "planted")
print(fused(a, b, c))
print(*(problem for finding in check_kernels(kernels, "sm_90", {}).values() for problem in finding.problems))
"""


def test_reductions_of_cub_and_a_planted_kernel_of_cupy_are_recorded_and_reported():
    names, sums, problems = run("-c", RECORDED)
    functions = [f"cupy_cub_{name}" for name in ("sum", "max", "argmax")]
    assert names.split() == ["cupy_fill", *(f"{x}{end}" for x in functions for end in ("_pass1", ""))]
    assert sums == "[2. 2. 2. 2. 2.]"
    assert problems == "planted: fuses a product and a sum: DFMA"


PRODUCT_AND_SUM = (
    'asm("{ .reg .f64 t; mul.f64 t, %1, %2; add.f64 %0, t, %3; }" : "=d"(y[0]) : "d"(a), "d"(b), "d"(c));'
)
RECIPROCAL = 'asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y[0]) : "d"(a));'
PLANTED = {
    "a sum": ("y[0] = a + b;", ()),
    "a quotient": ("y[0] = a / b;", ()),
    "a reciprocal": ("y[0] = 1.0 / a;", ()),
    "a root": ("y[0] = sqrt(a);", ()),
    "a quotient of integers": ("y[n / m] = a;", ()),
    "operations that are not fused": ("y[0] = __dadd_rn(__dmul_rn(a, b), c);", ()),
    "fused by the assembler": (PRODUCT_AND_SUM, ("fuses a product and a sum: DFMA",)),
    "fused beside a quotient": (
        "y[0] = a / b; y[1] = a * b + c;",
        ("can hide a fused operation: fma.rn.f64 beside a quotient",),
    ),
    "not fused beside a quotient": ("y[0] = __ddiv_rn(a, b); y[1] = __dadd_rn(__dmul_rn(a, b), c);", ()),
    "an approximate reciprocal": (
        RECIPROCAL,
        ("approximates or flushes to zero: rcp.approx.ftz.f64", "approximates: MUFU.RCP64H"),
    ),
    "a power in float32": ("y[0] = exp2f(n);", ("approximates: MUFU.EX2",)),
    "rounded to float32": ("y[0] = (float)a;", ("approximates or flushes to zero: cvt.rn.ftz.f32.f64",)),
    "a sum in float32": ("y[0] = a; *(float*)(y + 1) = (float)n + 0.5f;", ("flushes to zero: FADD.FTZ",)),
    "another rounding": ("y[0] = __dadd_rd(a, b);", ("does not round to nearest: DADD.RM",)),
}
"""The body of a kernel, and what is reported."""
OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


def test_a_planted_kernel_is_reported_if_it_breaks_a_rule():
    parameters = "double a, double b, double c, unsigned n, unsigned m, double* y"
    head = f'extern "C" __global__ void planted({parameters})'
    kernels = [Kernel(name, f"{head} {{ {body} }}", OPTIONS) for name, (body, _) in PLANTED.items()]
    findings = check_kernels.check_kernels(kernels, "sm_90", {})
    expected = [f"{name}: {problem}" for name, (_, problems) in PLANTED.items() for problem in problems]
    assert [problem for finding in findings.values() for problem in finding.problems] == expected


def test_a_kernel_is_compiled_unless_it_was_without_a_problem_before(monkeypatch, tmp_path):
    monkeypatch.setattr(check_kernels, "CHECKED", tmp_path / "checked.json")
    check_kernels.CHECKED.write_text("{}")
    kernels = [Kernel(name, name, OPTIONS) for name in ("right", "wrong")]
    found = dict(zip((check_kernels.digest(kernel, "sm_90") for kernel in kernels), FINDINGS, strict=True))
    check_kernels.write_checked({"sm_90": found})
    compiled = []
    monkeypatch.setattr(check_kernels, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(
        tools, "compile_kernels", lambda batch, _: compiled.extend(batch) or [({}, [])] * len(batch)
    )
    others = [Kernel("right", "right", ()), Kernel("right", "right ", OPTIONS)]
    checked = check_kernels.check_kernels([*kernels, *others], "sm_90", check_kernels.read_checked())
    assert {*compiled} == {kernels[1], *others}
    assert checked[check_kernels.digest(kernels[0], "sm_90")] == FINDINGS[0]
    assert check_kernels.digest(kernels[0], "sm_80") not in checked


FINDINGS = [
    check_kernels.Finding(True, True, "a note", ()),
    check_kernels.Finding(True, False, "", ["fuses"]),
]


class Here(Executor):
    """Takes the place of a pool of processes."""

    def __init__(self, *_, **__):
        pass

    def submit(self, function, *words):
        future = Future()
        future.set_result(function(*words))
        return future


def test_without_the_packages_it_is_one_line_and_code_2(monkeypatch, capsys):
    monkeypatch.setattr(tools, "NVRTC", "nvidia-cuda-nvrtc-cu99")
    assert check_kernels.main([]) == 2
    out, err = capsys.readouterr()
    reason = 'nvidia-cuda-nvrtc-cu99 is not installed: pip install -e ".[kernels]"'
    assert (out, err) == ("", f"check_kernels: {reason}\n")
