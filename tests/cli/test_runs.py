"""Lists and comparisons of runs: what they show, and that nothing in a folder can harm them."""

import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import commands
import pytest
from folders import change_record, tree

from xpnet.__main__ import main as xpnet
from xpnet._lib.terminal import make_console
from xpnet._lib.text import plain
from xpnet.cli import comparison as comparisons
from xpnet.cli import runs as command
from xpnet.cli.tables import format_value
from xpnet.config import TrainConfig, to_json
from xpnet.storage import find
from xpnet.storage.checkpoint import encode_checkpoint
from xpnet.storage.find import find_newest_run, survey
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import read_run
from xpnet.storage.run import Run

RUNS = Path("runs")
PRINTS = {"a": "aa" * 32, "b": "bb" * 32}
IRIS = {"name": "iris", "sha256": "ef" * 32}
METRICS = {"train_loss": 0.25, "train_accuracy": 0.9, "test_loss": 0.5, "test_accuracy": 0.8}
METRICS |= {"test_accuracy_per_class": [0.75, 0.85], "epochs": 5, "seconds": 1.25}

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="has no such files and names")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def start(name, out=RUNS, **settings):
    """Start a run as training does; the record holds these settings beside the defaults."""
    config = to_json(TrainConfig(arithmetic="native", **settings, name=name, out=out))
    data = {"name": "tiny", "sha256": "cd" * 32, "training_samples": 6, "test_samples": 4}
    device = {"device_requested": "auto", "device_used": "cpu", "device_reason": "no driver"}
    info = {"command": ["python -m xpnet.train", "--name", name], "config": config, "seed": 0, **device}
    info |= {"parent": None, "specification_version": None}
    info |= {"backend": "numpy", "data": {**data, "features": 3, "classes": 2}}
    return Run.start(out, name, False, info)


def make(name, out=RUNS, *, status="completed", fingerprint="a", metrics=None, **settings):
    """A run that has ended, with two lines of history."""
    run = start(name, out, **settings)
    for epoch in (0, 5):
        run.log({"epoch": epoch, "train_loss": 3.0 - epoch / 2, "seconds": epoch / 4})
    run.finish(status, metrics={**METRICS, **(metrics or {})}, fingerprint=PRINTS[fingerprint])
    return run.folder


def make_trials(*seeds):
    for seed in seeds:
        make(f"seed-{seed}", RUNS / "five", seed=seed)
    return RUNS / "five"


def printed(capsys, *words):
    return commands.printed(capsys, "runs", *words)


