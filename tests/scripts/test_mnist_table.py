"""scripts/reproduce_mnist_table.py: what it trains, what it keeps, what it writes, and how it ends."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reproduce_mnist_table as table
from ctrl_c import sigint
from papers import page as pages
from papers import record as records
from papers import runs
from papers.page import Candidate, Results, RowResults, SeedResult
from papers.rows import ROWS, Row

from xpnet.config import parse
from xpnet.errors import DataError
from xpnet.storage.record import read_run

ROW = Row("tiny", "cross-entropy", "1.6", "nobody 2026", "--hidden 3")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Interrupt the trainings that are started here, and undo what the script does to signals."""
    before = signal.getsignal(signal.SIGTERM)
    with sigint(signal.default_int_handler):
        yield
    signal.signal(signal.SIGTERM, before)


def trained(
    error: float,
    seed: int = 0,
    wall: float | None = 10.0,
    cpu: float | None = 20.0,
    backend: str = "numpy",
) -> SeedResult:
    return SeedResult(seed, error, wall, cpu, 2395, "ab" * 32, backend)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """600 images of noise around ten prototypes, enough for every split here."""
    random = np.random.default_rng(0)
    prototypes = random.integers(0, 200, (10, 784))
    labels = np.arange(600) % 10
    images = (prototypes[labels] + random.integers(0, 55, (600, 784))).astype(np.uint8)
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
    return path


