"""One word chooses the command."""

from commands import printed

from xpnet import __version__
from xpnet.__main__ import COMMANDS


def test_help_names_the_commands_and_version_the_version(capsys):
    help_text = printed(capsys, "--help")
    assert all(f"\n  {command} " in help_text for command in COMMANDS)
    assert help_text == printed(capsys, "help")
    assert printed(capsys, "predict", "--help") == printed(capsys, "help", "predict")
    assert printed(capsys, "--version") == f"xpnet {__version__}\n"
