"""Lists and comparisons of runs."""

import csv
import io
import json
import os
import re
import shlex
import sys
from pathlib import Path

import commands
import pytest
from folders import change_record

from xpnet.cli import comparison as comparisons, runs as command
from xpnet.config import TrainConfig, to_json
from xpnet.storage import find
from xpnet.storage.checkpoint import encode_checkpoint
from xpnet.storage.find import find_newest_run, survey
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import read_run
from xpnet.storage.run import WritableRun
from xpnet.training.terminal import make_console

RUNS = Path("runs")
PRINTS = {"a": "aa" * 32, "b": "bb" * 32}
METRICS = {"train_loss": 0.25, "test_loss": 0.5, "test_accuracy": 0.8, "epochs": 5, "seconds": 1.25}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def start(name, out=RUNS, **settings):
    """Start a run as training does; the record holds these settings beside the defaults."""
    config = to_json(TrainConfig(arithmetic="native", **settings, name=name, out=out))
    data = {"name": "tiny", "sha256": "cd" * 32, "features": 3, "classes": 2}
    info = dict.fromkeys(("device_requested", "device_used", "device_reason"), "cpu")
    info |= {"command": ["xpnet.train"], "config": config, "data": data, "backend": "numpy"}
    info |= {"seed": 0, "parent": None, "specification_version": None}
    return WritableRun.start(out, name, info)


def make(name, out=RUNS, *, status="completed", fingerprint="a", metrics=None, **settings):
    """A run that has ended, with two lines of history."""
    run = start(name, out, **settings)
    for epoch in (0, 5):
        run.log({"epoch": epoch, "train_loss": 3.0 - epoch / 2, "seconds": epoch / 4})
    run.finish(status, metrics={**METRICS, **(metrics or {})}, fingerprint=PRINTS[fingerprint])
    return run.folder


def printed(capsys, words, *names):
    return commands.printed(capsys, "runs", *shlex.split(words), *names)


def printed_json(capsys, words):
    return json.loads(printed(capsys, f"{words} --json"), parse_constant=pytest.fail)


def column(table, number=0):
    return [line.split()[number] for line in table.splitlines()]


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def on_terminal(width, show, *arguments, **keywords):
    """What a function prints on a terminal of this width, with its codes for colours, and lines without."""
    console = make_console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard")
    show(console, *arguments, **keywords)
    text = console.file.getvalue()
    return text, re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()


def test_a_list_has_a_line_for_each_run_and_a_terminal_only_the_columns_that_fit(capsys):
    make("second", hidden=(7, 5))
    make("first", status="interrupted", fingerprint="b", dtype="float64", tags=("one", "two"))
    out = printed(capsys, "list")
    assert [re.sub("  +", "|", line) for line in out.splitlines()] == [
        "id|status|data|network|optimizer|lr|arithmetic|backend|tags|epochs|seconds|test acc|fingerprint",
        "second|completed|tiny|3-7-5-2|sgd|0.1|native float32|numpy|-|5|1.2|0.8000|aaaaaaaaaaaa",
        "first|interrupted|tiny|3-10-2|sgd|0.1|native float64|numpy|one, two|5|1.2|0.8000|bbbbbbbbbbbb",
    ]
    runs = survey(RUNS).runs
    text, lines = on_terminal(200, command.print_list, runs, "started")
    assert re.search("\x1b\\[32mcompleted *\x1b\\[0m", text)
    assert lines == out.splitlines()
    _, lines = on_terminal(58, command.print_list, runs, "seconds")
    assert re.sub("  +", "|", lines[0].strip()) == "id|status|data|tags|seconds|test acc"


LARGE, SMALL, IRIS_RUN = "large", "project/five/small", "five/iris"


