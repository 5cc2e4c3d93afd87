"""scripts/reproduce_mnist_table.py: what it trains, what it keeps, what it writes, and how it ends."""

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reproduce_mnist_table as table
from ctrl_c import handled_by
from networks import pixels
from papers import page as pages
from papers import runs
from papers.page import Candidate, RowResults, SeedResult
from papers.rows import ROWS, Row

from xpnet.config import parse
from xpnet.storage.record import read_run

pytestmark = pytest.mark.tooling

ROW = Row("tiny", "cross-entropy", "1.6", "nobody 2026", "--hidden 3", "the layers", "the rest")


def results_of(*errors, row=ROW, wall=10.0, cpu=20.0, backend="numpy 2.4", verified=False):
    what = wall, cpu, 2395, "ab" * 32, backend, "Pentium", 2, verified
    trained = [SeedResult(seed, x, *what) for seed, x in enumerate(errors)]
    return RowResults(row, "784-3-10", trained)


@pytest.fixture
def row(tmp_path, monkeypatch):
    """The only row of the table, trained in a moment, and tmp_path in place of docs/."""
    x, y = pixels(600, 784, 10)
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    flags = f"--data {tmp_path / 'digits.npz'} --hidden 3 --init he --batch-size 50 --epochs 2"
    row = replace(ROW, flags=flags, seeds=1)
    monkeypatch.setattr(table, "ROWS", (row,))
    monkeypatch.setattr(table, "DOCS", tmp_path)
    monkeypatch.setattr(runs, "HELD_OUT", 100)
    sigterm = signal.getsignal(signal.SIGTERM)
    with handled_by(signal.default_int_handler):
        yield row
    signal.signal(signal.SIGTERM, sigterm)


