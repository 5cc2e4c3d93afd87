"""docs/cli.md says what --help says."""

import cli_reference
import pytest

pytestmark = pytest.mark.tooling


def test_the_page_is_up_to_date(capsys):
    assert cli_reference.run(["--check"]) == 0, capsys.readouterr().err


def test_a_page_of_other_words_is_not_but_one_of_another_layout_is(monkeypatch, tmp_path, capsys):
    page = tmp_path / "cli.md"
    assert cli_reference.run(["--page", str(page)]) == 0
    text = page.read_text()
    monkeypatch.setenv("COLUMNS", "50")
    for content, code in (text.replace("    ", "\n  "), 0), (text.replace("--seed", "--sead"), 1):
        page.write_text(content)
        assert cli_reference.run(["--check", "--page", str(page)]) == code
    assert capsys.readouterr().err.startswith(f"{page}: not what --help says: run python scripts/")
