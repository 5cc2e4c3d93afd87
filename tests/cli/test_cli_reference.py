"""docs/cli.md says what --help says."""

import cli_reference
import pytest

pytestmark = pytest.mark.tooling


def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err


def test_the_layout_and_the_width_of_the_terminal_do_not_count_but_the_words_do(
    monkeypatch, tmp_path, capsys
):
    page = tmp_path / "cli.md"
    assert cli_reference.run(["--page", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    page.write_text(text.replace("│", " ").replace("    ", "\n  "))
    monkeypatch.setenv("COLUMNS", "50")
    assert cli_reference.run(["--check", "--page", str(page)]) == 0
    assert cli_reference.page() == text
    page.write_text(text.replace("--seed", "--sead"))
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
    err = capsys.readouterr().err
    assert err == f"{page}: not what --help says: run python scripts/cli_reference.py\n"
    page.unlink()
    assert cli_reference.run(["--check", "--page", str(page)]) == 1
