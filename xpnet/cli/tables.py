"""Text output: tables coloured and fitted to a terminal; elsewhere plain and complete."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from xpnet._lib.text import plain
from xpnet.training.terminal import style_text

LONGEST = 44
"""The largest number of characters of a value in a table; --json and --csv give the whole value."""
FINGERPRINT_DIGITS = 12
GAP = "  "
"""The space between two columns."""

Cell = str | Text
"""A string, whose control characters are escaped later, or escaped text with an optional colour."""


Column = list[Text]
"""The lines of a heading and of the cells below it, padded to the same width."""


def make_column(heading: Cell, cells: Iterable[Cell], *, right: bool = True) -> Column:
    """Return a column, right-aligned as for numbers, or left-aligned."""
    lines = [*style_text(heading, "bold").split("\n"), *map(style_text, cells)]
    width = max(line.cell_len for line in lines)
    for line in lines:
        line.align("right" if right else "left", width)
    return lines


def make_columns(headings: Iterable[Cell], rows: Iterable[Sequence[Cell]], *, left: int = 0) -> list[Column]:
    """Return the columns of a table of rows; the first `left` of them are left-aligned."""
    columns = enumerate(zip(headings, *rows, strict=True))
    return [make_column(heading, cells, right=number >= left) for number, (heading, *cells) in columns]


def to_line(value: object) -> str:
    """Return text, or another JSON value as text, on one line."""
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def format_cell(value: object) -> str:
    """Format a setting, a name or another JSON value as a cell; long values lose their middle."""
    if value is None:
        return "-"
    text = to_line(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 2]}...{text[1 - LONGEST // 2 :]}"


def format_metric(name: str, value: object) -> str:
    """Format the metric `name` as a cell: counts as integers, seconds with a decimal, a digest's digits."""
    if name == "fingerprint" and isinstance(value, str):
        return plain(value[:FINGERPRINT_DIGITS])
    if not isinstance(value, float):
        return format_cell(value)
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def print_pairs(console: Console, pairs: Mapping[str, Cell], *, indent: str = "  ", width: int = 24) -> None:
    """Print names and values, one pair a line."""
    for name, value in pairs.items():
        console.print(Text.assemble(indent, f"{format_cell(name):<{width}}", style_text(value)))


def print_table(console: Console, columns: Sequence[Column], *, indent: str = "") -> None:
    """Print columns as a table; on a narrow terminal as several, each with the first column."""
    count = len(columns)
    while count > 2 and not fits(console, columns[:count]):
        count -= 1
    for line in render_table(columns[:count]):
        console.print(Text.assemble(indent, line))
    if remaining := columns[count:]:
        print_table(console, [columns[0], *remaining], indent=indent)


def fits(console: Console, columns: Sequence[Column]) -> bool:
    """Return whether columns fit side by side on the terminal; True if output goes elsewhere."""
    widths = [column[0].cell_len for column in columns]
    return not console.is_terminal or sum(widths) + len(GAP) * (len(widths) - 1) <= console.width


def select_fitting(console: Console, columns: dict[str, Column], dispensable: Iterable[str]) -> list[Column]:
    """Return the columns that fit on the terminal, without the first dispensable ones as far as need be."""
    kept = dict(columns)
    for name in dispensable:
        if not fits(console, [*kept.values()]):
            kept.pop(name, None)
    return [*kept.values()]


def render_table(columns: Sequence[Column]) -> list[Text]:
    """Return the lines of a table: first the headings, which have as many lines each, then the rows."""
    lines = [Text(GAP).join(row) for row in zip_longest(*columns, fillvalue=Text("-"))]
    for line in lines:
        line.rstrip()
    return lines
