"""One word chooses the command."""

import pytest
from commands import printed

from xpnet import __version__
from xpnet.__main__ import COMMANDS


def test_help_names_the_commands_and_version_the_version(capsys):
    help_text = printed(capsys, "--help")
    assert all(f"\n  {command} " in help_text for command in COMMANDS)
    assert printed(capsys, "--version") == f"xpnet {__version__}\n"


@pytest.mark.tooling
def test_the_page_of_all_flags_is_up_to_date(capsys):
    import cli_reference

    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err
