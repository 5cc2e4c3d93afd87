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
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from checkout import ROOT

from xpnet.__main__ import COMMANDS, main
from xpnet._lib.files import write_atomic

PAGE = ROOT / "docs" / "cli.md"
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
    sections = [INTRODUCTION, _section("## xpnet", printed("--help"))]
    for words in commands():
        title = f"{'#' * (len(words) + 1)} xpnet {' '.join(words)}"
        sections.append(_section(title, printed(*words, "--help")))
    return "\n".join(sections)


def commands() -> Iterator[list[str]]:
    """Yield the words of each command, and of its actions, such as ``runs list``, which its help lists."""
    for command in COMMANDS:
        yield [command]
        text = printed(command, "--help")
        block = re.search(r"^positional arguments:\n  [A-Z]+\n((?:    .*\n)+)", text, re.MULTILINE)
        for action in re.findall(r"^    ([a-z]+)\b", block[1] if block else "", re.MULTILINE):
            yield [command, action]


def printed(*words: str) -> str:
    """Return what ``xpnet WORDS`` prints at a width of 100 columns.

    Raises
    ------
    RuntimeError
        The command fails.
    """
    out = io.StringIO()
    with patch.dict(os.environ, TERMINAL), contextlib.redirect_stdout(out):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
    if code:
        msg = f"xpnet {' '.join(words)}: expected exit code 0, got {code}"
        raise RuntimeError(msg)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def is_current(path: Path) -> bool:
    """Return whether the page in `path` says what the help says.

    Its layout is up to the libraries that print it, and to their versions: it does not count.
    """
    return path.exists() and _words(path.read_text(encoding="utf-8")) == _words(page())


def _words(text: str) -> list[str]:
    return re.sub(r"[\u2500-\u257f]", " ", text).split()


def _section(title: str, text: str) -> str:
    return f"{title}\n\n```\n{text}```\n"


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
