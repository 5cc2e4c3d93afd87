"""docs/results/reproduce_mnist_table.py: what it trains, what it keeps, what it writes, and how it ends."""

import json

import numpy as np
import pytest
import reproduce_mnist_table as table
from networks import pixels

from xpnet.config import parse
from xpnet.storage.record import read_run

pytestmark = pytest.mark.tooling

TEXTS = {"training": "cross-entropy", "source": "nobody 2026", "theirs": "the layers", "ours": "the rest"}


@pytest.fixture
def record(tmp_path, monkeypatch):
    x, y = pixels(600, 784, 10)
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    flags = f"--data {tmp_path / 'digits.npz'} --hidden 3 --init he --batch-size 50 --epochs 2"
    rows = {"tiny": {**TEXTS, "flags": f"{flags} --backend numpy", "published": "0.1"}}
    monkeypatch.setattr(table, "ROWS", rows)
    monkeypatch.setattr(table, "DOCS", tmp_path)
    monkeypatch.setattr(table, "OUT", tmp_path / "out")
    (tmp_path / "results.json").write_text("{}")
    return tmp_path / "results.json"


@pytest.mark.parametrize("name", table.ROWS)
def test_a_command_trains_a_recipe_with_five_seeds_on_all_images(name):
    assert table.words(name)[0] == "--recipe"
    config = parse(table.words(name), "xpnet train").config
    assert (config.seeds, config.validation) == (range(5), 0)


def test_the_page_in_docs_is_that_of_its_record():
    results = json.loads((table.DOCS / "results.json").read_text(encoding="utf-8"))
    assert (table.DOCS / "results.md").read_text(encoding="utf-8") == table.page(results)


def test_a_row_is_trained_once_verified_and_put_on_the_page(record, monkeypatch):
    assert table.main(["tiny"]) == 0
    results = json.loads(record.read_text())
    runs = [read_run(table.OUT / "tiny" / f"seed-{seed}") for seed in range(5)]
    errors = [100 * (1 - run["metrics"]["test_accuracy"]) for run in runs]
    assert results["tiny"]["test_errors"] == pytest.approx(errors)
    assert results["tiny"]["fingerprints"] == [run["fingerprint"] for run in runs]
    page = (record.parent / "results.md").read_text(encoding="utf-8")
    assert f"| 784-3-10 | cross-entropy | 0.1 | {np.mean(errors):.2f} ± " in page
    assert f"| 4 | `{runs[4]['fingerprint']}` |" in page
    commands = []
    monkeypatch.setattr(table.xpnet, "main", lambda words: commands.append(words[0]))
    assert table.main(["tiny"]) == 0
    assert commands == ["verify"] * 5  # nothing is trained again
