"""docs/cli.md says what --help says."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from xpnet import __main__ as program

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import cli_reference  # noqa: E402

LATER = "Name the later command."


@pytest.fixture
def page(tmp_path):
    """A page that has just been written."""
    path = tmp_path / "cli.md"
    assert cli_reference.run(["--page", str(path)]) == 0
    return path


def add_command(monkeypatch, name, main):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(main=main))
    monkeypatch.setitem(program.COMMANDS, name, (name, ""))


def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_has_a_section_with_its_help(page, command):
    printed = subprocess.run(
        [sys.executable, "-m", "xpnet", command, "--help"],
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    sections = page.read_text().split("\n## ")
    (section,) = (section_text for section_text in sections if section_text.startswith(f"xpnet {command}\n"))
    assert printed.split() == section.partition("```\n")[2].partition("```")[0].split()
    assert max(map(len, section.splitlines())) <= 200


def test_actions_of_a_command_have_sections_too():
    text = cli_reference.page()
    for action in ("list", "show", "compare", "best"):
        assert f"\n### xpnet runs {action}\n\n```\nusage: xpnet runs {action} " in text


def test_a_command_without_actions_has_none():
    assert cli_reference.actions(cli_reference.help_of("doctor")) == []


def test_a_new_command_appears_and_makes_the_page_out_of_date(monkeypatch, page, capsys):
    def later(words):
        assert words == ["--help"]
        print(LATER)
        return 0

    assert cli_reference.run(["--check", "--page", str(page)]) == 0
    add_command(monkeypatch, "later", later)
    assert f"\n## xpnet later\n\n```\n{LATER}\n```\n" in cli_reference.page()
    capsys.readouterr()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    err = capsys.readouterr().err
    assert err == f"{page}: not what --help says: run python scripts/cli_reference.py\n"


@pytest.mark.parametrize("change", [str.upper, lambda text: text.replace("--seed", "--sead")])
def test_a_change_makes_the_page_out_of_date(page, change):
    page.write_text(change(page.read_text()))
    assert cli_reference.run(["--check", "--page", str(page)]) == 1


def test_a_missing_page_is_out_of_date(tmp_path):
    assert cli_reference.run(["--check", "--page", str(tmp_path / "none.md")]) == 1


def test_the_layout_does_not_count(page):
    text = page.read_text()
    page.write_text(text.replace("│", " ").replace("    ", "\n  "))
    assert cli_reference.run(["--check", "--page", str(page)]) == 0


def test_the_width_of_the_terminal_does_not_count(monkeypatch, page):
    text = page.read_text()
    monkeypatch.setenv("COLUMNS", "50")
    assert cli_reference.page() == text
    assert os.environ["COLUMNS"] == "50"


def test_a_help_that_fails_writes_no_page(monkeypatch, page):
    add_command(monkeypatch, "broken", lambda _: 2)
    before = page.read_bytes()
    with pytest.raises(RuntimeError, match="xpnet broken --help: expected exit code 0, got 2"):
        cli_reference.run(["--page", str(page)])
    assert page.read_bytes() == before
