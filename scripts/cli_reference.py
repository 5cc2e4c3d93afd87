"""Writes docs/cli.md, the reference of the command line, from what ``--help`` of every command prints.

Writes the table of optimisers in docs/training.md too, from xpnet/nn/optim.py.
"""

import contextlib
import io
import os
import re
import textwrap
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

What `--help` of every command prints, but for options that an earlier one explains in the same words. Of the
settings of `xpnet train` it has values and defaults: [training](training.md) explains them by topic, and
`xpnet train --help`. Every command has `-h` and `--debug`, which shows the whole traceback of an error,
and the exit codes 0 done, 2 bad input and 130 interrupted, where it names no others.
`python -m xpnet` is the same as `xpnet`, and `python -m xpnet.train` as `xpnet train`.

<!-- Written by python scripts/cli_reference.py: change the help texts, not this page. -->
"""


OPTION = re.compile(r"^  (-.*)\n(?:[ ]{7,}.*\n)*", re.MULTILINE)
OPTIONAL = re.compile(r"(?:\s+\[-[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\])+")


def page() -> str:
    """Return the page: a section for each command, and one below it for each of its actions."""
    text, explained = INTRODUCTION, dict[str, str]()
    for words in ([], *commands()):
        command = " ".join(["xpnet", *words])
        help_text = abridge(printed(*words, "--help"), command, explained)
        text += f"\n{'#' * max(2, len(words) + 1)} {command}\n\n```\n{help_text}```\n"
    return text


def abridge(text: str, command: str, explained: dict[str, str]) -> str:
    """Return a help text without the options that other commands explain, to which its own are added."""
    usage, _, rest = text.partition("\n\n")
    named: dict[str, list[str]] = {}
    for option in list(OPTION.finditer(rest)):
        flag, entry = re.split("[ ,]", option[1])[0], " ".join(option[0].split())
        first = explained.setdefault("--debug" if flag == "--debug" else entry, command)
        if flag == "-h" or first != command:
            rest = rest.replace(option[0], "", 1)
            named.setdefault(first, []).append(flag)
    for other, flags in named.items():
        if shown := [flag for flag in flags if flag not in ("-h", "--debug")]:
            lines = textwrap.indent(textwrap.fill(f"as in {other}: {', '.join(shown)}", 98), "  ")
            rest = rest.replace("options:\n", f"options:\n{lines}\n", 1)
    if command == "xpnet train":
        others, first, settings = rest.partition("\ndata options:\n")
        rest = f"{others}{first}{OPTION.sub(summarize, settings)}"
    for same in ("options:\n\n", "\nExit codes: 0 done, 2 bad input, 130 interrupted.\n"):
        rest = rest.replace(same, "")
    words = OPTIONAL.sub(" [OPTIONS]", usage).replace(" [OPTIONS] [OPTIONS]", " [OPTIONS]").split()
    return f"{' '.join(words)}\n\n{rest}"


def summarize(option: re.Match[str]) -> str:
    """Return an option with its values and default alone."""
    flag, default = re.split(r"  +", option[1])[0], re.search(r"\(default:\s([^()]*)\)", option[0])
    line = f"  {flag:<39} {' '.join(default[1].split()) if default else ''}".rstrip()
    return textwrap.fill(line, 98, subsequent_indent=42 * " ") + "\n"


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
