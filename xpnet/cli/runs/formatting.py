"""Values, tables and whole results as text, JSON or CSV.

Text is coloured and no wider than a terminal; elsewhere it is plain and as wide as it needs to be.
"""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from xpnet._lib.text import json_text, plain

LONGEST: Final = 44
"""Characters of a value in a table; --json and --csv give all of them."""
GAP: Final = "  "
WIDEST: Final = 48
"""Characters to which cells are padded; a longer one pushes the rest of its line aside."""


class Column(NamedTuple):
    """A heading and the cells under it."""

    heading: str
    cells: Sequence[Text]
    right: bool = False
    """Whether the cells are flush right, as numbers are."""

    @property
    def width(self) -> int:
        """Characters that the column takes."""
        return min(WIDEST, max(cell_len(self.heading), *(cell.cell_len for cell in self.cells), 0))


def shortened(text: str) -> str:
    """Return `text` with its middle left out if it is longer than `LONGEST` characters."""
    if len(text) <= LONGEST:
        return text
    kept = LONGEST - len("...")
    return f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"


def format_value(value: object) -> str:
    """Return a setting, a name or another JSON value as a cell of a table."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(plain(text))


def format_metric(name: str, value: float | None) -> str:
    """Return the metric `name` as a cell of a table: counts whole, seconds rounded more than others."""
    if value is None or isinstance(value, int):
        return format_value(value)
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def print_result(
    arguments: Namespace,
    value: Any,
    table: tuple[Sequence[object], Iterable[Sequence[object]]],
    print_text: Callable[[Console], None],
) -> None:
    """Print a result in the form that is asked for: a JSON value, a heading with rows as CSV, or text."""
    if arguments.json:
        sys.stdout.write(json_text(value))
    elif arguments.csv:
        heading, rows = table
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([_field(value) for value in row] for row in (heading, *rows))
    else:
        print_text(Console(highlight=False))


def print_line(console: Console, text: str = "", style: str = "") -> None:
    """Print `text` as it is, on one line however narrow the terminal is."""
    console.print(Text(text, style=style), soft_wrap=True, highlight=False)


def print_pair(
    console: Console, name: str, text: str, style: str = "", *, indent: str = "  ", width: int = 24
) -> None:
    """Print a name and what it stands for, on one line."""
    print_line(console, f"{indent}{format_value(name):<{width}}{text}", style)


def print_table(console: Console, columns: Sequence[Column], indent: str = "") -> None:
    """Print the columns side by side."""
    rows = max((len(column.cells) for column in columns), default=0)
    lines = [Text(indent) for _ in range(1 + rows)]
    for column in columns:
        for line, cell in zip(lines, (Text(column.heading, "bold"), *column.cells), strict=True):
            padding = " " * (column.width - cell.cell_len)
            line.append(padding * column.right).append_text(cell)
            line.append(padding * (not column.right) + GAP)
    for line in lines:
        line.rstrip()
    console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)


def print_tables(console: Console, first: Column, others: Sequence[Column]) -> None:
    """Print tables of the first column and as many others as the terminal has room for, at least one."""
    table = [first]
    for column in others:
        if len(table) > 1 and not _fit(console, [*table, column]):
            print_table(console, table)
            table = [first]
        table.append(column)
    print_table(console, table)


def without_dispensable(
    console: Console, columns: Mapping[str, Column], dispensable: Iterable[str]
) -> list[Column]:
    """Return the columns, on a narrow terminal without those that it can do without, the first one first."""
    kept = dict(columns)
    for name in dispensable:
        if not _fit(console, kept.values()):
            kept.pop(name, None)
    return list(kept.values())


def _fit(console: Console, columns: Collection[Column]) -> bool:
    width = sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)
    return not console.is_terminal or width <= console.width


def _field(value: object) -> object:
    """Return a value as a field of CSV: None is an empty field, and a list is JSON."""
    if value is None or isinstance(value, int | float):
        return value
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
