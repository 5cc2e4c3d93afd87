"""scripts/misreadings.py: a vector notices each wrong reading of the specification."""

import misreadings
import pytest

pytestmark = pytest.mark.tooling


@pytest.mark.nightly
def test_the_vector_that_the_table_names_notices_each_wrong_reading(capsys):
    assert misreadings.main([]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    assert len(lines) > 100
    assert summary == "not noticed: 0"


@pytest.mark.parametrize(
    ("old", "new", "code", "printed"),
    [
        ("65536 / (65536 - q)", "1 / (1 - q / 65536)", 1, "   0  9.4: NOT NOTICED\nnot noticed: 1\n"),
        ("65537", "q", 2, "misreadings: 9.4: expected the text once in reference.py, got 0: '65537'\n"),
    ],
)
def test_a_reading_that_changes_nothing_or_has_no_place_is_an_error(
    tmp_path, monkeypatch, capsys, old, new, code, printed
):
    table = tmp_path / "table.toml"
    table.write_text(f"[reference]\n'9.4' = ['{old}', '{new}', 'dropout 0']\n")
    monkeypatch.setattr(misreadings, "TABLE", table)
    assert misreadings.main([]) == code
    assert "".join(capsys.readouterr()) == printed
