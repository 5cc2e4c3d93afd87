"""Rules for machine code that computes in float64 as IEEE 754 says, one operation at a time."""

import re
from collections.abc import Collection, Iterable

RULES = {
    "fuses a product and a sum": re.compile(r"D(?:FMA|MMA).*"),
    "approximates": re.compile(r"MUFU.*"),
    "flushes to zero": re.compile(r".*\.FTZ.*"),
    "does not round to nearest": re.compile(r"D(?:ADD|MUL)\.R[MPZ]"),
}
"""Opcodes that machine code must not have."""
FUSED = "fuses a product and a sum: DFMA"
"""The problem of a kernel that breaks the first rule."""
QUOTIENT = re.compile(r"(?:div|sqrt)\.rn\.f64")
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
FUSIBLE = re.compile(r"(?:add|sub|mul|fma|mad)\.[\w.]*f64")
INEXACT = re.compile(r"(?=.*\.f64).*\.(?:approx|ftz)\b.*")
PTX_OPCODE = re.compile(r"(?<![\w.%$])[a-z][a-z0-9]*(?:\.[a-z]\w*)+")


def read_ptx_opcodes(ptx: str) -> set[str]:
    """Return the opcodes in PTX, such as ``add.f64``."""
    return set(PTX_OPCODE.findall(ptx))


def uses_float64(ptx: Iterable[str]) -> bool:
    """Return whether an opcode of PTX is of float64."""
    return any(".f64" in opcode for opcode in ptx)


def has(pattern: re.Pattern[str], opcodes: Iterable[str]) -> bool:
    """Return whether one of the opcodes is of a pattern."""
    return any(map(pattern.fullmatch, opcodes))


def find_problems(ptx: Collection[str], sass: Iterable[str]) -> list[str]:
    """Return what breaks the rules, a line each.

    Parameters
    ----------
    ptx, sass
        The opcodes before and after the assembler, which is part of NVRTC. It may fuse products and sums that
        PTX has apart, so `sass` decides. An expansion of quotients fuses too: beside it in a kernel, no
        product or sum may stand that could have been fused.
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
