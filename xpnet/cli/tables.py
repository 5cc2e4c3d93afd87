"""Text output: tables coloured and fitted to a terminal; elsewhere plain and complete."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xpnet._lib.terminal import style_text
from xpnet._lib.text import plain

LONGEST = 44
"""The largest number of characters of a value in a table; --json and --csv give the whole value."""
FINGERPRINT_DIGITS = 12
WHOLE = 10**7
"""A width in characters that no line exceeds, so that none is wrapped or cut."""

Cell = str | Text
"""A string, whose control characters are escaped later, or escaped text with an optional colour."""


class Column(NamedTuple):
    """A heading and the cells below it, right-aligned as for numbers, or left-aligned."""

    heading: Cell
    cells: Sequence[Cell]
    right: bool = True


def make_columns(headings: Iterable[Cell], rows: Iterable[Sequence[Cell]], *, left: int = 0) -> list[Column]:
    """Return the columns of a table of rows; the first `left` of them are left-aligned."""
    columns = enumerate(zip(headings, *rows, strict=True))
    return [Column(heading, cells, right=number >= left) for number, (heading, *cells) in columns]


def format_value(value: object) -> str:
    """Format a setting, a name or another JSON value as a cell; long values lose their middle."""
    if value is None:
        return "-"
    text = plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 2]}...{text[1 - LONGEST // 2 :]}"


def format_metric(name: str, value: object) -> str:
    """Format the metric `name` as a cell: counts as integers, seconds with a decimal, a digest's digits."""
    if name == "fingerprint" and isinstance(value, str):
        return plain(value[:FINGERPRINT_DIGITS])
    if not isinstance(value, float):
        return format_value(value)
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def print_pairs(console: Console, pairs: Mapping[str, Cell], *, indent: str = "  ", width: int = 24) -> None:
    """Print names and values, one pair a line."""
    for name, value in pairs.items():
        console.print(Text.assemble(indent, f"{format_value(name):<{width}}", style_text(value)))


def print_table(console: Console, columns: Sequence[Column], *, indent: str = "") -> None:
    """Print columns as a table; on a narrow terminal as several, each with the first column."""
    count = len(columns)
    while count > 2 and not fits(console, columns[:count]):
        count -= 1
    for line in render_table(console, columns[:count]):
        console.print(Text.assemble(indent, line))
    if remaining := columns[count:]:
        print_table(console, [columns[0], *remaining], indent=indent)


def fits(console: Console, columns: Sequence[Column]) -> bool:
    """Return whether columns fit side by side on the terminal; True if output goes elsewhere."""
    table, wide = _build_table(columns), console.options.update_width(WHOLE)
    return not console.is_terminal or Measurement.get(console, wide, table).maximum <= console.width


def select_fitting(
    console: Console, columns: Mapping[str, Column], dispensable: Iterable[str]
) -> list[Column]:
    """Return the columns that fit on the terminal, without the first dispensable ones as far as need be."""
    kept = dict(columns)
    for name in dispensable:
        if not fits(console, [*kept.values()]):
            kept.pop(name, None)
    return [*kept.values()]


def render_table(console: Console, columns: Sequence[Column]) -> list[Text]:
    """Return the lines of a table: first the headings, then the rows."""
    lines = []
    for parts in console.render_lines(_build_table(columns), console.options.update_width(WHOLE), pad=False):
        lines.append(Text.assemble(*((part.text, part.style or "") for part in parts)))
        lines[-1].rstrip()
    return lines


def _build_table(columns: Sequence[Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        side: Any = "right" if column.right else "left"
        table.add_column(style_text(column.heading), justify=side, vertical="bottom", no_wrap=True)
    for cells in zip_longest(*(column.cells for column in columns), fillvalue="-"):
        table.add_row(*map(style_text, cells))
    return table
