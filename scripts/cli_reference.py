"""Writes docs/cli.md, the reference of the command line, from what ``--help`` of every command prints."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from unittest.mock import patch

from checkout import ROOT

from xpnet.__main__ import COMMANDS, main
from xpnet._lib.files import write_atomic

PAGE = ROOT / "docs" / "cli.md"
TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1"}

INTRODUCTION = """\
# Command line

What `--help` of every command prints. `python -m xpnet` is the same as `xpnet`, and
`python -m xpnet.train` as `xpnet train`.

<!-- Written by python scripts/cli_reference.py: change the help texts, not this page. -->
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
    """Return what ``xpnet WORDS`` prints at a width of 100 columns."""
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


def _section(title: str, text: str) -> str:
    return f"{title}\n\n```\n{text}```\n"


if __name__ == "__main__":
    write_atomic(PAGE, page().encode())
    print(PAGE)
