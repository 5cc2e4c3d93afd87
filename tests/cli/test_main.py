"""One word chooses the command."""

import pytest

from xpnet import __version__
from xpnet.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(capsys, command):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])
    assert f"usage: xpnet {command}" in capsys.readouterr().out


def test_help_names_the_commands_and_version_the_version(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"xpnet {__version__}\n"


@pytest.mark.parametrize(("words", "problem"), [([], "no command given"), (["fly"], "unknown command 'fly'")])
def test_anything_else_is_one_line(capsys, words, problem):
    assert main(words) == 2
    expected = f"xpnet: {problem}: expected {', '.join(COMMANDS)} (xpnet --help)\n"
    assert capsys.readouterr().err == expected
