"""docs/cli.md says what --help says."""

import cli_reference
import pytest


@pytest.mark.tooling
def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err
