"""Text for a terminal: what stands in files and names can do no harm there."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 44
"""Characters of a value in a table; --json and --csv give all of them."""


def plain(text: object) -> str:
    r"""Return `text` on one line, with escapes for control characters and what else does not print.

    Escapes (``\x1b``) also stand for characters that standard output cannot encode.
    """
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else _escaped(each) for each in shown)
    if shown.isascii():
        return shown
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return `text` with its middle left out if it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    kept = longest - len("...")
    return f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"


def value_shown(value: object) -> str:
    """Return a setting, or another JSON value, as a cell of a table."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(plain(text))


def figure_shown(name: str, figure: float | None) -> str:
    """Return the metric `name` as a cell of a table: counts whole, seconds rounded more than others."""
    if figure is None:
        return "-"
    if isinstance(figure, int):
        return shortened(str(figure))
    if name == "seconds":
        return f"{figure:.1f}"
    return f"{figure:.4f}" if 0.001 <= abs(figure) < 1e6 or figure == 0 else f"{figure:.4g}"


def json_text(value: Any) -> str:
    """Return `value` as JSON in printable ASCII, over several lines."""
    return json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def csv_text(heading: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; None becomes an empty field, and lists become JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_field(name) for name in heading])
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def complain(text: str) -> None:
    """Print one line on standard error, if it can be written to."""
    with suppress(OSError):
        print(f"xpnet: {text}", file=sys.stderr, flush=True)
