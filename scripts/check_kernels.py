"""Check the machine code of CuPy's kernels for the reproducible arithmetic, without a GPU.

CuPy generates CUDA source as it computes. Here it computes on the emulated device of ``emulated_cuda.py``:
the test vectors, an epoch of the default network, and all functions of ``xpnet.reproducible``. NVRTC
compiles the sources, many in one call, with the options that CuPy gives them, nvdisasm disassembles the code,
and each kernel that uses float64 is searched for opcodes that ``RULES`` forbids. docs/devices.md names the
exceptions, and what is not checked. Kernels are not compiled again for an architecture for which
kernels/checked.json has the digest of their sources, options, compiler and rules; ``--again`` compiles all,
and writes it.

Exit codes: 0 no kernel breaks a rule; 1 one does; 2 this cannot be checked here, with the reason in a line.
"""

import argparse
import hashlib
import importlib
import json
import multiprocessing
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import checkout
from emulation.install import VERSION
from kernels import tools
from kernels.record import make_block_reductions, record
from kernels.tools import Kernel
from shared import markdown

from xpnet._lib.files import write_atomic
from xpnet._lib.machine import available_cpus
from xpnet.backends.resolve import make
from xpnet.errors import XPNetError

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
CHECKED = checkout.SCRIPTS / "kernels" / "checked.json"
"""What was found in kernels that were compiled, by architecture."""
COLUMNS = ("kernels", "with float64", "with quotients or roots", "problems")
RULES = {
    "fuses a product and a sum": re.compile(r"D(?:FMA|MMA).*"),
    "approximates": re.compile(r"MUFU.*"),
    "flushes to zero": re.compile(r".*\.FTZ.*"),
    "does not round to nearest": re.compile(r"D(?:ADD|MUL)\.R[MPZ]"),
}
"""Opcodes that machine code must not have."""
QUOTIENT = re.compile(r"(?:div|rcp|sqrt)\.rn\.f64")
FLUSHED_INPUT = re.compile(r"cvt\.ftz\.f64\.f32")
"""A float32 converted to float64: exactly, but 0 if it is subnormal."""
EXPANSIONS = {
    QUOTIENT: re.compile(r"D(?:FMA|ADD|MUL)(?:\.R[MPZ])?|MUFU\.R(?:CP|SQ)64H"),
    re.compile(r"(?:div|rem)\.[us](?:16|32|64)"): re.compile(r"MUFU\.RCP|F2I\.FTZ\.U32\.TRUNC\.NTZ"),
    FLUSHED_INPUT: re.compile(r"FMUL\.FTZ"),
}
"""PTX that the assembler expands, and opcodes that its expansion may have: of quotients and roots, which are
correctly rounded; of quotients of integers; of float32 numbers that are read."""
EXACT_PRODUCTS = "_tensordot_core_mul_sum"
"""CuPy's product of a row and a column. In the reproducible arithmetic, the factors are slices whose products
and sums are exact, fused or not, in every order: so are cuBLAS's products."""
FUSIBLE = re.compile(r"(?:add|sub|mul)\.f64|(?:fma|mad)\.[\w.]*f64")
"""PTX that is fused or may be: of products and sums, those that name no rounding, such as ``add.rn.f64``."""
INEXACT = re.compile(r"(?=.*\.f64).*\.(?:approx|ftz)\b.*")