@pytest.fixture
def several():
    """Runs in folders of several levels, of which one has neither ended nor metrics."""
    start("large", learning_rate=2.0, tags=("first",))
    metrics = {"test_accuracy": 0.1, "test_loss": 0.2}
    make("small", RUNS / "project/five", metrics=metrics, tags=("first", "plain"))
    make("iris", RUNS / "five", learning_rate=0.01, seed=2**64 - 1)
    make("too-deep", RUNS / "project/a/b")
    make("run", RUNS / ".hidden")
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
    make("a", metrics={"validation_loss": None})
    change_record(make("=1+1", metrics={"best_epoch": 3}), data={"name": "@sum", "sha256": "ab"})
    value, _ = printed_json(capsys, "list")
    row, formulas = csv.DictReader(printed(capsys, "list --csv").splitlines())
    expected = {"id": "a", "network": "3-10-2", "learning_rate": 0.1, "tags": [], "metrics": METRICS}
    assert expected.items() <= value.items()
    assert {name: json.loads(row[name]) for name in METRICS} == METRICS
    assert (row["best_epoch"], formulas["best_epoch"]) == ("", "3")
    assert (formulas["id"], formulas["data"]) == ("'=1+1", "'@sum")


def test_a_run_is_running_while_its_lock_is_held_and_killed_when_it_is_not(capsys, monkeypatch):
    run = start("worked-on", epochs=30)
    run.log({"epoch": 3, "train_accuracy": 0.5, "seconds": 2.0})
    with monkeypatch.context() as patch:  # it may be about to take its lock
        patch.setattr(find, "is_locked", lambda _: pytest.fail("the lock was tried"))
        patch.setattr(find, "LOCK_GRACE", 600.0)
        assert column(printed(capsys, "list"), 1) == ["status", "running"]
    os.utime(run.folder / "run.json", (0, 0))
    assert re.match("worked-on running .* 3 2.0 0.5000$", squeezed(printed(capsys, "list"))[1])
    run.release()
    (run.folder / ".lock").touch()  # as a killed process leaves it
    lines = squeezed(printed(capsys, "show worked-on"))
    assert {"status killed", "metrics so far", "resume xpnet train --resume runs/worked-on"} <= {*lines}
    facts = {"epoch": 12, "batch": 4, "rows": 2, "seconds": 5.0, "best": [0, -1.0, 0.0]}
    RunFolder(run.folder).checkpoint.write_bytes(encode_checkpoint({}, facts))
    assert " 12 of 30  " in printed(capsys, "list")


def test_show_says_everything_about_a_run_json_the_record_with_the_history_and_csv_the_history(capsys):
    folder = make("a b", status="interrupted", learning_rate=0.25)
    lines, record = squeezed(printed(capsys, "show 'a b'")), read_run(folder)
    expected = ["status interrupted", "network 3-10-2", f"fingerprint {PRINTS['a']}", "* learning_rate 0.25"]
    expected += ["momentum -", "test_accuracy 0.8000", "epoch train_loss seconds", "5 0.5000 1.2"]
    expected += ["resume xpnet train --resume 'runs/a b'", "predict xpnet predict 'runs/a b' IMAGE"]
    assert {*expected} <= {*lines}
    assert set(record["config"]) <= {line.removeprefix("* ").split()[0] for line in lines if line}
    result = printed_json(capsys, "show 'a b'")
    assert result == {**record, "folder": "runs/a b", "history": RunFolder(folder).history}
    assert printed(capsys, "show 'a b' --csv") == "epoch,train_loss,seconds\n0,3.0,0.0\n5,0.5,1.25\n"


def test_the_newest_trained_run_has_ended_and_has_a_model(capsys):
    for name in ("trained", "no model", "running", "failed", "damaged"):
        (make(name) / "model.safetensors").touch()
    (RUNS / "no model/model.safetensors").unlink()
    change_record(RUNS / "running", status="running")
    change_record(RUNS / "failed", status="failed")
    (RUNS / "damaged/run.json").write_text("{")
    assert find_newest_run().folder == RUNS / "trained"
    damaged, note = capsys.readouterr().err.splitlines()
    assert damaged.startswith("xpnet: note: a run is left out: runs/damaged/run.json: not a run record")
    assert note == "xpnet: note: no RUN given: using the newest, runs/trained"


