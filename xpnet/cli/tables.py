"""Lines and tables for people: coloured and fitted to a terminal; elsewhere plain and whole."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xpnet._lib.text import plain

LONGEST = 44
"""Characters of a value in a table; --json and --csv give all of them."""
WHOLE = 10**7
"""Characters that a line has room for, so that none is broken or cut."""

Cell = str | Text
"""Text in which control characters are still to be escaped, or text that has none and perhaps a colour."""


class Column(NamedTuple):
    """A heading and the cells under it, flush right as numbers are, or left."""

    heading: Cell
    cells: Sequence[Cell]
    right: bool = True


def columns_of(headings: Iterable[Cell], rows: Iterable[Sequence[Cell]], *, left: int = 0) -> list[Column]:
    """Return the columns of a table that is there row by row; the first `left` of them are flush left."""
    columns = enumerate(zip(headings, *rows, strict=True))
    return [Column(heading, cells, right=number >= left) for number, (heading, *cells) in columns]


def new_console(**options: Any) -> Console:
    """Return what prints on standard output: it breaks no lines, and sees no markup in them."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)


def styled(text: object, style: str = "") -> Text:
    """Return text with escapes for control characters, in a colour."""
    return text if isinstance(text, Text) else Text(plain(text), style)


def format_value(value: object) -> str:
    """Return a setting, a name or another JSON value as a cell: a long one without its middle."""
    if value is None:
        return "-"
    text = plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 2]}...{text[1 - LONGEST // 2 :]}"


def format_metric(name: str, value: Any) -> str:
    """Return the metric `name` as a cell: counts whole, seconds rounded more than others."""
    if not isinstance(value, float):
        return format_value(value)
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def print_pairs(console: Console, pairs: Mapping[str, Cell], *, indent: str = "  ", width: int = 24) -> None:
    """Print names, each with what it stands for on the same line."""
    for name, value in pairs.items():
        console.print(Text.assemble(indent, f"{format_value(name):<{width}}", styled(value)))


def print_table(console: Console, columns: Sequence[Column], *, indent: str = "") -> None:
    """Print columns side by side; on a terminal without room for all, in tables that begin with the first."""
    count = len(columns)
    while count > 2 and not fits(console, columns[:count]):
        count -= 1
    for line in table_lines(console, columns[:count]):
        console.print(Text.assemble(indent, line))
    if others := columns[count:]:
        print_table(console, [columns[0], *others], indent=indent)


def fits(console: Console, columns: Sequence[Column]) -> bool:
    """Return whether there is room for columns: on a terminal as wide as that is, elsewhere always."""
    wide = console.options.update_width(WHOLE)
    return not console.is_terminal or Measurement.get(console, wide, _table(columns)).maximum <= console.width


def table_lines(console: Console, columns: Sequence[Column]) -> list[Text]:
    """Return the lines of a table: the headings, then the rows."""
    lines = []
    for parts in console.render_lines(_table(columns), console.options.update_width(WHOLE), pad=False):
        lines.append(Text.assemble(*((part.text, part.style or "") for part in parts)))
        lines[-1].rstrip()
    return lines


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        justify: Any = "right" if column.right else "left"
        table.add_column(styled(column.heading), justify=justify, vertical="bottom", no_wrap=True)
    for cells in zip_longest(*(column.cells for column in columns), fillvalue="-"):
        table.add_row(*map(styled, cells))
    return table
