"""Check the machine code of CuPy's kernels for the reproducible arithmetic, without a GPU.

CuPy generates CUDA source as it computes. Here it computes on the emulated device of ``emulated_cuda.py``:
the test vectors, an epoch of the default network, and all functions of ``xpnet.reproducible``. NVRTC
compiles the sources, many in one call, with the options that CuPy gives them, nvdisasm disassembles the code,
and each kernel that uses float64 is searched for

  fused products and sums    DFMA, outside of the sequences that a quotient or a square root consists of
  approximations             MUFU, outside of them and of quotients of integers
  flushing to zero           FTZ
  other rounding             than to nearest

Kernels with a quotient or a root must have no other sum or product. docs/devices.md names the exceptions, and
what is not checked. It takes a minute of processor time, and more the first time, when g++ compiles for the
emulated device.

Exit codes: 0 no kernel breaks a rule; 1 one does; 2 this cannot be checked here, with the reason in a line.
"""

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
from emulation.install import VERSION
from kernels import rules, tools
from kernels.record import make_block_reductions, record
from kernels.tools import Kernel
from shared import markdown

from xpnet._lib.machine import available_cpus
from xpnet.backends.resolve import make
from xpnet.errors import XPNetError

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
COLUMNS = ("kernels", "with float64", "with quotients or roots", "DADD", "DMUL", "DFMA", "problems")


@dataclass
class Report:
    """The findings in the kernels of an architecture."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of the columns of the table, and of every opcode."""
    notes: set[str] = field(default_factory=set)
    """What breaks a rule, but is known."""
    problems: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Check all kernels and return the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=formatter).parse_args(argv)
    try:
        tools.check()
        reports = check_kernels(record_kernels())
    except XPNetError as error:
        print(f"check_kernels: {error}", file=sys.stderr)
        return 2
    print(f"CuPy {VERSION}, {tools.versions()}")
    print_reports(reports)
    return 1 if any(report.problems for report in reports.values()) else 0


def record_kernels() -> list[Kernel]:
    """Return the sources of all kernels; BackendError where CuPy cannot be emulated."""
    with record() as recorded:
        from kernels.workload import run  # xpnet.reproducible

        run(make("cupy", "cuda:0"))
        make_block_reductions()
    return recorded


def check_kernels(
    kernels: Sequence[Kernel], architectures: Sequence[str] = ARCHITECTURES
) -> dict[str, Report]:
    """Compile and disassemble kernels, and return what is found, by architecture.

    Raises
    ------
    BackendError
        NVRTC or nvdisasm is not installed or fails.
    """
    spawn = multiprocessing.get_context("spawn")  # beside the emulated device, NVRTC crashes
    reports = {name: Report() for name in architectures}
    batches = tools.batches(kernels)
    with ProcessPoolExecutor(available_cpus(), mp_context=spawn) as pool:
        compiled = {
            name: [pool.submit(tools.compile_kernels, batch, name) for batch in batches] for name in reports
        }
        for name, report in reports.items():
            results = [result for future in compiled[name] for result in future.result()]
            sass = tools.disassemble([result.code for result in results], name)
            for kernel, result, opcodes in zip(chain(*batches), results, sass, strict=True):
                add_kernel(report, kernel, rules.read_ptx_opcodes(result.ptx), opcodes)
    return reports


def add_kernel(report: Report, kernel: Kernel, ptx: set[str], sass: Sequence[str]) -> None:
    """Add what is found in a kernel to a report."""
    report.counts["kernels"] += 1
    if not rules.uses_float64(ptx):
        return
    report.counts["with float64"] += 1
    report.counts["with quotients or roots"] += rules.has(rules.QUOTIENT, ptx)
    report.counts.update(opcode.partition(".")[0] for opcode in sass)
    problems = rules.find_problems(ptx, sass)
    if rules.has(rules.FLUSHED_INPUT, ptx):
        report.notes.add(f"{kernel.name} reads float32, and flushes subnormal numbers to zero")
    if kernel.name == rules.EXACT_PRODUCTS and rules.FUSED in problems:
        problems.remove(rules.FUSED)
        report.notes.add(f"{kernel.name} fuses products and sums of slices, which are exact either way")
    report.counts["problems"] += len(problems)
    report.problems += [f"{kernel.name}: {problem}" for problem in problems]


def print_reports(reports: dict[str, Report]) -> None:
    """Print a table, and each problem."""
    rows = [[name, *(str(report.counts[x]) for x in COLUMNS)] for name, report in reports.items()]
    print(markdown(["architecture", *COLUMNS], rows))
    for note in sorted(set().union(*(report.notes for report in reports.values()))):
        print(f"note: {note}")
    for name, report in reports.items():
        for problem in report.problems:
            print(f"{name} {problem}")


if __name__ == "__main__":
    sys.exit(main())