@pytest.fixture
def row(digits: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """The only row of the table, trained in a moment."""
    flags = f"--data {digits} --hidden 3 --init he --batch-size 50 --epochs 2"
    found = replace(ROW, flags=flags, seeds=1, candidates=(flags, f"{flags} --lr 0.01"))
    monkeypatch.setattr(table, "ROWS", (found,))
    monkeypatch.setattr(runs, "HELD_OUT", 100)
    return found


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where --page writes."""
    folder = tmp_path / "docs"
    folder.mkdir()
    monkeypatch.setattr(table, "DOCS", folder)
    return folder


def figures(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"][0]


# --- the rows


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_the_flags_of_a_row_are_a_training_in_native_arithmetic(row: Row) -> None:
    config = runs.final_job(Path("out"), row, 3).config
    assert (config.arithmetic, config.seed, config.validation) == ("native", 3, 0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_the_command_on_the_page_trains_what_the_table_trains(row: Row) -> None:
    words = pages.command(row).split()
    assert words[:2] == ["xpnet", "train"]
    on_page, in_table = (
        parse(words[2:], "xpnet train").config,
        runs.final_job(Path("out"), row, 0).config,
    )
    assert on_page == in_table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_candidates_are_the_rows_network_without_the_images_that_judge_them(row: Row) -> None:
    final = runs.final_job(Path("out"), row, 0).config
    for flags in row.candidates:
        config = runs.candidate_job(Path("out"), row, flags).config
        assert (config.hidden, config.validation) == (final.hidden, 10_000)


def test_no_two_rows_share_a_name() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)


# --- what is computed from the runs


def test_mean_and_deviation_are_those_of_the_sample() -> None:
    results = RowResults(ROW, "784-3-10", [trained(1.0), trained(2.0, 1), trained(3.0, 2)])
    assert (results.mean, results.deviation) == (2.0, 1.0)
    assert pages.error(results) == "2.00 ± 1.00"


def test_one_seed_has_no_deviation() -> None:
    assert pages.error(RowResults(ROW, "784-3-10", [trained(1.25)])) == "1.25"


@pytest.mark.parametrize(
    ("published", "errors", "expected"),
    [
        ("1.6", [1.6], "yes"),
        ("1.6", [1.5, 1.7], "yes"),
        ("1.6", [1.64], "to its digits"),
        ("1.60", [1.64], "no"),
        ("1.6", [1.66], "no"),
        (None, [1.0], ""),
        ("1.6", [], ""),
    ],
)
def test_a_row_is_matched_by_its_mean(published: str | None, errors: list[float], expected: str) -> None:
    row = replace(ROW, published=published)
    assert RowResults(row, "784-3-10", [trained(error) for error in errors]).matched == expected


@pytest.mark.parametrize(
    ("wall", "cpu", "expected"),
    [
        (60.0, 110.0, "60 s"),
        (600.0, 1100.0, "10 min"),
        (600.0, 600.0, "5 min - 10 min †"),  # one processor, or another program's share of two
        (3000.0, 1200.0, "10 min - 20 min †"),  # stood still meanwhile
        (None, None, ""),
    ],
)
def test_the_time_is_the_wall_time_unless_the_machine_was_busy(
    wall: float | None, cpu: float | None, expected: str
) -> None:
    assert pages.duration([trained(1.0, wall=wall, cpu=cpu)], processors=2) == expected


@pytest.mark.parametrize(
    ("hidden", "batch_norm", "expected"),
    [
        ([10], False, ("784-10-10", 7960)),
        ([], False, ("784-10", 7850)),
        ([10], True, ("784-10-10", 7980)),
    ],
)
def test_parameters_are_weights_biases_and_those_of_batch_norm(
    hidden: list[int], batch_norm: bool, expected: tuple[str, int]
) -> None:
    assert pages.network({"hidden": hidden, "batch_norm": batch_norm}, 784, 10) == expected


def test_flags_that_all_candidates_share_stand_once() -> None:
    candidates = ["--hidden 8 4 --lr 0.1", "--hidden 8 4 --lr 0.2 --batch-norm"]
    shared = pages.shared_flags(candidates)
    assert shared == ["--hidden 8 4"]
    assert [pages.without(each, shared) for each in candidates] == [
        "--lr 0.1",
        "--lr 0.2 --batch-norm",
    ]


# --- the page


def test_the_page_names_seeds_candidates_and_what_was_not_run() -> None:
    tried = [Candidate("--lr 0.1", 2.5, 3, None), Candidate("--lr 0.2", 1.5, 3, None)]
    other = replace(ROW, key="other", training="squared error")
    results = Results(
        [
            RowResults(ROW, "784-3-10", [trained(1.5), trained(1.6, 1)], tried),
            RowResults(other, "784-3-10"),
        ],
        2,
        "on a machine",
    )
    text = pages.page(results)
    assert "| 784-3-10 | cross-entropy | 1.6 | 1.55 ± 0.07 | yes | 2 | 10 s | 2,395 |" in text
    assert "| 784-3-10 | squared error | 1.6 | not yet run |  |  |  |  |" in text
    assert text.index("| 1.50 | `--lr 0.2` |") < text.index("| 2.50 | `--lr 0.1` |")
    assert "1 of 2 published figures" in text


def test_the_page_names_backends_other_than_numpy() -> None:
    row = RowResults(replace(ROW, note="a note."), "784-3-10", [trained(1.5), trained(1.6, 1, backend="jax")])
    plain = RowResults(ROW, "784-3-10", [trained(1.5)])
    lines = pages.page(Results([row, plain], 2, "")).splitlines()
    assert "- 784-3-10, cross-entropy: a note. Trained with --backend jax." in lines
    assert sum(line.startswith("- 784-3-10") for line in lines) == 1


def test_the_record_holds_every_run() -> None:
    found = records.record(Results([RowResults(ROW, "784-3-10", [trained(1.5), trained(1.6, 1)])], 2, ""))
    (row,) = found["rows"]
    assert [run["test_error"] for run in row["trained"]] == [1.5, 1.6]
    assert row["published_test_error"] == 1.6


# --- training


def test_each_seed_is_trained_once_and_its_error_is_that_of_the_run(row: Row, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert table.main(["--out", str(out), "--seeds", "2", "--backend", "numpy"]) == 0
    found_runs = [read_run(out / "runs" / f"tiny-seed-{seed}") for seed in range(2)]
    assert [record["seed"] for record in found_runs] == [0, 1]
    assert {record["config"]["backend"] for record in found_runs} == {"numpy"}
    (first, second) = figures(out)["trained"]
    for found, record in zip((first, second), found_runs, strict=True):
        accuracy = (record["metrics"] or {})["test_accuracy"]
        assert found["test_error"] == pytest.approx(100 * (1 - accuracy))
    assert first["cpu"] > 0
    assert table.main(["--out", str(out), "--seeds", "2"]) == 0
    assert [read_run(out / "runs" / f"tiny-seed-{seed}") for seed in range(2)] == found_runs


def test_the_page_can_be_written_without_training(row: Row, docs: Path, tmp_path: Path) -> None:
    assert table.main(["--out", str(tmp_path / "out"), "--page"]) == 0
    assert figures(docs)["trained"] == []
    text = (docs / "results.md").read_text(encoding="utf-8")
    assert "not yet run" in text
    assert "Nothing was trained yet." in text


def test_the_page_keeps_what_it_held_of_other_seeds_and_candidates(
    row: Row, docs: Path, tmp_path: Path
) -> None:
    for name, seed in (("first", 0), ("second", 1)):
        runs.train(runs.final_job(tmp_path / name, row, seed))
    runs.train(runs.candidate_job(tmp_path / "first", row, row.candidates[1]))
    for name in ("first", "second", "none"):
        assert table.main(["--out", str(tmp_path / name), "--page"]) == 0
    found = figures(docs)
    assert [each["seed"] for each in found["trained"]] == [0, 1]
    assert [each["flags"] for each in found["candidates"]] == [row.candidates[1]]
    text = (docs / "results.md").read_text(encoding="utf-8")
    assert text.count("Trained with NumPy") == 1


def test_the_page_drops_what_it_held_of_other_settings(
    row: Row, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.train(runs.final_job(tmp_path / "out", row, 0))
    assert table.main(["--out", str(tmp_path / "out"), "--page"]) == 0
    assert len(figures(docs)["trained"]) == 1
    monkeypatch.setattr(table, "ROWS", (replace(row, flags=f"{row.flags} --lr 0.2"),))
    assert table.main(["--out", str(tmp_path / "none"), "--page"]) == 0
    assert figures(docs)["trained"] == []


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": [{}]}', '{"about": "", "rows": [3]}'])
def test_a_damaged_record_is_one_line(
    row: Row, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = docs / "results.json"
    path.write_text(content, encoding="utf-8")
    assert table.main(["--out", str(tmp_path / "out"), "--page"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"reproduce_mnist_table: {path}: damaged: remove it")
    assert error.count("\n") == 1
    assert path.read_text(encoding="utf-8") == content


def test_a_stopped_run_goes_on_to_what_the_whole_run_gives(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = replace(row, flags=row.flags.replace("--epochs 2", "--epochs 500"))
    stopped, whole = (runs.final_job(tmp_path / name, longer, 0) for name in ("stopped", "whole"))

    def interrupt(process: subprocess.Popen) -> int:
        while not (stopped.folder / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", _first_wait(interrupt))
        with pytest.raises(KeyboardInterrupt):
            runs.train(stopped)
    assert read_run(stopped.folder)["status"] == "interrupted"
    before = runs.cost(stopped.folder)
    found = runs.train(stopped)
    after = runs.cost(stopped.folder)
    assert (found["status"], len(found["resumed"])) == ("completed", 1)
    assert before is not None
    assert after is not None
    assert after.wall > before.wall > 0
    assert found["fingerprint"] == runs.train(whole)["fingerprint"]


def _first_wait(instead):
    """Return a ``Popen.wait`` whose first call without a limit does something else."""
    wait = subprocess.Popen.wait
    calls = iter([instead])

    def replaced(self: subprocess.Popen, timeout: float | None = None) -> int:
        first = next(calls, None) if timeout is None else None
        return wait(self, timeout) if first is None else first(self)

    return replaced


def test_ctrl_c_ends_the_script_with_130_and_one_line(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(job: runs.Job, backend: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(table, "train", interrupted)
    assert table.main(["--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "reproduce_mnist_table: stopped; the same command goes on\n"


def test_a_run_with_other_settings_is_refused(row: Row, tmp_path: Path) -> None:
    runs.train(runs.final_job(tmp_path, row, 0))
    other = replace(row, flags=row.flags.replace("--epochs 2", "--epochs 3"))
    with pytest.raises(DataError, match=r"epochs was 2 in this run and is now 3: remove the folder"):
        runs.completed(runs.final_job(tmp_path, other, 0))


def test_a_training_that_fails_ends_the_script_with_2(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = replace(row, flags=row.flags.replace("digits.npz", "absent.npz"))
    monkeypatch.setattr(table, "ROWS", (missing,))
    assert table.main(["--out", str(tmp_path / "out")]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.endswith("tiny-seed-0: the training ended with exit code 2")


def test_candidates_are_compared_on_validation_images_alone(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert table.main(["--out", str(out), "--choose", "tiny"]) == 0
    printed = [line.split("%")[0].strip() for line in capsys.readouterr().out.splitlines()]
    found = [read_run(runs.candidate_job(out, row, flags).folder) for flags in row.candidates]
    wrong = [100 * (1 - (record["metrics"] or {})["validation_accuracy"]) for record in found]
    assert printed == [f"{error:.2f}" for error in wrong]
    assert [each["validation_error"] for each in figures(out)["candidates"]] == pytest.approx(wrong)


# --- bad input


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--rows", "linera"], "argument --rows: expected one of linear, .*, got 'linera'"),
        (["--seeds", "0"], "argument --seeds: expected a whole number, 1 or more, got '0'"),
        (["--choose", "linear", "--seeds", "2"], "--choose takes one row and seed 0: .*"),
        (["--page", "--rows", "linear"], "--page takes all that is there: .*"),
        (["--sedes", "2"], "unrecognized arguments: --sedes 2"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        table.parse_options(argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert __import__("re").fullmatch(f"reproduce_mnist_table: {expected}\n", error)


def test_a_folder_that_cannot_be_made_is_one_line(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert table.main(["--out", str(tmp_path / "file" / "out")]) == 2
    assert capsys.readouterr().err.startswith(
        f"reproduce_mnist_table: {tmp_path}/file/out: cannot be written"
    )
