"""Safe text for terminals: escapes, suggestions, JSON, messages."""

import difflib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Timer

from xpnet._typing import Shape


def plain(text: object) -> str:
    r"""Return `text` on one line, with escapes for control and other unprintable characters.

    Characters that standard output cannot encode are escaped too, as in ``\x1b``.
    """
    escaped = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(text))
    return encodable("".join(escaped), sys.stdout)


def plain_lines(text: str) -> str:
    """Return `text` as `plain` does, but with its line ends."""
    return "\n".join(map(plain, text.split("\n")))


def encodable(text: str, stream: object) -> str:
    """Return `text` with escapes for the characters that the encoding of a stream lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def format_names(names: Sequence[str]) -> str:
    """Return names for a message: at most ten of them, and at most 41 characters of each."""
    texts = list(map(shorten, names[:10]))
    return ", ".join([*texts, f"and {len(names) - 10} more"] if len(names) > 10 else texts)


def shorten(text: str) -> str:
    """Return a cell for a message: at most 41 characters, escaped."""
    escaped = plain(text[:160])
    return escaped if len(escaped) <= 40 else f"{escaped[:40]}…"


def quote(text: str) -> str:
    """Return a cell in quotes for a message."""
    return f"'{shorten(text)}'"


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Return ": did you mean CHOICE?" with the choice closest to `word`, after a prefix, "" without one."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f": did you mean {prefix}{near[0]}?" if near else ""


def format_shape(shape: Shape) -> str:
    """Return a shape for a message, such as 60000x28x28."""
    return "x".join(map(str, shape)) or "()"


def join_lines(text: object) -> str:
    """Return a text, such as that of an error, on one line."""
    return " ".join(str(text).split())


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as 1 step or 2 steps."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration in the unit that gives a short number."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_json(value: object) -> str:
    """Return `value` as indented JSON in printable ASCII."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def csv_field(value: object) -> object:
    """Return a value for a CSV file: text that a spreadsheet would compute begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def align(rows: Iterable[Sequence[str]], *, left: int = 1, gap: str = "  ") -> list[str]:
    """Return the lines of a table of rows, of which the first `left` columns are left-aligned."""
    columns = [[*column] for column in zip(*rows, strict=True)]
    for number, column in enumerate(columns):
        width, pad = max(map(len, column)), str.ljust if number < left else str.rjust
        column[:] = [pad(cell, width) for cell in column]
    return [gap.join(cells).rstrip() for cells in zip(*columns, strict=True)]


def complain(text: str) -> None:
    """Print one line on standard error. Ignore errors in writing."""
    print_errors(f"xpnet: {plain(text)}\n")


def print_errors(text: str) -> None:
    """Print lines on standard error, with escapes. Ignore errors in writing."""
    try:
        print(plain_lines(text), end="", file=sys.stderr, flush=True)
    except OSError:
        # The buffered text would fail again at exit and change the exit code.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def format_command_line(words: list[str]) -> str:
    """Join the words of a command, quoted for a shell; the first word is the program with its arguments."""
    return " ".join([*words[:1], shlex.join(words[1:])])


@contextmanager
def announce(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Print a note on standard error, if it is a terminal and not ``quiet``, once the body takes a second."""
    timer = Timer(1.0, complain, [f"note: {text}"])
    try:
        if sys.stderr.isatty() and not quiet:
            timer.start()
        yield
    finally:
        timer.cancel()