def printed_json(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"), parse_constant=pytest.fail)


def complaint(capsys, *words):
    return commands.complaint(capsys, "runs", *words)


def printed_with_note(capsys, *words):
    """Standard output and the one note on standard error."""
    assert xpnet(["runs", *words]) == 0
    out, err = capsys.readouterr()
    assert (err.count("\n"), err[:13]) == (1, "xpnet: note: ")
    return out, err[13:-1]


def column(table, number=0):
    return [line.split()[number] for line in table.splitlines()]


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def on_terminal(width, show, *arguments, **keywords):
    """What a function prints on a terminal of this width, with its codes for colours."""
    console = make_console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard")
    show(console, *arguments, **keywords)
    return console.file.getvalue()


def plain_lines(text):
    lines = re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()
    assert not any("\x1b" in line for line in lines)
    return lines


def test_a_list_has_a_line_for_each_run_in_the_order_of_their_start_and_a_column_for_what_a_run_has(capsys):
    make("second-by-name", hidden=(7, 5))
    make("first-by-name", status="interrupted", fingerprint="b", dtype="float64")
    out = printed(capsys, "list")
    columns = "id status data network optimizer lr arithmetic backend epochs seconds train acc test acc"
    assert squeezed(out) == [
        f"{columns} fingerprint",
        "second-by-name completed tiny 3-7-5-2 sgd 0.1 native float32 numpy 5 1.2 0.9000 0.8000 aaaaaaaaaaaa",
        "first-by-name interrupted tiny 3-10-2 sgd 0.1 native float64 numpy 5 1.2 0.9000 0.8000 bbbbbbbbbbbb",
    ]
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert column(printed(capsys, "list", "--sort", "test_loss"), -1)[:2] == ["test_loss", "0.5000"]
    make("with", metrics={"validation_accuracy": 0.7})
    heading, *lines = printed(capsys, "list").splitlines()
    start = heading.index("valid acc")
    assert [line[start : start + 9].strip() for line in lines] == ["-", "-", "0.7000"]


@not_on_windows
def test_a_list_has_the_runs_of_a_folder_and_those_three_levels_below_but_no_hidden_ones(capsys):
    (RUNS / "pictures" / "old").mkdir(parents=True)
    assert printed_with_note(capsys, "list", "--json") == ("[]\n", "no run in runs")
    for name in ("alone", "project/five/seed-1", "project/a/b/too-deep", ".hidden/run", "five/seed-0"):
        make(Path(name).name, RUNS / Path(name).parent)
    (RUNS / "five" / "summary.json").write_text("{}")
    (RUNS / "loop").symlink_to(RUNS.resolve())
    (RUNS / "notes.txt").write_text("mine")
    (RUNS / "metrics.jsonl").write_text("mine")
    names = ["id", "alone", "project/five/seed-1", "five/seed-0"]
    assert column(printed(capsys, "list")) == names
    assert column(printed(capsys, "list", RUNS)) == column(printed(capsys, "list", "--out", RUNS)) == names
    assert column(printed(capsys, "list", RUNS / "project")) == ["id", "five/seed-1", "a/b/too-deep"]
    assert column(printed(capsys, "list", RUNS / "alone")) == ["id", "alone"]


def test_lists_are_sorted_by_any_metric_best_accuracy_first_and_nothing_last(capsys):
    start("none").finish("failed")
    assert "history" not in printed(capsys, "show", "none")
    make("low", optimizer="adam", learning_rate=1e-5, metrics={"test_accuracy": 0.1, "test_loss": 0.2})
    metrics = {"test_accuracy": 0.7, "test_loss": 0.9}
    change_record(make("high", metrics=metrics, learning_rate=2.0), data=IRIS)
    for sort, order, reverse in (
        ("test_accuracy", "high low none", "low high none"),
        ("test_loss", "low high none", "high low none"),
        ("status", "low high none", "none low high"),
        ("started", "none low high", "high low none"),
        ("data", "high none low", "none low high"),
        ("optimizer", "low none high", "none high low"),
        ("learning_rate", "low none high", "high none low"),
    ):
        assert column(printed(capsys, "list", "--sort", sort))[1:] == order.split()
        assert column(printed(capsys, "list", "--sort", sort, "--reverse"))[1:] == reverse.split()
    for words in ("list", "--sort"), ("best", "--metric"):
        line = complaint(capsys, *words, "test_acuracy", "--where", "data=tiny")
        assert line.startswith(f"{words[1]}: no run has 'test_acuracy': expected one of train_loss, ")
        assert line.endswith(": did you mean test_accuracy?")
        assert "per_class" not in line


def test_json_and_csv_say_what_the_list_says_and_every_metric(capsys):
    make("a", metrics={"validation_loss": None})
    make("b", RUNS / "five", metrics={"best_epoch": 3})
    objects = printed_json(capsys, "list", "--sort", "id", "--reverse")
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "list", "--csv", "--sort", "id"))))
    assert [each["id"] for each in objects] == ["five/b", "a"]
    assert [row["id"] for row in rows] == ["a", "five/b"]
    metrics = {name: value for name, value in METRICS.items() if "class" not in name}
    expected = {"id": "a", "status": "completed", "started": read_run(RUNS / "a")["started"]}
    expected |= {"network": "3-10-2", "arithmetic": "native float32", "backend": "numpy"}
    expected |= {"data": "tiny", "optimizer": "sgd", "learning_rate": 0.1, "tags": []}
    assert objects[1] == expected | {"folder": "runs/a", "fingerprint": PRINTS["a"], "metrics": metrics}
    assert metrics.items() <= {name: json.loads(rows[0][name]) for name in metrics}.items()
    assert [row["best_epoch"] for row in rows] == ["", "3"]
    assert [*rows[0].values()][3:7] == ["tiny", "3-10-2", "sgd", "0.1"]


def test_a_pipe_gets_every_column_and_a_terminal_colours_and_only_the_columns_that_fit(capsys):
    make("a" * 40)
    make("b", status="interrupted")
    out = printed(capsys, "list")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) > 120
    runs = survey(RUNS).runs
    wide = on_terminal(200, command.print_list, runs, "started")
    assert re.search("\x1b\\[32mcompleted *\x1b\\[0m", wide)
    assert "\x1b[33minterrupted\x1b[0m" in wide
    assert plain_lines(wide) == out.splitlines()
    narrow = plain_lines(on_terminal(80, command.print_list, runs, "seconds"))
    assert max(map(len, narrow)) <= 80
    assert {"acc", "seconds"} < set(narrow[0].split())
    assert "fingerprint" not in narrow[0]
    heading, *rows = plain_lines(on_terminal(80, command.print_list, runs, "started"))
    assert (" ".join(heading.split()), len(rows)) == ("id status data epochs test acc", 2)


