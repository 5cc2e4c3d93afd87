"""Text for a terminal: what stands in files and names can do no harm there."""

from __future__ import annotations

import difflib
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def plain(text: object) -> str:
    r"""Return `text` on one line, with escapes for control characters and what else does not print.

    Escapes (``\x1b``) also stand for characters that standard output cannot encode.
    """
    escaped = str(text)
    if not escaped.isprintable():
        escaped = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in escaped
        )
    if escaped.isascii():
        return escaped
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return escaped.encode(encoding, "backslashreplace").decode(encoding)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ": did you mean CHOICE?" for the choice that a word is most like; nothing if there is none."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f": did you mean {near[0]}?" if near else ""


def format_json(value: object) -> str:
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