@dataclass
class Report:
    """The findings in the kernels of an architecture; notes tell what breaks a rule, but is known."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Check all kernels, print a table and each problem, and return the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    names = f"some of {', '.join(ARCHITECTURES)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES, help=names)
    parser.add_argument("--again", action="store_true", help="compile all, and write checked.json")
    options = parser.parse_args(argv)
    try:
        tools.check()
        recorded = record()
        from kernels.workload import run  # xpnet.reproducible

        run(make("cupy", "cuda:0"))
        make_block_reductions()
        known = {} if options.again else read_checked(recorded, options.only)
        reports = known | check_kernels(recorded, [name for name in options.only if name not in known])
    except XPNetError as error:
        print(f"check_kernels: {error}", file=sys.stderr)
        return 2
    versions = [f"{name} {metadata.version(name)}" for name in (tools.NVRTC, tools.DISASSEMBLER)]
    print(f"CuPy {VERSION}, {', '.join(versions)}")
    rows = [[name, *(str(reports[name].counts[x]) for x in COLUMNS)] for name in options.only]
    print(markdown(["architecture", *COLUMNS], rows))
    for note in sorted(set().union(*(report.notes for report in reports.values()))):
        print(f"note: {note}")
    problems = [f"{name} {problem}" for name, report in reports.items() for problem in report.problems]
    print(*problems, sep="\n", end="\n" * bool(problems))
    for name in sorted(known):
        print(f"{name}: not compiled again, the digest is that of checked.json: {digest(recorded, name)}")
    if options.again and not problems:
        write_checked(recorded, reports)
    return 1 if problems else 0


def digest(kernels: Iterable[Kernel], architecture: str) -> str:
    """Return the SHA-256 of all that decides what is found: sources, options, compiler, and these scripts."""
    folder = str(Path(importlib.import_module("cupy").__file__).parent)
    texts = sorted(repr(tuple(kernel)).replace(folder, "cupy") for kernel in kernels)
    texts += [f"{name} {metadata.version(name)}" for name in (tools.NVRTC, tools.DISASSEMBLER)]
    texts += [architecture, *(Path(path).read_text() for path in (__file__, tools.__file__))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def read_checked(kernels: Sequence[Kernel], architectures: Iterable[str]) -> dict[str, Report]:
    """Return the reports of kernels that have not changed since they were compiled without a problem."""
    checked = json.loads(CHECKED.read_text())
    return {
        name: Report(Counter(checked[name]["counts"]), {*checked[name]["notes"]})
        for name in architectures
        if checked.get(name, {}).get("digest") == digest(kernels, name)
    }


def write_checked(kernels: Sequence[Kernel], reports: Mapping[str, Report]) -> None:
    """Keep what was found in kernels, with the digest of what decides it."""
    content = json.loads(CHECKED.read_text()) | {
        name: {"digest": digest(kernels, name), "counts": report.counts, "notes": sorted(report.notes)}
        for name, report in reports.items()
    }
    write_atomic(CHECKED, f"{json.dumps(content, indent=1)}\n".encode())


def check_kernels(kernels: Sequence[Kernel], architectures: Sequence[str]) -> dict[str, Report]:
    """Compile and disassemble kernels, and return what is found, by architecture."""
    spawn = multiprocessing.get_context("spawn")  # beside the emulated device, NVRTC crashes
    reports = {name: Report() for name in architectures}
    batches: dict[tuple[str, ...], list[Kernel]] = {}
    for kernel in kernels:
        batches.setdefault(kernel.options, []).append(kernel)
    with ProcessPoolExecutor(available_cpus(), mp_context=spawn) as pool:
        compiled = [
            (report, batch, pool.submit(tools.compile_kernels, batch, name))
            for name, report in reports.items()
            for batch in batches.values()
        ]
        for report, batch, future in compiled:
            for kernel, (ptx, sass) in zip(batch, future.result(), strict=True):
                add_kernel(report, kernel, ptx, sass)
    return reports


def add_kernel(report: Report, kernel: Kernel, ptx: set[str], sass: Sequence[str]) -> None:
    """Add what is found in a kernel to a report."""
    report.counts["kernels"] += 1
    if not any(".f64" in opcode for opcode in ptx):
        return
    report.counts["with float64"] += 1
    report.counts["with quotients or roots"] += has(QUOTIENT, ptx)
    problems = find_problems(ptx, sass)
    if has(FLUSHED_INPUT, ptx):
        report.notes.add(f"{kernel.name} reads float32, and flushes subnormal numbers to zero")
    if kernel.name == EXACT_PRODUCTS and (fused := "fuses a product and a sum: DFMA") in problems:
        problems.remove(fused)
        report.notes.add(f"{kernel.name} fuses products and sums of slices, which are exact either way")
    report.counts["problems"] += len(problems)
    report.problems += [f"{kernel.name}: {problem}" for problem in problems]


def has(pattern: re.Pattern[str], opcodes: Iterable[str]) -> bool:
    """Return whether one of the opcodes is of a pattern."""
    return any(map(pattern.fullmatch, opcodes))


def find_problems(ptx: Collection[str], sass: Iterable[str]) -> list[str]:
    """Return what breaks the rules, a line each, in opcodes before and after the assembler, part of NVRTC.

    It may fuse products and sums that PTX has apart, so `sass` decides. An expansion of quotients fuses too:
    beside it in a kernel, no product or sum may stand that could have been fused.
    """
    problems = [
        f"approximates or flushes to zero: {opcode}"
        for opcode in ptx
        if INEXACT.fullmatch(opcode) and not FLUSHED_INPUT.fullmatch(opcode)
    ]
    if has(QUOTIENT, ptx):
        problems += [
            f"can hide a fused operation: {x} beside a quotient" for x in ptx if FUSIBLE.fullmatch(x)
        ]
    allowed = [expansion for source, expansion in EXPANSIONS.items() if has(source, ptx)]
    for opcode in sass:
        if not any(expansion.fullmatch(opcode) for expansion in allowed):
            problems += [f"{rule}: {opcode}" for rule, x in RULES.items() if x.fullmatch(opcode)]
    return sorted(set(problems))


if __name__ == "__main__":
    sys.exit(main())