def test_a_run_is_running_while_its_lock_is_held_and_killed_when_it_is_not(capsys, monkeypatch):
    run = start("worked-on")
    run.log({"epoch": 3, "train_accuracy": 0.5, "seconds": 2.0})
    with monkeypatch.context() as patch:  # it may be about to take its lock
        patch.setattr(find, "is_locked", lambda _: pytest.fail("the lock was tried"))
        patch.setattr(find, "LOCK_GRACE", 600.0)
        assert column(printed(capsys, "list"), 1) == ["status", "running"]
    os.utime(run.folder / "run.json", (0, 0))
    line = printed(capsys, "list").splitlines()[1].split()
    assert line[:2] == ["worked-on", "running"]
    assert line[-3:] == ["3", "2.0", "0.5000"]  # as far as it is: no test accuracy yet
    run.release()
    (run.folder / ".lock").touch()  # as a killed process leaves it
    before = tree(run.folder)
    assert column(printed(capsys, "list"), 1) == ["status", "killed"]
    output = printed(capsys, "show", "worked-on")
    assert "  status                  killed\n" in output
    assert "metrics so far" in output
    assert "xpnet train --resume runs/worked-on" in output
    assert tree(run.folder) == before
    change_record(run.folder, config={**read_run(run.folder)["config"], "epochs": 30})
    facts = {"epoch": 12, "batch": 4, "rows": 2, "seconds": 5.0, "best": [0, -1.0, 0.0]}
    RunFolder(run.folder).checkpoint.write_bytes(encode_checkpoint({}, facts))
    os.utime(run.folder / "run.json", (0, 0))
    assert " 12 of 30  " in printed(capsys, "list")
    RunFolder(run.folder).checkpoint.unlink()
    again = Run.reopen(run.folder)  # the lock was tried, and is free
    again.resume(1, epoch=3, backend="numpy", device="cpu")
    monkeypatch.setattr(find, "_is_in_use", lambda _: again.finish("completed"))
    assert column(printed(capsys, "list"), 1) == ["status", "completed"]


@not_on_windows
@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda path: path.write_bytes(b'{"schema_version": 1, "status": "comp'), "not a run record"),
        (lambda path: path.write_bytes(b" " * (2**23 + 1)), "has 8388609 bytes, more than 8388608"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read"),
        (lambda path: path.with_name(".lock").touch(), "cannot be read"),
    ],
)
def test_a_damaged_run_is_left_out_with_a_note_and_refused_by_name(capsys, put, reason):
    make("good")
    (RUNS / "bad").mkdir()
    put(RUNS / "bad" / "run.json")
    out, note = printed_with_note(capsys, "list")
    assert column(out) == ["id", "good"]
    assert note.startswith(f"a run is left out: runs/bad/run.json: {reason}")
    assert len(note) < 250
    if os.path.lexists(RUNS / "bad" / "run.json"):
        for words in (("show", "bad"), ("compare", "good", "bad")):
            assert complaint(capsys, *words).startswith(f"runs/bad/run.json: {reason}")


ODD = [
    {"config": {}, "data": {"name": "", "sha256": ""}, "versions": {}, "xpnet_commit": {"dirty": "5"}},
    {"metrics": None, "fingerprint": None},
    {"metrics": {"test_accuracy": None, "test_accuracy_per_class": [None, 1]}, "command": [], "started": ""},
    {"metrics": {"test_accuracy": 10**308, "seconds": -1e300, "epochs": 10**300}, "error": "x" * 10**6},
    {
        "config": {"hidden": [["a"]], "arithmetic": 7, "learning_rate": "x", "more": {"b": 1}, "tags": [{}]},
        "data": {"name": "", "sha256": "", "classes": None},
    },
]


@pytest.mark.parametrize("changes", ODD, ids=" ".join)
def test_a_record_that_says_little_or_much_is_shown_as_far_as_it_goes(capsys, changes):
    change_record(make("odd"), **changes)
    make("good")
    for sort in ("test_accuracy", "arithmetic", "learning_rate"):
        assert "odd" in column(printed(capsys, "list", "--sort", sort))
    assert printed(capsys, "show", "odd").startswith("odd\n")
    assert printed(capsys, "compare", "odd", "good", "--all").startswith("settings")
    for form in ("--json", "--csv"):
        for words in (("show", "odd"), ("list",), ("compare", "odd", "good")):
            printed(capsys, *words, form)


