"""docs/cli.md says what --help says."""

import sys
from types import SimpleNamespace

import cli_reference
import pytest

from xpnet import __main__ as program

pytestmark = pytest.mark.tooling


@pytest.fixture
def page(tmp_path):
    """A page that has just been written."""
    path = tmp_path / "cli.md"
    assert cli_reference.run(["--page", str(path)]) == 0
    return path


def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err


def test_the_layout_and_the_width_of_the_terminal_do_not_count_but_the_words_do(monkeypatch, page):
    text = page.read_text()
    page.write_text(text.replace("│", " ").replace("    ", "\n  "))
    monkeypatch.setenv("COLUMNS", "50")
    assert cli_reference.run(["--check", "--page", str(page)]) == 0
    assert cli_reference.page() == text
    page.write_text(text.replace("--seed", "--sead"))
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    page.unlink()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1


def test_a_new_command_makes_the_page_out_of_date_and_one_that_fails_writes_none(monkeypatch, page, capsys):
    code, before = 0, page.read_bytes()
    later = SimpleNamespace(main=lambda words: print(f"Help: {words}") or code)
    monkeypatch.setitem(sys.modules, "later", later)
    monkeypatch.setitem(program.COMMANDS, "later", ("later", ""))
    assert "\n## xpnet later\n\n```\nHelp: ['--help']\n```\n" in cli_reference.page()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    err = capsys.readouterr().err
    assert err == f"{page}: not what --help says: run python scripts/cli_reference.py\n"
    code = 2
    with pytest.raises(RuntimeError, match="xpnet later --help: expected exit code 0, got 2"):
        cli_reference.run(["--page", str(page)])
    assert page.read_bytes() == before
