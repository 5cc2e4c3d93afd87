"""Writes docs/cli.md, the reference of the command line, from what ``--help`` of every command prints.

Writes the table of optimisers in docs/training.md too, from xpnet/nn/optim.py.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from unittest.mock import patch

from checkout import ROOT
from shared import markdown, write_generated, write_part

from xpnet.__main__ import COMMANDS, main
from xpnet.nn.optim import OPTIMIZERS

PAGE = ROOT / "docs" / "cli.md"
TRAINING = ROOT / "docs" / "training.md"

INTRODUCTION = """\
# Command line

What `--help` of every command prints. `python -m xpnet` is the same as `xpnet`, and
`python -m xpnet.train` as `xpnet train`.

<!-- Written by python scripts/cli_reference.py: change the help texts, not this page. -->
"""


def page() -> str:
    """Return the page: a section for each command, and one below it for each of its actions."""
    text = INTRODUCTION
    for words in ([], *commands()):
        title = " ".join(["#" * max(2, len(words) + 1), "xpnet", *words])
        text += f"\n{title}\n\n```\n{printed(*words, '--help')}```\n"
    return text


def optimizers() -> str:
    """Return the table of optimisers."""
    rows = [(f"`{name}`", rule.summary, rule.learning_rate) for name, rule in OPTIMIZERS.items()]
    return markdown(("`--optimizer`", "update", "typical learning rate"), rows, "---")


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
    terminal = patch.dict(os.environ, COLUMNS="100", NO_COLOR="1")
    with terminal, contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(words)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


if __name__ == "__main__":
    write_generated(PAGE, page())
    write_part(TRAINING, "optimisers", optimizers())
    print(PAGE, TRAINING)