def test_a_history_that_is_damaged_or_too_large_is_refused(capsys, monkeypatch):
    path = make("a") / "metrics.jsonl"
    path.write_bytes(b"no\n{}\n")
    assert complaint(capsys, "show", "a").startswith(f"{path}: line 1: expected")
    monkeypatch.setattr("xpnet.storage.record.METRICS_LIMIT", 5)
    assert complaint(capsys, "show", "a").startswith(f"{path}: has 6 bytes, more than 5")


EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\r\n\u202e[bold]b"
ESCAPED = r"\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\r\n\u202e[bold]b"


SORTED, COMPARED, BEST = ("list", "--sort", EVIL), ("compare", "good", EVIL), ("best", "--metric", EVIL)


@not_on_windows
def test_control_characters_never_reach_the_terminal(capsys):
    folder, evil = make("evil"), {EVIL: EVIL}
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, EVIL: 2.0}) + "\n")
    texts = ("id", "started", "ended", "backend", "device_used", "device_reason", "error", "python")
    changes = dict.fromkeys((*texts, "fingerprint"), EVIL) | {"command": [EVIL, EVIL], "digests": evil}
    place = {"started": EVIL, "epoch": 1, "backend": EVIL, "device": EVIL, "ranks": 2, "hosts": [EVIL]}
    changes |= {"segments": [place]}
    changes |= {"data": {**evil, "name": EVIL, "sha256": EVIL}, "xpnet_commit": {"commit": EVIL}}
    changes |= {"working_folder_commit": {"commit": EVIL, "dirty": True}}
    changes |= {"config": {**read_run(folder)["config"], **evil, "arithmetic": EVIL}, "versions": evil}
    change_record(folder, **changes, metrics={**METRICS, EVIL: 0.5, EVIL + "s": [0.5]})
    change_record(make("good"), data=changes["data"])
    folder = folder.rename(RUNS / EVIL)
    for words in (["list"], SORTED, ("show", EVIL), (*COMPARED, "--all"), BEST):
        for form in ([], ["--json"], ["--csv"]):
            out = printed(capsys, *words, *form)
            assert all(line.isprintable() for line in out.split("\n"))
            assert "owned" in out
            assert form == ["--json"] or ESCAPED[:20] in out
    (folder / "run.json").write_text("damaged")
    unknown = [("show", f"no {EVIL}"), ("list", EVIL), (EVIL,), ("list", f"--{EVIL}")]
    for words in [("list",), SORTED, ("show", EVIL), COMPARED, BEST, *unknown]:
        assert xpnet(["runs", *words]) == (0 if words == ("list",) else 2)
        err = capsys.readouterr().err
        assert all(line.isprintable() for line in err.split("\n"))
        assert r"\x1b]0;owned" in err.splitlines()[-1]


def test_text_is_printable_and_otherwise_unchanged_and_long_text_loses_its_middle(monkeypatch):
    assert plain("plain text 1-2_ü") == "plain text 1-2_ü"
    assert plain("\x1b[0m\t\n\r\0\x7f\x9b\u2028\u200b") == r"\x1b[0m\t\n\r\x00\x7f\x9b\u2028\u200b"
    assert plain("\ud800\U000e0001") == r"\ud800\U000e0001"
    assert format_value("a" * 44) == "a" * 44
    assert format_value("start" + "-" * 100 + "end") == "start---------------" + "..." + "-" * 18 + "end"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert plain("größe") == r"gr\xf6\xdfe"


def test_show_says_everything_about_a_run(capsys):
    make("a", hidden=(7,), learning_rate=0.25)
    out = printed(capsys, "show", "a")
    record = read_run(RUNS / "a")
    for line in f"""
a
status completed
folder runs/a
started {record["started"]}
ended {record["ended"]}
command python -m xpnet.train --name a
network 3-7-2
device_reason no driver
data name tiny, sha256 {"cd" * 32}, training_samples 6, test_samples 4, features 3, classes 2
python {record["python"]}
fingerprint {PRINTS["a"]}
* hidden [7]
* learning_rate 0.25
momentum -
test_accuracy 0.8000
class test_accuracy_per_class
1 0.8500
epoch train_loss seconds
5 0.5000 1.2
evaluate xpnet evaluate runs/a""".strip().splitlines():
        assert line in squeezed(out)
    assert set(record["config"]) <= {line[2:].split()[0] for line in out.splitlines() if line[2:]}
    assert "--resume" not in out


