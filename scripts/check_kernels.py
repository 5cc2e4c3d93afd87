"""Check the machine code of CuPy's kernels for the reproducible arithmetic, without a GPU.

CuPy generates CUDA source as it computes. Here it computes on the emulated device of ``xpnet.emulation``:
the test vectors, an epoch of the default network, and all functions of ``xpnet.reproducible``. NVRTC
compiles the sources, many in one call, with the options that CuPy gives them, nvdisasm disassembles the code,
and each kernel that uses float64 is searched for opcodes that ``RULES`` forbids. docs/devices.md names the
exceptions, and what is not checked. A kernel is not compiled again for an architecture for which
kernels/checked.json has the digest of its source, options, compiler and rules; ``--again`` compiles all,
and writes it; ``--record`` compiles those that are not there, and writes it.

Exit codes: 0 no kernel breaks a rule; 1 one does; 2 this cannot be checked here, with the reason in a line.
"""

import argparse
import hashlib
import importlib
import json
import multiprocessing
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import checkout
from kernels import tools
from kernels.record import make_block_reductions, record
from kernels.tools import Kernel
from shared import markdown, write_generated

from xpnet._lib.machine import available_cpus
from xpnet.backends.resolve import make
from xpnet.emulation import wheels
from xpnet.errors import XPNetError

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
CHECKED = checkout.SCRIPTS / "kernels" / "checked.json"
"""What was found in kernels without a problem, by the digest of all that decides it."""
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


class Finding(NamedTuple):
    """What is in a kernel; a note tells what breaks a rule, but is known."""

    has_float64: bool
    has_quotients: bool
    note: str
    problems: Sequence[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Check all kernels, print a table and each problem, and return the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    names = f"some of {', '.join(ARCHITECTURES)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES, help=names)
    parser.add_argument("--again", action="store_true", help="compile all, and write checked.json")
    parser.add_argument("--record", action="store_true", help="compile new kernels, and write checked.json")
    options = parser.parse_args(argv)
    try:
        tools.check()
        recorded = record()
        from kernels.workload import run  # xpnet.reproducible

        run(make("cupy", "cuda:0"))
        make_block_reductions()
        known = {} if options.again else read_checked()
        found = {name: check_kernels(recorded, name, known) for name in options.only}
    except XPNetError as error:
        print(f"check_kernels: {error}", file=sys.stderr)
        return 2
    versions = [f"{name} {metadata.version(name)}" for name in (tools.NVRTC, tools.DISASSEMBLER)]
    print(f"CuPy {wheels.find()[1]}, {', '.join(versions)}")
    print(markdown(["architecture", *COLUMNS], [[name, *count(found[name])] for name in options.only]))
    for note in sorted({finding.note for findings in found.values() for finding in findings.values()} - {""}):
        print(f"note: {note}")
    for name, findings in found.items():
        for finding in findings.values():
            print(*(f"{name} {problem}\n" for problem in finding.problems), sep="", end="")
        print(f"{name}: {len(findings.keys() & known.keys())} kernels not compiled again")
    if options.again or options.record:
        write_checked(found)
    return 1 if any(finding.problems for findings in found.values() for finding in findings.values()) else 0


def count(findings: Mapping[str, Finding]) -> list[str]:
    """Return the numbers of `COLUMNS`."""
    numbers = [
        len(findings),
        sum(finding.has_float64 for finding in findings.values()),
        sum(finding.has_quotients for finding in findings.values()),
        sum(len(finding.problems) for finding in findings.values()),
    ]
    return [str(number) for number in numbers]


def digest(kernel: Kernel, architecture: str) -> str:
    """Return a SHA-256 of all that decides what is found: source, options, compiler, and these scripts."""
    folder = str(Path(importlib.import_module("cupy").__file__).parent)
    texts = [repr(tuple(kernel)).replace(folder, "cupy"), architecture]
    texts += [f"{name} {metadata.version(name)}" for name in (tools.NVRTC, tools.DISASSEMBLER)]
    texts += [Path(path).read_text() for path in (__file__, tools.__file__)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def read_checked() -> dict[str, Finding]:
    """Return the findings in kernels that were compiled without a problem, by digest."""
    checked = json.loads(CHECKED.read_text())
    return {key: Finding(*row, ()) for findings in checked.values() for key, row in findings.items()}


def write_checked(found: Mapping[str, Mapping[str, Finding]]) -> None:
    """Keep, by architecture, what was found in kernels without a problem."""
    content = json.loads(CHECKED.read_text()) | {
        name: {key: finding[:-1] for key, finding in findings.items() if not finding.problems}
        for name, findings in found.items()
    }
    lines = json.dumps(content, separators=(",", ":"), sort_keys=True).replace('],"', '],\n"')
    write_generated(CHECKED, f"{lines}\n")


def check_kernels(
    kernels: Sequence[Kernel], architecture: str, known: Mapping[str, Finding]
) -> dict[str, Finding]:
    """Return what is in kernels, by digest: those that are not known are compiled and disassembled."""
    keys = {digest(kernel, architecture): kernel for kernel in kernels}
    batches: dict[tuple[str, ...], dict[str, Kernel]] = {}
    for key, kernel in keys.items():
        if key not in known:
            batches.setdefault(kernel.options, {})[key] = kernel
    found = {key: known[key] for key in keys if key in known}
    if not batches:
        return found
    spawn = multiprocessing.get_context("spawn")  # beside the emulated device, NVRTC crashes
    with ProcessPoolExecutor(available_cpus(), mp_context=spawn) as pool:
        compiled = [
            (batch, pool.submit(tools.compile_kernels, [*batch.values()], architecture))
            for batch in batches.values()
        ]
        for batch, future in compiled:
            for (key, kernel), (ptx, sass) in zip(batch.items(), future.result(), strict=True):
                found[key] = find(kernel, ptx, sass)
    return found


def find(kernel: Kernel, ptx: set[str], sass: Sequence[str]) -> Finding:
    """Return what is in a kernel, by its opcodes before and after the assembler."""
    if not any(".f64" in opcode for opcode in ptx):
        return Finding(has_float64=False, has_quotients=False, note="", problems=())
    problems = find_problems(ptx, sass)
    note = ""
    if has(FLUSHED_INPUT, ptx):
        note = f"{kernel.name} reads float32, and flushes subnormal numbers to zero"
    if kernel.name == EXACT_PRODUCTS and (fused := "fuses a product and a sum: DFMA") in problems:
        problems.remove(fused)
        note = f"{kernel.name} fuses products and sums of slices, which are exact either way"
    problems = [f"{kernel.name}: {problem}" for problem in problems]
    return Finding(has_float64=True, has_quotients=has(QUOTIENT, ptx), note=note, problems=problems)


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
