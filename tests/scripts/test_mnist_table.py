"""scripts/reproduce_mnist_table.py: what it trains, what it keeps, what it writes, and how it ends."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import reproduce_mnist_table as table
from networks import pixels
from papers import page as pages
from papers.page import ROWS, Row

from xpnet.config import parse
from xpnet.storage.record import read_run

pytestmark = pytest.mark.tooling

ROW = Row("tiny", "cross-entropy", "nobody 2026", "--hidden 3", "the layers", "the rest", published="1.6")


@pytest.fixture
def row(tmp_path, monkeypatch):
    """The only row of the table, trained in a moment, and tmp_path in place of docs/."""
    x, y = pixels(600, 784, 10)
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    flags = f"--data {tmp_path / 'digits.npz'} --hidden 3 --init he --batch-size 50 --epochs 2"
    row = replace(ROW, flags=flags, seeds=1, backend="numpy")
    for module in (table, pages):
        monkeypatch.setattr(module, "ROWS", {"tiny": row})
    monkeypatch.setattr(table, "DOCS", tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return row


def figures(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"][0]


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.key)
def test_a_command_trains_a_recipe_with_five_seeds_on_all_images(row):
    python, m, module, *words = row.command.split()
    assert (python, m, module, words[0]) == ("python", "-m", "xpnet.train", "--recipe")
    config = parse(words, "xpnet train").config
    assert (config.seeds, config.validation) == (range(5), 0)


def test_the_page_in_docs_is_that_of_its_record():
    results = [*table.read_results(table.DOCS).values()]
    assert json.loads((table.DOCS / "results.json").read_text(encoding="utf-8")) == {"rows": results}
    assert (table.DOCS / "results.md").read_text(encoding="utf-8") == pages.page(results)


def test_a_row_is_matched_by_its_mean():
    cases = ("1.6", [1.5, 1.7]), ("1.6", [1.64]), ("1.60", [1.64]), (None, [1.0])
    matched = [pages.published(replace(ROW, published=limit), errors)["matched"] for limit, errors in cases]
    assert matched == ["yes", "to its digits", "no", None]


def test_rows_are_trained_once_verified_and_kept_on_the_page(row, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["--out", str(out)]
    assert table.main([*words, "--seeds", "2"]) == 0
    records = [read_run(out / "tiny-2" / f"seed-{seed}") for seed in range(2)]
    for run, record in zip(figures(out)["trained"], records, strict=True):
        assert run["test_error"] == pytest.approx(100 * (1 - record["metrics"]["test_accuracy"]))
        assert (run["fingerprint"], run["verified"], run["parameters"]) == (record["fingerprint"], True, 2395)
    capsys.readouterr()
    assert table.main(words) == 0
    assert capsys.readouterr().out == ""  # nothing is trained again
    assert table.main([*words, "--page"]) == 0
    assert table.main(["--out", str(tmp_path / "none"), "--page"]) == 0
    assert figures(tmp_path) == figures(out)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert records[1]["fingerprint"] in text
    monkeypatch.setattr(table, "ROWS", {"tiny": replace(row, flags=f"{row.flags} --lr 0.2")})
    assert table.main([*words, "--seeds", "1"]) == 0  # other settings are trained anew
    assert read_run(out / "tiny-1")["config"]["learning_rate"] == 0.2


def test_a_training_that_fails_and_bad_input_are_one_line(row, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table.xpnet, "main", lambda _: 2)
    assert table.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("tiny-1: xpnet train ended with exit code 2\n")
    assert not (tmp_path / "results.json").exists()
    assert table.main(["--out", "/dev/null/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reproduce_mnist_table: /dev/null/out: cannot be written")