def test_a_run_is_named_by_its_id_or_its_folder_or_is_the_newest(capsys):
    for folder, name, year in (("", "b", 2030), ("trials", "seed-0", 2031), ("", "a", 2029)):
        change_record(make(name, Path("elsewhere", folder)), started=f"{year}-01-01T00:00:00.000+00:00")
    output, note = printed_with_note(capsys, "show", "--out", "elsewhere", "--json")
    assert note == "no RUN given: using the newest, elsewhere/trials/seed-0"
    assert output == printed(capsys, "show", "trials/seed-0", "--out", "elsewhere", "--json")
    for name in ("trials/seed-0", "./elsewhere/trials/seed-0/"):
        assert printed(capsys, "show", name, "--out", "elsewhere").startswith("trials/seed-0\n")
    assert printed(capsys, "show", "elsewhere/b").startswith("elsewhere/b\n")


def test_the_newest_trained_run_has_ended_and_has_a_model(capsys):
    for name in ("trained", "no model", "running", "failed", "damaged"):
        (make(name) / "model.safetensors").touch()
    assert find_newest_run().folder == RUNS / "damaged"
    (RUNS / "no model/model.safetensors").unlink()
    change_record(RUNS / "running", status="running")
    change_record(RUNS / "failed", status="failed")
    (RUNS / "damaged/run.json").write_text("{")
    capsys.readouterr()
    assert find_newest_run().folder == RUNS / "trained"
    damaged, note = capsys.readouterr().err.splitlines()
    assert damaged.startswith("xpnet: note: a run is left out: runs/damaged/run.json: ")
    assert note == "xpnet: note: no RUN given: using the newest, runs/trained"


def test_csv_holds_no_formulas(capsys):
    change_record(make("=1+1"), data={"name": "@sum", "sha256": "ab"}, metrics={"test_loss": -1.5})
    (row,) = csv.DictReader(io.StringIO(printed(capsys, "list", "--csv")))
    assert (row["id"], row["data"], row["test_loss"]) == ("'=1+1", "'@sum", "-1.5")
    for sign in "+-":
        make(f"{sign}1")
        assert f"'{sign}1" in printed(capsys, "list", "--csv")


def test_show_json_is_the_record_with_the_history_and_csv_the_history(capsys):
    folder = make("a")
    output = printed_json(capsys, "show", "a")
    assert output.pop("folder") == "runs/a"
    assert [row["epoch"] for row in output.pop("history")] == [0, 5]
    assert output == read_run(folder)
    assert printed(capsys, "show", "a", "--csv") == "epoch,train_loss,seconds\n0,3.0,0.0\n5,0.5,1.25\n"


def test_the_commits_of_the_working_folder_and_of_xpnet_are_shown_and_compared_under_their_names(capsys):
    mine, dirty = {"commit": "5" * 40, "dirty": False}, {"commit": "7" * 40, "dirty": True}
    change_record(make("a"), working_folder_commit=mine, xpnet_commit=dirty)
    change_record(make("b"), working_folder_commit=None, xpnet_commit=None)
    newer = dict.fromkeys(("segments", "specification_version", "digests"))
    change_record(make("old"), schema_version=1, git=mine, **newer)
    rows = {"a": ("5" * 40, f"{'7' * 40}, with changes"), "b": ("none", "none"), "old": (None, "5" * 40)}
    for name, commits in rows.items():
        shown = [line.split(maxsplit=1) for line in printed(capsys, "show", name).splitlines() if line]
        actual = {label: value for label, *value in shown if "commit" in label or label == "git"}
        names = ("working_folder_commit", "xpnet_commit")
        assert actual == {label: [text] for label, text in zip(names, commits, strict=True) if text}
    surroundings = printed_json(capsys, "compare", *rows)["surroundings"]
    assert [tuple(pair) for pair in zip(*surroundings.values(), strict=True)] == [*rows.values()]
    assert list(surroundings) == ["working_folder_commit", "xpnet_commit"]


def test_a_failed_run_is_shown_with_its_error_forty_lines_of_a_long_history_and_the_command_to_go_on(capsys):
    run = start("my run")
    for epoch in range(100):
        run.log({"epoch": epoch})
    run.finish("failed", error="no more space")
    record, _, history = printed(capsys, "show", "my run").partition("history")
    assert "  error                   no more space\n" in record
    title, _, *rest = history.splitlines()
    epochs = [int(line) for line in rest[: rest.index("")]]
    assert title == " (40 of 100 lines; --csv gives all)"
    assert len(epochs) == command.LINES == len(set(epochs))
    assert (epochs[0], epochs[-1]) == (0, 99)
    assert rest[-1].split(maxsplit=1) == ["resume", "xpnet train --resume 'runs/my run'"]


