"""Text for a terminal: what stands in files and names can do no harm there."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any


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


def json_text(value: Any) -> str:
    """Return `value` as JSON in printable ASCII, over several lines."""
    return json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def complain(text: str) -> None:
    """Print one line on standard error, if it can be written to."""
    try:
        print(f"xpnet: {plain(text)}", file=sys.stderr, flush=True)
    except OSError:
        # What waits in the buffer would fail again when Python ends, with an exit code of its own.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
