"""Tables of text: coloured and no wider than a terminal, plain and as wide as they are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from rich.console import Console

GAP: Final = "  "
WIDEST: Final = 48
"""Characters to which cells are padded; a longer one pushes the rest of its line aside."""


class Cell(NamedTuple):
    """A text, which is printed as it is, and its style."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A heading and the cells under it."""

    heading: str
    cells: Sequence[Cell]
    right: bool = False
    """Whether the cells are flush right, as numbers are."""

    @property
    def width(self) -> int:
        """Characters that the column takes."""
        texts = [self.heading, *(cell.text for cell in self.cells)]
        return min(WIDEST, max(map(cell_len, texts)))


def print_line(console: Console, text: str = "", style: str = "") -> None:
    """Print `text` as it is, on one line however narrow the terminal is."""
    console.print(Text(text, style=style), soft_wrap=True, highlight=False)


def print_table(console: Console, columns: Sequence[Column], indent: str = "") -> None:
    """Print the columns side by side."""
    widths = [column.width for column in columns]
    heading = [Cell(column.heading, "bold") for column in columns]
    rows = [heading, *zip(*(column.cells for column in columns), strict=True)]
    right = [column.right for column in columns]
    lines = [_line(row, widths, right, indent) for row in rows]
    console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)


def without_dispensable(
    console: Console, columns: Mapping[str, Column], dispensable: Iterable[str]
) -> list[Column]:
    """Return the columns, on a narrow terminal without those that it can do without, the first one first."""
    kept = dict(columns)
    for name in dispensable:
        if console.is_terminal and _total(kept.values()) > console.width:
            kept.pop(name, None)
    return list(kept.values())


def side_by_side(console: Console, first: Column, others: Sequence[Column]) -> Iterable[list[Column]]:
    """Yield tables of the first column and as many others as the terminal has room for, at least one."""
    table = [first]
    for column in others:
        full = console.is_terminal and _total([*table, column]) > console.width
        if full and len(table) > 1:
            yield table
            table = [first]
        table.append(column)
    yield table


def _total(columns: Collection[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _line(row: Iterable[Cell], widths: list[int], right: list[bool], indent: str) -> Text:
    line = Text(indent)
    for position, (cell, width, flush) in enumerate(zip(row, widths, right, strict=True)):
        padding = " " * (width - cell_len(cell.text))
        line.append(GAP * (position > 0) + padding * flush)
        line.append(cell.text, style=cell.style)
        line.append(padding * (not flush))
    line.rstrip()
    return line
