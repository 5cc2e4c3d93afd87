"""One word chooses the command."""

import pytest
from commands import complaint, printed

from xpnet import __version__
from xpnet.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(capsys, command):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])
    assert f"usage: xpnet {command}" in capsys.readouterr().out


def test_help_names_the_commands_and_version_the_version(capsys):
    help_text = printed(capsys, "--help")
    assert all(f"\n  {command} " in help_text for command in COMMANDS)
    assert printed(capsys, "--version") == f"xpnet {__version__}\n"


@pytest.mark.parametrize(
    ("command", "argument"),
    [("report", "--out"), ("runs list", "--out"), ("parity", "--json"), ("evaluate", "RUN")],
)
def test_an_empty_path_is_refused_in_one_line(capsys, command, argument):
    words = [*command.split(), *([argument] if argument.startswith("-") else []), ""]
    line = f'argument {argument}: expected a path, got "" (xpnet {command} --help)'
    assert complaint(capsys, *words) == line


def test_anything_else_is_one_line(capsys):
    expected = f"expected {', '.join(COMMANDS)} (xpnet --help)"
    assert complaint(capsys) == f"no command given: {expected}"
    assert complaint(capsys, "fly") == f"unknown command 'fly': {expected}"
    moved = "unknown command 'augment', now examples/augment_preview.py of the source"
    assert complaint(capsys, "augment", "--preview", "picture.png") == f"{moved}: {expected}"