def test_trials_are_shown_with_their_summary(capsys):
    folder = make_trials(0, 1)
    assert printed(capsys, "show", "five").startswith("runs/five\n\nid ")
    metrics = {"test_accuracy": {"mean": 0.8, "standard_deviation": 0.0125}}
    (folder / "summary.json").write_text(json.dumps({"over": "seeds", "figures": metrics, "trials": []}))
    out = printed(capsys, "show", "five")
    assert "all seeds, mean ± standard deviation\n" in out
    assert "  test_accuracy         0.8000 ± 0.0125\n" in out
    names = ["five/seed-0", "five/seed-1"]
    assert [line.split()[0] for line in out.splitlines()[-2:]] == names
    assert [run["id"] for run in printed_json(capsys, "show", "five")] == names
    best = {"over": "learning rates", "best": {"run": "lr-0.1", "metrics": {}}, "trials": []}
    (folder / "summary.json").write_text(json.dumps(best))
    assert "best of all learning rates: lr-0.1\n" in printed(capsys, "show", "five")


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"over": 5', "[" * 9000, "{}", '{"over": 5, "figures": []}', '{"over": "x", "best": 1}'],
)
def test_a_damaged_summary_is_refused(capsys, content):
    summary = make_trials(0) / "summary.json"
    summary.write_text(content)
    assert complaint(capsys, "show", "five").startswith(f"{summary}: damaged")


def test_compare_shows_the_settings_that_differ_and_the_metrics_with_all_what_is_equal_too(capsys):
    make("a", learning_rate=0.1, tags=("first",))
    make("b", learning_rate=0.2, metrics={"best_epoch": 4, "test_accuracy": 0.5, "test_loss": 0.4})
    settings, surroundings, metrics, verdict = printed(capsys, "compare", "a", "b").split("\n\n")
    assert squeezed(settings) == ["settings a b", "learning_rate 0.1 0.2"]
    assert surroundings == "surroundings: no difference"
    heading, *_, accuracy, _, seconds, best = squeezed(metrics)
    assert (heading, accuracy) == ("metrics a b", "test_accuracy 0.8000 0.5000")
    assert (seconds, best) == ("seconds 1.2 1.2", "best_epoch - 4")
    assert verdict == "fingerprints agree: the parameters are the same, bit for bit\n"
    change_record(RUNS / "b", backend="torch")
    lines = squeezed(printed(capsys, "compare", "a", "b", "--all"))
    marked = {"* learning_rate 0.1 0.2", "* name a b", "* backend numpy torch"}
    assert {"optimizer sgd sgd", "device cpu cpu"} | marked <= set(lines)
    assert {line.removeprefix("* ").split()[0] for line in lines if line} >= set(to_json(TrainConfig()))
    comparison = comparisons.compare_runs(survey(RUNS).runs, everything=True)
    text = on_terminal(100, comparisons.print_comparison, comparison, everything=True)
    assert re.search("\x1b\\[33m\\* learning_rate *\x1b\\[0m", text)
    assert "\x1b[33m  optimizer" not in text
    green = re.findall("\x1b\\[32m(0\\.[0-9]+)\x1b", text)
    assert sorted(green) == ["0.4000", "0.8000"]  # the best of those that differ


def test_a_narrow_terminal_gets_several_tables():
    names = [f"run-{number}" for number in range(6)]
    for number, name in enumerate(names):
        make(name, learning_rate=0.1 + number)
    comparison = comparisons.compare_runs(survey(RUNS).runs, everything=False)
    lines = plain_lines(on_terminal(50, comparisons.print_comparison, comparison, everything=False))
    headings = [line.split() for line in lines if line.startswith("settings ")]
    assert [name for heading in headings for name in heading[1:]] == names
    assert len(headings) > 1
    assert max(len(line) for line in lines[: lines.index("surroundings: no difference")]) <= 50


def test_compare_says_whether_the_fingerprints_agree(capsys):
    for number, fingerprint in enumerate("aba-"):
        change_record(make(f"run-{number}"), fingerprint=PRINTS.get(fingerprint))
    for names, verdict, agree in (
        (("run-0", "run-2"), "fingerprints agree: the parameters are the same, bit for bit", True),
        (
            ("run-0", "run-1", "run-2"),
            "fingerprints differ: aaaaaaaaaaaa run-0, run-2; bbbbbbbbbbbb run-1",
            False,
        ),
        (("run-0", "run-3"), "not every run has a fingerprint: aaaaaaaaaaaa run-0; none run-3", None),
    ):
        assert printed(capsys, "compare", *names).splitlines()[-1] == verdict
        assert printed_json(capsys, "compare", *names)["fingerprints_agree"] is agree


