"""Lists and comparisons of runs."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import commands
import pytest
from folders import change_record

from xpnet.cli import runs as command
from xpnet.storage import find
from xpnet.storage.find import find_newest_run, survey
from xpnet.storage.folder import RunFolder, acquire_lock
from xpnet.storage.record import read_run
from xpnet.training.terminal import make_console

RUNS = Path("runs")
METRICS = {"train_loss": 0.25, "test_loss": 0.5, "test_accuracy": 0.8, "epochs": 5, "seconds": 1.25}


@pytest.fixture(autouse=True)
def base(recorded, tmp_path, monkeypatch):
    shutil.copytree(recorded / "runs/plain", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def make(name, metrics=METRICS, out=RUNS, **changes):
    folder = Path(shutil.copytree("base", out / name))
    record = read_run(folder)
    settings = {key: changes.pop(key) for key in [*changes] if key in record["config"] and key not in record}
    change_record(folder, config=record["config"] | settings, metrics=metrics, **changes)
    return folder


def printed(capsys, words):
    return commands.printed(capsys, "runs", *shlex.split(words))


def printed_json(capsys, words):
    return json.loads(printed(capsys, f"{words} --json"), parse_constant=pytest.fail)


def column(table, number=0):
    return [line.split()[number] for line in table.splitlines()]


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_list_has_a_line_for_each_run_and_a_terminal_only_the_columns_that_fit(capsys):
    make("second", hidden=[7, 5], arithmetic="native", started="2026-01-01", fingerprint="a" * 64)
    make("first", status="interrupted", tags=["one", "two"], started="2026-01-02", fingerprint="b" * 64)
    assert [re.sub("  +", "|", line) for line in printed(capsys, "list").splitlines()] == [
        "id|status|data|network|optimizer|lr|arithmetic|backend|tags|epochs|seconds|test acc|fingerprint",
        "second|completed|small|36-7-5-4|sgd|0.1|native float32|numpy|-|5|1.2|0.8000|aaaaaaaaaaaa",
        "first|interrupted|small|36-6-4|sgd|0.1|reproducible|numpy|one, two|5|1.2|0.8000|bbbbbbbbbbbb",
    ]
    console = make_console(file=io.StringIO(), force_terminal=True, width=58)
    command.print_list(console, survey(RUNS).runs, "seconds")
    heading, line, _ = console.file.getvalue().splitlines()
    assert "\x1b[32mcompleted" in line
    columns = re.sub("\x1b.*?m", "", heading).split()
    assert columns == ["id", "status", "data", "tags", "seconds", "test", "acc"]


LARGE, SMALL, IRIS_RUN = "large", "project/five/small", "five/iris"


@pytest.fixture
def several():
    make("large", metrics=None, learning_rate=2.0, tags=["first"], started="2026-01-01")
    metrics = METRICS | {"test_accuracy": 0.1, "test_loss": 0.2}
    make(SMALL, metrics=metrics, tags=["first", "plain"], started="2026-01-02")
    make(IRIS_RUN, learning_rate=0.01, started="2026-01-03")
    for name in ("project/a/b/too-deep", ".hidden/run"):
        make(name, started="2026-01-04")
    (RUNS / "loop").symlink_to(RUNS.resolve())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a privilege for symbolic links")
@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("runs/project", ["five/small", "a/b/too-deep"]),
        ("--sort test_accuracy --reverse", [SMALL, IRIS_RUN, LARGE]),
        ("--sort test_loss", [SMALL, IRIS_RUN, LARGE]),
        ("--sort learning_rate", [IRIS_RUN, SMALL, LARGE]),
        ("--tag first", [LARGE, SMALL]),
        ("--tag first --tag plain", [SMALL]),
    ],
)
def test_the_runs_of_a_folder_and_three_levels_below_are_listed_sorted_and_selected(capsys, words, names):
    assert column(printed(capsys, f"list {words}")) == ["id", *names]


def test_json_and_csv_say_what_the_list_says_and_every_metric_but_hold_no_formulas(capsys):
    make("a")
    make("=1+1", metrics=METRICS | {"best_epoch": 3}, data={"name": "@sum", "sha256": "ab"})
    formulas, row = csv.DictReader(printed(capsys, "list --csv").splitlines())
    _, value = printed_json(capsys, "list")
    assert (value["id"], value["network"], value["metrics"]) == ("a", "36-6-4", METRICS)
    assert {name: json.loads(row[name]) for name in METRICS} == METRICS
    assert (row["best_epoch"], formulas["best_epoch"]) == ("", "3")
    assert (formulas["id"], formulas["data"]) == ("'=1+1", "'@sum")


def test_a_run_is_running_while_its_lock_is_held_and_killed_when_it_is_not(capsys):
    folder = make("worked-on", metrics=None, epochs=30, status="running", ended=None)
    os.utime(folder / "run.json", (0, 0))  # it is not about to take its lock
    lock = acquire_lock(folder)
    assert column(printed(capsys, "list"), 1) == ["status", "running"]
    lock.release()
    (folder / ".lock").touch()  # as a killed process leaves it
    lines = squeezed(printed(capsys, "show worked-on"))
    assert {"status killed", "metrics so far", "resume xpnet train --resume runs/worked-on"} <= {*lines}
    assert " 3 of 30  " in printed(capsys, "list")


def test_show_says_everything_about_a_run_json_the_record_with_the_history_and_csv_the_history(capsys):
    folder = make("a b", status="interrupted", learning_rate=0.25)
    lines, record = squeezed(printed(capsys, "show 'a b'")), read_run(folder)
    expected = ["status interrupted", "network 36-6-4", "* learning_rate 0.25", "momentum -"]
    expected += [f"fingerprint {record['fingerprint']}", "test_accuracy 0.8000"]
    expected += ["resume xpnet train --resume 'runs/a b'", "predict xpnet predict 'runs/a b' IMAGE"]
    assert {*expected} <= {*lines}
    assert set(record["config"]) <= {line.removeprefix("* ").split()[0] for line in lines if line}
    history = RunFolder(folder).history
    result = printed_json(capsys, "show 'a b'")
    assert result == {**record, "folder": "runs/a b", "history": history}
    rows = csv.DictReader(printed(capsys, "show 'a b' --csv").splitlines())
    assert [float(row["train_loss"]) for row in rows] == [row["train_loss"] for row in history]


def test_the_newest_trained_run_has_ended_and_has_a_model(capsys):
    for number, name in enumerate(("trained", "no model", "running", "failed", "damaged")):
        status = name if name in ("running", "failed") else "completed"
        make(name, status=status, started=f"2026-01-0{number + 1}")
    (RUNS / "no model/model.safetensors").unlink()
    (RUNS / "damaged/run.json").write_text("{")
    assert find_newest_run().folder == RUNS / "trained"
    damaged, note = capsys.readouterr().err.splitlines()
    assert damaged.startswith("xpnet: note: a run is left out: runs/damaged/run.json: not a run record")
    assert note == "xpnet: note: no RUN given: using the newest, runs/trained"


def test_the_path_of_a_run_or_a_file_is_taken_before_a_name_in_runs_and_that_before_another_folder():
    here, there = make("a", out=Path()), make("a")
    make("b")
    Path("b").mkdir()
    Path("file").touch()
    expected = {"a": here, "b": RUNS / "b", "file": Path("file"), there: there}
    assert {name: find.resolve_run(name) for name in expected} == expected


def test_trials_are_shown_and_compared_with_their_summary_which_is_refused_if_it_is_damaged(capsys):
    summary, names = RUNS / "five/summary.json", ["five/seed-0", "five/seed-1"]
    for name, accuracy in zip(names, (0.78, 0.82), strict=True):
        make(name, {"test_accuracy": accuracy, "validation_accuracy": accuracy, "validation_loss": 1.0})
    assert printed_json(capsys, "compare five")["runs"] == names
    content = {"over": "seeds", "trials": [{"run": Path(name).name} for name in names]}
    summary.write_text(json.dumps(content))
    lines = squeezed(printed(capsys, "show five"))
    assert {"all seeds, mean ± standard deviation", "test_accuracy 0.8000 ± 0.0283"} <= {*lines}
    assert [line.split()[0] for line in lines[-2:]] == names
    summary.write_text(json.dumps({**content, "over": "learning rates"}))
    assert "best of all learning rates: seed-1\n" in printed(capsys, "show five")
    for damage in ("[" * 9000, '{"over": 5}', json.dumps({**content, "trials": []})):
        summary.write_text(damage)
        assert commands.complaint(capsys, "runs", "show", "five").startswith(f"{summary}: damaged")


def test_compare_shows_what_differs_and_with_all_what_is_equal_too(capsys):
    make("a")
    make("b", metrics=METRICS | {"best_epoch": 4, "test_accuracy": 0.5, "test_loss": 0.4}, learning_rate=0.2)
    settings, surroundings, metrics, verdict = printed(capsys, "compare a b").split("\n\n")
    assert squeezed(settings) == ["settings a b", "learning_rate 0.1 0.2"]
    assert surroundings == "surroundings: no difference"
    assert {"test_accuracy 0.8000 0.5000", "seconds 1.2 1.2", "best_epoch - 4"} <= {*squeezed(metrics)}
    assert verdict == "fingerprints agree: the parameters are the same, bit for bit\n"
    change_record(RUNS / "b", backend="torch", fingerprint="b" * 64)
    lines = squeezed(printed(capsys, "compare a b --all"))
    assert {"* learning_rate 0.1 0.2", "* backend numpy torch", "optimizer sgd sgd"} <= {*lines}
    assert re.match("fingerprints differ: [0-9a-f]{12} a; bbbbbbbbbbbb b", lines[-1])
    compared = printed_json(capsys, "compare a b")
    assert compared["settings"] == {"learning_rate": [0.1, 0.2]}
    assert "\nsetting,learning_rate,0.1,0.2\n" in printed(capsys, "compare a b --csv")