def test_the_path_of_a_run_or_a_file_is_taken_before_a_name_in_runs_and_that_before_another_folder():
    here, there = make("a", Path()), make("a")
    make("b")
    Path("b").mkdir()
    Path("file").touch()
    expected = {"a": here, "b": RUNS / "b", "file": Path("file"), there: there}
    assert {name: find.resolve_run(name) for name in expected} == expected


def test_trials_are_shown_and_compared_with_their_summary_which_is_refused_if_it_is_damaged(capsys):
    summary, names = RUNS / "five/summary.json", ["five/seed-0", "five/seed-1"]
    for seed, accuracy in enumerate((0.78, 0.82)):
        metrics = {"test_accuracy": accuracy, "validation_accuracy": accuracy, "validation_loss": 0.5}
        make(f"seed-{seed}", RUNS / "five", seed=seed, metrics=metrics)
    assert printed_json(capsys, "compare five")["runs"] == names
    trials = [{"run": Path(name).name} for name in names]
    figures = {"test_accuracy": {"mean": 0.99, "standard_deviation": 0.0}}  # not those of the records
    summary.write_text(json.dumps({"over": "seeds", "figures": figures, "trials": trials}))
    lines = squeezed(printed(capsys, "show five"))
    assert {"all seeds, mean ± standard deviation", "test_accuracy 0.8000 ± 0.0283"} <= {*lines}
    assert [line.split()[0] for line in lines[-2:]] == names
    best = {"over": "learning rates", "best": {"run": "seed-0"}, "trials": trials}
    summary.write_text(json.dumps(best))
    assert "best of all learning rates: seed-1\n" in printed(capsys, "show five")
    for content in ("[" * 9000, '{"over": 5}', json.dumps({**best, "trials": []})):
        summary.write_text(content)
        assert commands.complaint(capsys, "runs", "show", "five").startswith(f"{summary}: damaged")


def test_compare_shows_what_differs_and_with_all_what_is_equal_too(capsys):
    make("a", learning_rate=0.1)
    make("b", learning_rate=0.2, metrics={"best_epoch": 4, "test_accuracy": 0.5, "test_loss": 0.4})
    settings, surroundings, metrics, verdict = printed(capsys, "compare a b").split("\n\n")
    assert squeezed(settings) == ["settings a b", "learning_rate 0.1 0.2"]
    assert surroundings == "surroundings: no difference"
    expected = {"test_accuracy 0.8000 0.5000", "seconds 1.2 1.2", "best_epoch - 4"}
    assert expected <= {*squeezed(metrics)}
    assert verdict == "fingerprints agree: the parameters are the same, bit for bit\n"
    comparison = comparisons.compare_runs(survey(RUNS).runs, everything=False)
    text, lines = on_terminal(20, comparisons.print_comparison, comparison, everything=False)
    assert len([line for line in lines if line.startswith("settings ")]) == 2  # a table for each run
    green = re.findall("\x1b\\[32m(0\\.[0-9]+)\x1b", text)
    assert sorted(green) == ["0.4000", "0.8000"]  # the best of those that differ
    change_record(RUNS / "b", backend="torch", fingerprint=PRINTS["b"])
    lines = squeezed(printed(capsys, "compare a b --all"))
    assert {"* learning_rate 0.1 0.2", "* backend numpy torch", "optimizer sgd sgd"} <= {*lines}
    assert lines[-1] == "fingerprints differ: aaaaaaaaaaaa a; bbbbbbbbbbbb b"
    compared = printed_json(capsys, "compare a b")
    assert compared["settings"] == {"learning_rate": [0.1, 0.2]}
    assert (compared["metrics"]["test_accuracy"], compared["fingerprints_agree"]) == ([0.8, 0.5], False)
    heading, *rows = csv.reader(printed(capsys, "compare a b --csv").splitlines())
    assert heading == ["kind", "name", "a", "b"]
    assert ["setting", "learning_rate", "0.1", "0.2"] in rows