def test_compare_prints_json_and_csv_with_a_folder_of_trials_for_its_runs(capsys):
    change_record(make("a"), config={"seed": 0, "flag": True, "hidden": [10]})
    change_record(make_trials(0, 1) / "seed-1", config={"seed": 1, "flag": 1, "hidden": [4, 3]})
    change_record(RUNS / "five/seed-0", config={"seed": 0, "flag": True, "hidden": [10]})
    compared = printed_json(capsys, "compare", "a", "five")
    assert compared["runs"] == ["a", "five/seed-0", "five/seed-1"]
    settings = {"flag": [True, True, 1], "hidden": [[10], [10], [4, 3]]}
    settings |= {"seed": [0, 0, 1]}
    assert repr(dict(sorted(compared["settings"].items()))) == repr(settings)  # true is not 1
    assert compared["surroundings"] == {}
    assert compared["metrics"]["test_accuracy"] == [0.8] * 3
    rows = list(csv.reader(io.StringIO(printed(capsys, "compare", "a", "five", "--csv"))))
    assert rows[0] == ["kind", "name", "a", "five/seed-0", "five/seed-1"]
    assert ["setting", "seed", "0", "0", "1"] in rows
    assert ["metric", "epochs", "5", "5", "5"] in rows
    assert rows[-1] == ["fingerprint", "fingerprint", *[PRINTS["a"]] * 3]


def test_best_is_chosen_by_validation_accuracy_and_else_by_test_accuracy_with_a_note(capsys):
    make("neither", status="interrupted")
    out, note = printed_with_note(capsys, "best")
    assert out.startswith("neither\nthe only run with test_accuracy\n")
    assert "resume      xpnet train --resume runs/neither\n" in out
    assert note.startswith("chosen by test_accuracy, ")
    make("test-says", metrics={"validation_accuracy": 0.6, "test_accuracy": 0.9})
    make("validation says", metrics={"validation_accuracy": 0.7, "test_accuracy": 0.5})
    start("not ended").log({"epoch": 1, "validation_accuracy": 0.9})
    lines = printed(capsys, "best").splitlines()
    assert lines[:2] == ["validation says", "the best of 2 runs with validation_accuracy"]
    assert "  validation_accuracy   0.7000" in lines
    assert f"  fingerprint           {PRINTS['a']}" in lines
    assert lines[-3:] == [
        "evaluate    xpnet evaluate 'runs/validation says'",
        "predict     xpnet predict 'runs/validation says' IMAGE",
        "start from  xpnet train --init-from 'runs/validation says/model.safetensors'",
    ]


def test_best_takes_any_metric_and_of_equal_runs_that_of_the_lower_loss_then_the_first(capsys):
    make("a", metrics={"test_accuracy": 0.1, "test_loss": 0.9, "seconds": 1.0})
    make("equal", metrics={"test_accuracy": 0.3, "test_loss": 0.9, "seconds": 2.0})
    make("b", metrics={"test_accuracy": 0.3, "test_loss": 0.8, "seconds": 2.0})
    for each in ("c", "d"):
        make(each, metrics={"test_accuracy": 0.2, "test_loss": 0.9, "epochs": 1})
    for metric, name in (("test_accuracy", "b"), ("test_loss", "b"), ("seconds", "a"), ("epochs", "c")):
        best = printed_json(capsys, "best", "--metric", metric)
        assert (best["id"], best["chosen_by"]) == (name, metric)
        assert best["commands"]["evaluate"] == f"xpnet evaluate runs/{name}"
    assert printed(capsys, "best", "--metric", "epochs", "--csv").splitlines()[1].startswith("c,completed,")


SELECTED = {
    "small": "learning_rate=1e-1; test_accuracy<=0.3; hidden=[7, 5]; tags=plain",
    "large": "epochs=-; batch_norm=true; arithmetic=native float64; optimizer=adam & data=tiny",
    "iris": "data=iris; data_sha256=efef; learning_rate<0.1; tags!=first; test_accuracy>0.3 & epochs=5",
    "small large": "data!=iris; tags=first; seed!=18446744073709551615; seed=0 & momentum=-",
    "small iris": "epochs >= 5; epochs<6",  # as listed: large has none yet, whatever its setting
    "": "status>0; data=tiny & test_accuracy=0.8",
}