def figures(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"][0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_and_its_command_train_one_recipe_with_the_same_seeds(row):
    final = runs.final_job(Path("out"), row, 3).config
    python, m, module, *words = pages.command(row).split()
    assert (python, m, module, words[0]) == ("python", "-m", "xpnet.train", "--recipe")
    config = parse(words, "xpnet train").config
    assert config.seeds == range(5)
    assert replace(config, repeats=1, seed=3, backend="auto") == final
    assert final.validation == 0


def test_the_record_has_candidates_of_the_network_of_their_row():
    rows = json.loads((table.DOCS / "results.json").read_text(encoding="utf-8"))["rows"]
    assert [row["row"] for row in rows] == [row.key for row in ROWS]
    for row, recorded in zip(ROWS, rows, strict=True):
        hidden = runs.final_job(Path("out"), row, 0).config.hidden
        for candidate in recorded["candidates"]:
            config = runs.candidate_job(Path("out"), row, candidate["flags"]).config
            assert config.hidden == hidden
            assert config.validation >= 10_000


@pytest.mark.parametrize(
    ("published", "errors", "wall", "cpu", "cells"),
    [
        ("1.6", [1.5, 1.7], 60.0, 110.0, "1.6 | 1.60 ± 0.14 | yes | 2 | 60 s | 2,395"),
        # One processor, or another program's share of two.
        ("1.6", [1.64], 600.0, 600.0, "1.6 | 1.64 | to its digits | 1 | 5 min - 10 min † | 2,395"),
        # The machine stood still meanwhile.
        ("1.60", [1.64], 3000.0, 1200.0, "1.60 | 1.64 | no | 1 | 10 min - 20 min † | 2,395"),
        (None, [1.0], 1.0, 2.0, " | 1.00 |  | 1 | 1 s | 2,395"),
        ("1.6", [], None, None, "1.6 | not yet run |  |  |  | "),
    ],
)
def test_a_row_is_matched_by_its_mean_and_its_time_is_honest(published, errors, wall, cpu, cells):
    result = results_of(*errors, row=replace(ROW, published=published), wall=wall, cpu=cpu)
    assert f"| 784-3-10 | cross-entropy | {cells} |\n" in pages.page([result])


def test_the_page_ranks_candidates_counts_matches_and_names_the_library():
    wrong = {"0.1": 2.5, "0.2": 1.5, "0.3 --validation 30000": 0.7, "0.4 --validation 30000": 0.5}
    tried = [Candidate(f"--hidden 3 --lr {flags}", error, 3, None) for flags, error in wrong.items()]
    row = replace(results_of(1.5, 1.6), candidates=tried)
    hinge = replace(ROW, training="hinge", source="B")
    jax = results_of(1.5, row=hinge, backend="jax 0.10", verified=True)
    again = results_of(1.5, row=replace(ROW, training="the same figure again"))
    worse = results_of(1.7, row=replace(ROW, source="C"))
    big = results_of(row=replace(ROW, training="big", seeds=0))
    text = pages.page([row, jax, again, worse, big])
    assert text.index("| 1.50 | `--lr 0.2` |") < text.index("| 2.50 | `--lr 0.1` |")
    assert text.index("| 2.50 | `--lr 0.1` |") < text.index("all with `--hidden 3 --validation 30000`")
    assert text.index("all with `--hidden 3 --validation 30000`") < text.index("| 0.50 | `--lr 0.4` |")
    assert "2 of the\n3 published figures" in text
    assert "\n- Trained with jax 0.10 on Pentium, 2 processors; 10 s each.\n" in text
    assert "\n- The source's: the layers.\n- xpnet's own: the rest.\n" in text
    assert text.count("Confirmed by `xpnet verify`") == text.count("ab" * 32) == 1
    assert "| 1.6 | not yet run: needs a GPU |" in text


def test_each_seed_is_trained_once_and_its_error_is_that_of_the_run(row, tmp_path):
    words = ["--out", str(tmp_path), "--seeds", "2"]
    assert table.main([*words, "--backend", "numpy"]) == 0
    records = [read_run(tmp_path / "runs" / f"tiny-seed-{seed}") for seed in range(2)]
    assert [record["seed"] for record in records] == [0, 1]
    assert records[1]["config"]["backend"] == "numpy"
    for run, record in zip(figures(tmp_path)["trained"], records, strict=True):
        assert run["test_error"] == pytest.approx(100 * (1 - record["metrics"]["test_accuracy"]))
        assert run["cpu"] > 0
    assert table.main(words) == 0
    assert [read_run(tmp_path / "runs" / f"tiny-seed-{seed}") for seed in range(2)] == records


def test_candidates_are_compared_on_validation_images_alone_and_the_page_keeps_what_was_trained_earlier(
    row, tmp_path, monkeypatch, capsys
):
    def write_page(out):
        assert table.main(["--out", str(tmp_path / out), "--page"]) == 0
        return (tmp_path / "results.md").read_text(encoding="utf-8")

    assert "| not yet run |" in write_page("none")
    tried = row.flags, f"{row.flags} --lr 0.01"
    for flags in tried:
        assert table.main(["--out", str(tmp_path / "first"), "--choose", "tiny", f"--flags={flags}"]) == 0
    printed = [line.split("%")[0].strip() for line in capsys.readouterr().out.splitlines()]
    jobs = [runs.candidate_job(tmp_path / "first", row, flags) for flags in tried]
    wrong = [100 * (1 - read_run(job.folder)["metrics"]["validation_accuracy"]) for job in jobs]
    assert printed == [f"{error:.2f}" for error in wrong]
    runs.train(runs.final_job(tmp_path / "first", row, 0))
    runs.train(runs.final_job(tmp_path / "second", row, 1))
    written = [write_page(out) for out in ("first", "second", "none")]
    assert written[-1].count("Trained with numpy ") == 1
    assert [each["seed"] for each in figures(tmp_path)["trained"]] == [0, 1]
    errors = {each["flags"]: each["validation_error"] for each in figures(tmp_path)["candidates"]}
    assert errors == pytest.approx(dict(zip(tried, wrong, strict=True)))
    monkeypatch.setattr(table, "ROWS", (replace(row, flags=f"{row.flags} --lr 0.2"),))
    write_page("none")
    assert (figures(tmp_path)["trained"], len(figures(tmp_path)["candidates"])) == ([], 2)


@pytest.mark.parametrize("content", ["{", "[]", '{"about": "", "rows": [3]}'])
def test_a_damaged_record_is_one_line(row, tmp_path, capsys, content):
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    assert table.main(["--out", str(tmp_path / "out"), "--page"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reproduce_mnist_table: {path}: damaged: remove it")
    assert path.read_text(encoding="utf-8") == content


def test_a_stopped_run_goes_on_to_what_the_whole_run_gives(row, tmp_path, monkeypatch, capsys):
    longer = replace(row, flags=row.flags.replace("--epochs 2", "--epochs 200"))
    monkeypatch.setattr(table, "ROWS", (longer,))
    stopped, whole = (runs.final_job(tmp_path / name, longer, 0) for name in ("stopped", "whole"))
    words, wait = ["--out", str(tmp_path / "stopped")], subprocess.Popen.wait

    def interrupt(process, timeout=None):
        while timeout is None and process.poll() is None:
            if (stopped.folder / "checkpoint.safetensors").exists():
                raise KeyboardInterrupt
            time.sleep(0.01)
        return wait(process, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", interrupt)
        assert table.main(words) == 130
    assert capsys.readouterr().err.endswith("reproduce_mnist_table: stopped; the same command goes on\n")
    before = runs.read_notes(stopped.folder)
    assert table.main(words) == 0
    record = read_run(stopped.folder)
    assert (record["status"], len(record["segments"])) == ("completed", 2)
    assert runs.read_notes(stopped.folder).wall > before.wall > 0
    assert record["fingerprint"] == runs.train(whole)["fingerprint"]


def test_a_training_that_fails_or_has_other_settings_ends_the_script_with_2(
    row, tmp_path, monkeypatch, capfd
):
    runs.train(runs.final_job(tmp_path / "old", row, 0))
    for out, changes, message in (
        ("old", ("--epochs 2", "--epochs 3"), "epochs was 2 in this run and is now 3: remove the folder"),
        ("new", ("digits.npz", "absent.npz"), "tiny-seed-0: the training ended with exit code 2"),
    ):
        monkeypatch.setattr(table, "ROWS", (replace(row, flags=row.flags.replace(*changes)),))
        assert table.main(["--out", str(tmp_path / out)]) == 2
        assert message in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rows", "linera"], "argument --rows: expected one of tiny, got 'linera'"),
        (["--choose", "tiny", "--flags=--lr 1", "--seeds", "2"], "--choose takes one row and seed 0: "),
        (["--choose", "tiny"], "--choose and --flags belong together: "),
        (["--page", "--rows", "tiny"], "--page takes all that is there: "),
        (["--out", "/dev/null/out"], "/dev/null/out: cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(row, argv, message, capsys):
    assert table.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reproduce_mnist_table: {message}")


def test_a_reproducible_row_is_verified_once_and_a_run_with_other_bits_is_found(
    row, tmp_path, monkeypatch, capfd
):
    words = ["--out", str(tmp_path), "--backend", "numpy"]
    assert table.main(words) == 0
    (run,) = figures(tmp_path)["trained"]
    assert run["verified"]
    assert runs.read_notes(tmp_path / "runs" / "tiny-seed-0").machine
    monkeypatch.setattr(runs, "_wait", lambda _: 1)
    assert table.main(words) == 0  # it is not verified again
    with pytest.raises(runs.TrainingError, match=r"xpnet verify ended with exit code 1$"):
        runs.verify(runs.final_job(tmp_path, row, 1))
