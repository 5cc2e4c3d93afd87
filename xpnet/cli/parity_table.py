"""The table of a parity run, for people."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

from xpnet.parity.distance import count_shown
from xpnet.parity.runs import Kind, Row, tolerance_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

GAP: Final = "  "
RIGHT: Final = {"epoch", "layer", "max ulp", "max rel", "time"}
DISPENSABLE: Final = ("time", "version", "max rel", "layer", "epoch")
"""The columns that a narrow terminal does without, the first one first."""

DIFFERS: Final = "differs from"
"""Stands above the columns epoch and layer."""

STYLES: Final = {"same": "green", "close": "green", "FAIL": "bold red"}


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """Print the rows under a heading for each arithmetic, as wide as they are or the terminal is."""
    cells = [_cells(row) for row in rows]
    widths = {name: max(len(name), *(len(cell[name]) for cell in cells)) for name in cells[0]}
    for column in DISPENSABLE:
        width = sum(widths.values()) + len(GAP) * (len(widths) - 1)
        if console.is_terminal and width > console.width:
            del widths[column]
    for line in _header(widths):
        _print(console, Text(line, style="bold"))
    kinds = groupby(zip(rows, cells, strict=True), key=lambda pair: pair[0].kind)
    for position, (kind, group) in enumerate(kinds):
        _print(console, Text("\n" * (position > 0) + heading(kind)))
        for row, cell in group:
            line = _line(widths, cell)
            end = len(line) - len(row.verdict)
            _print(console, Text.assemble(line[:end], (line[end:], STYLES[row.verdict])))


def heading(kind: Kind) -> str:
    """Return what an arithmetic promises."""
    if kind.tolerance is None:
        return f"{kind}: bit for bit as NumPy"
    return f"{kind}: within {tolerance_shown(kind.tolerance)} of NumPy, relative to each tensor's largest"


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def _cells(row: Row) -> dict[str, str]:
    return {
        "backend": row.backend,
        "version": row.version.partition("+")[0],
        "device": row.device,
        "fingerprint": (row.fingerprint or "-")[:12],
        "epoch": "-" if row.epoch is None else str(row.epoch),
        "layer": "-" if row.layer is None else str(row.layer),
        "max ulp": "-" if row.max_ulp is None else count_shown(row.max_ulp),
        "max rel": _relative(row.max_relative),
        "time": "-" if row.seconds is None else f"{row.seconds:.1f} s",
        "verdict": row.verdict,
    }


def _relative(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:.1e}" if number else "0"


def _header(widths: dict[str, int]) -> list[str]:
    """Return the names of the columns, and above them what epoch and layer are about."""
    names = _line(widths, {name: name for name in widths})
    if "epoch" not in widths or "layer" not in widths:
        return [names]
    return [DIFFERS.rjust(names.index("layer") + len("layer")), names]


def _line(widths: dict[str, int], cells: dict[str, str]) -> str:
    return GAP.join(
        cells[name].rjust(width) if name in RIGHT else cells[name].ljust(width)
        for name, width in widths.items()
    ).rstrip()