@pytest.mark.parametrize("names", SELECTED)
def test_where_selects_the_runs_that_fulfil_every_condition(capsys, names):
    make("small", hidden=(7, 5), metrics={"test_accuracy": 0.3}, tags=("first", "plain"))
    start("large", optimizer="adam", learning_rate=2.0, dtype="float64", batch_norm=True, tags=("first",))
    change_record(make("iris", optimizer="adam", learning_rate=0.01, seed=2**64 - 1), data=IRIS)
    for conditions in SELECTED[names].split("; "):
        words = [word for each in conditions.split(" & ") for word in ("--where", each)]
        assert xpnet(["runs", "list", "--csv", *words]) == 0
        out, err = capsys.readouterr()
        assert [line.partition(",")[0] for line in out.splitlines()] == ["id", *names.split()]
        assert err[:-1] == ("" if names else "xpnet: note: no run in runs with " + " with ".join(words[1::2]))


def test_tags_are_shown_and_select_runs(capsys):
    make("no")
    assert "tags" not in printed(capsys, "list")
    make("both", tags=("first", "wide"), metrics={"validation_accuracy": 0.1})
    make("wide", tags=("wide",), metrics={"validation_accuracy": 0.2})
    heading, *lines = printed(capsys, "list").splitlines()
    assert [line[heading.index("tags") :].split("  ")[0] for line in lines] == ["-", "first, wide", "wide"]
    assert "tags first, wide" in squeezed(printed(capsys, "show", "both"))
    assert column(printed(capsys, "list", "--tag", "wide", "--tag", "first")) == ["id", "both"]
    assert printed(capsys, "best", "--tag", "first").startswith("both\n")
    assert printed_json(capsys, "compare", "no", "both", "wide", "--tag", "wide")["runs"] == ["both", "wide"]


def test_the_path_of_a_run_or_a_file_is_taken_before_a_name_in_runs_and_that_before_another_folder():
    here, there = make("a", Path()), make("a")
    for name in ("b", "c"):
        make(name), Path(name).mkdir()
    Path("b/run.json").touch()
    Path("file").touch()
    assert [find.resolve_run(name) for name in ("a", "b", "c", "file")] == [
        here,
        Path("b"),
        RUNS / "c",
        Path("file"),
    ]
    assert find.resolve_run(there) == there


def test_a_wrong_name_in_a_folder_that_is_a_run_itself_is_one_line(capsys):
    make("a")
    assert complaint(capsys, "show", "b", "--out", "runs/a").startswith(
        "b: no such file or folder: expected the"
    )


def test_best_compares_runs_of_the_same_data_only(capsys):
    for name in ("a", "b"):
        make(name, metrics={"validation_accuracy": 0.5})
    change_record(start("failed").folder, data={"name": "other", "sha256": "01" * 32})
    assert printed(capsys, "best").startswith("a\nthe best of 2 runs")
    change_record(RUNS / "a", data=IRIS)
    sets = "iris (efefefefefef), tiny (cdcdcdcdcdcd)"
    assert f"several data sets, {sets}: choose one with --where data=NAME, or" in complaint(capsys, "best")
    for condition, name in (("data=tiny", "b"), ("data_sha256=efefefefefef", "a")):
        assert printed(capsys, "best", "--where", condition).startswith(f"{name}\nthe only run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fly",), "argument ACTION: invalid choice: 'fly'"),
        (("show", "--out", "absent"), "no run in absent: xpnet train makes one; or give RUN"),
        (("list", "file"), "file: cannot be read (Not a directory): expected a folder"),
        (("list", "a\0b"), r"a\x00b: cannot be read (not a path): expected a folder"),
        (
            ("show", "absent"),
            "absent: no such file or folder: expected the folder of a run or its name in runs",
        ),
        (("show", "empty"), "runs/empty: no run in it"),
        (("compare", "a"), "expected two runs or more to compare, got 1"),
        (("best", "runs/empty"), "no run in runs/empty has ended with results"),
        (("best", "--where", "data=b"), "no run in runs with data=b has ended with results"),
        (("list", "--where", "optimiser=sgd"), "--where: no run has 'optimiser': did you mean optimizer?"),
        (("best", "--where", "xyz=1"), "--where: no run has 'xyz': xpnet runs show prints the names"),
        (("list", "--where", "epochs>=x"), "--where: expected NAME=VALUE or NAME!=VALUE, or <, <=, >, >="),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(capsys, words, message):
    make("a")
    (RUNS / "empty").mkdir()
    Path("file").touch()
    before = tree(Path())
    assert complaint(capsys, *words).startswith(message)
    assert tree(Path()) == before
