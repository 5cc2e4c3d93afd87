"""Writes docs/cli.md, the reference of the command line, from what ``--help`` of every command prints.

``python scripts/cli_reference.py`` writes the page; with ``--check`` it says whether the page is up to
date, and exits with code 1 if not.
"""

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from xpnet.__main__ import COMMANDS, main
from xpnet._lib.files import write_atomic

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1"}
REMEDY = "python scripts/cli_reference.py"

INTRODUCTION = f"""\
# Command line

What `--help` of every command prints. `python -m xpnet` is the same as `xpnet`, and
`python -m xpnet.train` as `xpnet train`.

<!-- Written by {REMEDY}: change the help texts, not this page. -->
"""


def page() -> str:
    """Return the page: a section for each command, and one below it for each of its actions."""
    sections = [INTRODUCTION, _section(2, "xpnet", help_of())]
    for command in COMMANDS:
        text = help_of(command)
        sections.append(_section(2, f"xpnet {command}", text))
        sections += [
            _section(3, f"xpnet {command} {action}", help_of(command, action)) for action in actions(text)
        ]
    return "\n".join(sections)


def help_of(*words: str) -> str:
    """Return what ``xpnet WORDS --help`` prints at a width of 100 columns."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    with patch.dict(os.environ, TERMINAL), contextlib.redirect_stdout(out):
        try:
            code = main([*words, "--help"])
        except SystemExit as ended:
            code = ended.code
    if code:
        msg = f"xpnet {' '.join(words)} --help: expected exit code 0, got {code}"
        raise RuntimeError(msg)
    out.seek(0)
    lines = [line.rstrip() for line in out.read().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def actions(text: str) -> list[str]:
    """Return the second words that a command takes, such as list of xpnet runs list, by its help."""
    block = re.search(r"^positional arguments:\n  [A-Z]+\n((?:    .*\n)+)", text, re.MULTILINE)
    return [] if block is None else re.findall(r"^    ([a-z]+)\b", block[1], re.MULTILINE)


def is_current(path: Path) -> bool:
    """Return whether the page in `path` says what the help says.

    Its layout is up to the libraries that print it, and to their versions: it does not count.
    """
    return path.exists() and _words(path.read_text(encoding="utf-8")) == _words(page())


def _words(text: str) -> list[str]:
    return re.sub(r"[\u2500-\u257f]", " ", text).split()


def _section(level: int, title: str, text: str) -> str:
    return f"{'#' * level} {title}\n\n```\n{text}```\n"


def run(argv: Sequence[str] | None = None) -> int:
    """Write the page, or check it, and return the exit code."""
    parser = argparse.ArgumentParser(description="Write the reference of the command line.")
    parser.add_argument("--check", action="store_true", help="say whether it is up to date")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (default: docs/cli.md)")
    arguments = parser.parse_args(argv)
    if not arguments.check:
        write_atomic(arguments.page, page().encode())
        print(arguments.page)
        return 0
    if is_current(arguments.page):
        return 0
    print(f"{arguments.page}: not what --help says: run {REMEDY}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(run())
