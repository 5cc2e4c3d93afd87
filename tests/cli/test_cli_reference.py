"""docs/cli.md says what --help says."""

import os
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


def add_command(monkeypatch, main):
    """Add a command of the name later."""
    monkeypatch.setitem(sys.modules, "later", SimpleNamespace(main=main))
    monkeypatch.setitem(program.COMMANDS, "later", ("later", ""))


def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err


def test_every_command_and_action_has_a_section_with_its_help(page):
    text = page.read_text(encoding="utf-8")
    for command in program.COMMANDS:
        assert f"\n## xpnet {command}\n\n```\nusage: xpnet {command} " in text
    for action in ("list", "show", "compare", "best"):
        assert f"\n### xpnet runs {action}\n\n```\nusage: xpnet runs {action} " in text
    assert text.count("\n### ") == 4


def test_a_new_command_appears_and_makes_the_page_out_of_date(monkeypatch, page, capsys):
    assert cli_reference.run(["--check", "--page", str(page)]) == 0
    add_command(monkeypatch, lambda words: print(f"Help: {words}") or 0)
    assert "\n## xpnet later\n\n```\nHelp: ['--help']\n```\n" in cli_reference.page()
    capsys.readouterr()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    err = capsys.readouterr().err
    assert err == f"{page}: not what --help says: run python scripts/cli_reference.py\n"


def test_a_changed_or_missing_page_is_out_of_date(page):
    page.write_text(page.read_text().replace("--seed", "--sead"))
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    page.unlink()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1


def test_the_layout_and_the_width_of_the_terminal_do_not_count(monkeypatch, page):
    text = page.read_text()
    page.write_text(text.replace("│", " ").replace("    ", "\n  "))
    monkeypatch.setenv("COLUMNS", "50")
    assert cli_reference.run(["--check", "--page", str(page)]) == 0
    assert cli_reference.page() == text
    assert os.environ["COLUMNS"] == "50"


def test_a_help_that_fails_writes_no_page(monkeypatch, page):
    add_command(monkeypatch, lambda _: 2)
    before = page.read_bytes()
    with pytest.raises(RuntimeError, match="xpnet later --help: expected exit code 0, got 2"):
        cli_reference.run(["--page", str(page)])
    assert page.read_bytes() == before
