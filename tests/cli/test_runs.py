"""Lists and comparisons of runs: what they show, and that nothing in a folder can harm them."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest

from xpnet.__main__ import main as xpnet
from xpnet._lib.text import plain
from xpnet.cli.runs import details, listing
from xpnet.cli.tables import format_value, make_console
from xpnet.config import TrainConfig, to_json
from xpnet.storage import find, record
from xpnet.storage.find import find_newest_run, survey
from xpnet.storage.record import read_run
from xpnet.storage.run import Run

RUNS = Path("runs")
PRINTS = {"a": "aa" * 32, "b": "bb" * 32}
FIGURES = {
    "train_loss": 0.25,
    "train_accuracy": 0.9,
    "test_loss": 0.5,
    "test_accuracy": 0.8,
    "test_accuracy_per_class": [0.75, 0.85],
    "epochs": 5,
    "seconds": 1.25,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def start(name, out=RUNS, **settings):
    """Start a run as training does; the record holds these settings beside the defaults."""
    config = to_json(TrainConfig(arithmetic="native", **settings, name=name, out=out))
    data = {"name": "tiny", "sha256": "cd" * 32, "training_samples": 6, "test_samples": 4}
    return Run.start(
        out,
        name,
        False,
        {
            "command": ["python -m xpnet.train", "--name", name],
            "config": config,
            "seed": 0,
            "device_requested": "auto",
            "device_used": "cpu",
            "device_reason": "no driver",
            "backend": "numpy",
            "data": {**data, "features": 3, "classes": 2},
        },
    )


def make(name, out=RUNS, *, status="completed", fingerprint="a", figures=None, **settings):
    """A run that has ended, with two lines of history."""
    run = start(name, out, **settings)
    for epoch in (0, 5):
        run.log({"epoch": epoch, "train_loss": 3.0 - epoch / 2, "seconds": epoch / 4})
    outcome = {"metrics": {**FIGURES, **(figures or {})}, "fingerprint": PRINTS[fingerprint]}
    run.finish(status, **outcome)
    return run.folder


def edit(folder, **changes):
    """Replace keys of a run.json."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def main(words):
    return xpnet(["runs", *words])


def printed(capsys, *words):
    return commands.printed(capsys, "runs", *words)


def complaint(capsys, *words):
    return commands.complaint(capsys, "runs", *words)


def column(table, number=0):
    return [line.split()[number] for line in table.splitlines()]


def on_terminal(width, show, *arguments, **keywords):
    """What a function prints on a terminal of this width, with its codes for colours."""
    console = make_console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard")
    show(console, *arguments, **keywords)
    return console.file.getvalue()


def tree(folder):
    """Every path below a folder, with its content and the time of its last change."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


# list


def test_a_list_has_a_line_for_each_run_in_the_order_of_their_start(capsys):
    make("second-by-name", hidden=(7, 5))
    make("first-by-name", status="interrupted", fingerprint="b", dtype="float64")
    out = printed(capsys, "list")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "id status network arithmetic backend epochs seconds train acc test acc fingerprint",
        "second-by-name completed 3-7-5-2 native float32 numpy 5 1.2 0.9000 0.8000 aaaaaaaaaaaa",
        "first-by-name interrupted 3-10-2 native float64 numpy 5 1.2 0.9000 0.8000 bbbbbbbbbbbb",
    ]
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_a_validation_accuracy_has_a_column_where_a_run_has_one(capsys):
    make("without")
    make("with", figures={"validation_accuracy": 0.7})
    heading, *lines = printed(capsys, "list").splitlines()
    column_start = heading.index("valid acc")
    assert [line[column_start : column_start + 9].strip() for line in lines] == ["-", "0.7000"]


@pytest.mark.parametrize("words", [("elsewhere",), ("--out", "elsewhere")])
def test_another_folder_can_be_listed(capsys, words):
    make("here")
    make("there", Path("elsewhere"))
    assert column(printed(capsys, "list", *words)) == ["id", "there"]


def test_a_folder_of_one_run_is_a_list_of_it(capsys):
    folder = make("only")
    assert column(printed(capsys, "list", folder)) == ["id", "only"]


def test_trials_are_listed_by_their_path_and_hidden_folders_are_not(capsys):
    make("seed-0", RUNS / "five")
    make("seed-1", RUNS / "project" / "five")
    make("hidden", RUNS / ".replaced-00")
    (RUNS / "five" / "summary.json").write_text("{}")
    assert column(printed(capsys, "list")) == ["id", "five/seed-0", "project/five/seed-1"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes privileges there")
def test_a_folder_that_links_lead_back_to_is_listed_once(capsys):
    make("a")
    (RUNS / "loop").symlink_to(RUNS.resolve())
    assert column(printed(capsys, "list")) == ["id", "a"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("test_accuracy", "high low none"),
        ("test_loss", "low high none"),
        ("seconds", "high low none"),
        ("best_epoch", "low high none"),
        ("id", "high low none"),
        ("status", "low high none"),
        ("started", "none low high"),
    ],
)
def test_lists_are_sorted_by_any_metric_best_accuracy_first_and_nothing_last(capsys, sort, order):
    start("none").finish("failed")
    low = {"test_accuracy": 0.1, "test_loss": 0.2, "seconds": 9.0, "best_epoch": 1}
    make("low", figures=low, status="completed")
    high = {"test_accuracy": 0.7, "test_loss": 0.9, "seconds": 3.0, "best_epoch": 4}
    make("high", figures=high)
    assert column(printed(capsys, "list", "--sort", sort))[1:] == order.split()
    known = [name for name in order.split() if sort in ("id", "status", "started") or name != "none"]
    turned = known[::-1] if sort != "status" else ["none", "low", "high"]
    expected = turned + [name for name in order.split() if name not in known]
    assert column(printed(capsys, "list", "--sort", sort, "--reverse"))[1:] == expected


def test_what_a_list_is_sorted_by_has_a_column(capsys):
    make("a")
    assert "test_loss" not in printed(capsys, "list")
    heading, line = printed(capsys, "list", "--sort", "test_loss").splitlines()
    assert (heading.split()[-1], line.split()[-1]) == ("test_loss", "0.5000")


@pytest.mark.parametrize(("action", "flag"), [("list", "--sort"), ("best", "--metric")])
def test_a_metric_that_no_run_has_is_refused_with_those_that_exist(capsys, action, flag):
    make("a", figures={"f1": 0.5})
    line = complaint(capsys, action, flag, "test_acuracy")
    assert line.startswith(f"{flag}: no run has 'test_acuracy': expected one of train_loss, ")
    assert line.endswith(": did you mean test_accuracy?")
    assert "f1" in line
    assert "per_class" not in line


def test_json_and_csv_say_what_the_list_says_and_every_metric(capsys):
    make("a", figures={"validation_loss": None})
    make("b", RUNS / "five", figures={"best_epoch": 3})
    objects = json.loads(printed(capsys, "list", "--json", "--sort", "id", "--reverse"))
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "list", "--csv", "--sort", "id"))))
    assert [each["id"] for each in objects] == ["five/b", "a"]
    assert [row["id"] for row in rows] == ["a", "five/b"]
    figures = {name: value for name, value in FIGURES.items() if "class" not in name}
    record = read_run(RUNS / "a")
    assert objects[1] == {
        "id": "a",
        "status": "completed",
        "started": record["started"],
        "network": "3-10-2",
        "arithmetic": "native float32",
        "backend": "numpy",
        "folder": "runs/a",
        "fingerprint": PRINTS["a"],
        "metrics": figures,
    }
    assert {name: row for name, row in rows[0].items() if name in figures} == {
        name: str(value) for name, value in figures.items()
    }
    assert [row["best_epoch"] for row in rows] == ["", "3"]


def test_json_and_csv_do_not_go_together(capsys):
    assert "not allowed with argument" in complaint(capsys, "list", "--json", "--csv")


def test_a_folder_without_runs_is_an_empty_list_and_a_note(capsys):
    (RUNS / "other").mkdir(parents=True)
    assert main(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("[]\n", "xpnet: note: no run in runs\n")


def test_a_pipe_gets_every_column_and_no_colours_whatever_the_width_is(capsys):
    make("a" * 60)
    out = printed(capsys, "list")
    assert "\x1b" not in out
    assert "fingerprint" in out
    assert "a" * 60 in out


def test_a_terminal_gets_colours_and_only_the_columns_that_fit():
    make("a")
    make("b", status="interrupted")
    runs = survey(RUNS).runs
    wide = on_terminal(120, listing.print_list, runs, "started")
    assert re.search("\x1b\\[32mcompleted *\x1b\\[0m", wide)
    assert "\x1b[33minterrupted\x1b[0m" in wide
    assert "fingerprint" in wide
    narrow = on_terminal(60, listing.print_list, runs, "seconds")
    assert max(len(line) for line in plain_lines(narrow)) <= 60
    heading = plain_lines(narrow)[0]
    assert "test acc" in heading
    assert "seconds" in heading
    assert "fingerprint" not in heading


def plain_lines(text):
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[1;33m", "\x1b[1;32m"):
        text = text.replace(code, "")
    assert "\x1b" not in text
    return text.splitlines()


def test_the_list_loads_no_array_library():
    make("a")
    code = "import sys; from xpnet.__main__ import main; main(['runs', 'list']); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *table, loaded = out.splitlines()
    assert column("\n".join(table)) == ["id", "a"]
    assert "xpnet.cli.runs.listing" in loaded.split()
    assert not {"numpy", "pandas", "torch", "jax", "cupy", "safetensors"} & set(loaded.split())


# Runs that have not ended


WORK = """\
import sys; sys.path[:0] = sys.argv[1:]
import os; from pathlib import Path; from test_runs import start
run = start("worked-on"); run.log({"epoch": 3, "train_accuracy": 0.5, "seconds": 2.0})
print("started", flush=True); sys.stdin.read()
"""


def age(folder, seconds=60.0):
    """Let run.json be older than the time in which a run takes its lock."""
    then = time.time() - seconds
    os.utime(folder / "run.json", (then, then))


def test_a_run_is_running_while_its_process_lives_and_killed_when_that_is(capsys):
    command = [sys.executable, "-c", WORK, str(Path(__file__).parent), str(Path(commands.__file__).parent)]
    pipe = subprocess.PIPE
    folder = RUNS / "worked-on"
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline().strip() == b"started"
        age(folder)
        line = printed(capsys, "list").splitlines()[1].split()
        process.kill()
    assert line[:2] == ["worked-on", "running"]
    assert line[-4:] == ["3", "2.0", "0.5000", "-"]  # as far as it is: no test accuracy yet
    before = tree(folder)
    assert column(printed(capsys, "list"), 1) == ["status", "killed"]
    output = printed(capsys, "show", "worked-on")
    assert "  status                  killed\n" in output
    assert "metrics so far" in output
    assert "xpnet train --resume runs/worked-on" in output
    assert json.loads(printed(capsys, "show", "worked-on", "--json"))["status"] == "killed"
    assert tree(folder) == before


def test_a_run_that_may_be_about_to_take_its_lock_is_left_in_peace(capsys, monkeypatch):
    monkeypatch.setattr(find, "LOCK_GRACE", 600.0)
    start("new")
    monkeypatch.setattr(find, "is_locked", lambda _: pytest.fail("the lock was tried"))
    assert column(printed(capsys, "list"), 1) == ["status", "running"]


def test_a_run_without_its_lock_file_is_killed(capsys):
    run = start("copied")
    run.release()
    age(run.folder)
    assert column(printed(capsys, "list"), 1) == ["status", "killed"]


def test_a_run_that_ends_while_it_is_looked_at_has_ended(capsys, monkeypatch):
    run = start("ending")

    def worked_on(_):
        run.finish("completed", metrics=FIGURES, fingerprint=PRINTS["a"])
        return False

    monkeypatch.setattr(find, "_is_in_use", worked_on)
    assert printed(capsys, "list").splitlines()[1].split()[:2] == ["ending", "completed"]


def test_looking_at_a_lock_does_not_keep_training_from_it():
    run = start("resumed")
    run.release()
    age(run.folder)
    assert survey(RUNS).runs[0].status == "killed"
    assert Run.reopen(run.folder).id == "resumed"


# Damaged and foreign folders


DAMAGED = {
    "empty": b"",
    "torn": b'{"schema_version": 1, "status": "comp',
    "list": b"[]",
    "binary": bytes(range(256)),
    "deep": b'{"schema_version": 1, "status": "completed", "a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "nested": b'{"schema_version":1,"status":"completed","a":' + b"[" * 50 + b"]" * 50 + b"}",
    "foreign": b'{"name": "a run of another program"}',
    "later": b'{"schema_version": 2, "status": "completed"}',
    "status": b'{"schema_version": 1, "status": {"a": 1}}',
    "number": b'{"schema_version": 1, "status": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_left_out_with_a_note_and_refused_by_name(capsys, name):
    make("good")
    bad = RUNS / "bad"
    bad.mkdir()
    (bad / "run.json").write_bytes(DAMAGED[name])
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert column(out) == ["id", "good"]
    assert err.startswith("xpnet: note: 1 damaged run is left out: runs/bad/run.json: ")
    assert err.count("\n") == 1
    assert len(err) < 250
    for words in (("show", "bad"), ("compare", "good", "bad")):
        assert complaint(capsys, *words).startswith("runs/bad/run.json: ")


def huge(path):
    with path.open("wb") as file:
        file.truncate(record.RECORD_LIMIT + 1)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (huge, "has 8388609 bytes, more than 8388608"),
        (os.mkfifo, "is not a regular file"),
        (Path.mkdir, "cannot be read (Is a directory)"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: path.with_name("metrics.jsonl").touch(), "cannot be read"),
        (lambda path: path.with_name(".lock").touch(), "cannot be read"),
    ],
)
def test_what_is_no_file_or_too_large_is_left_out_with_a_note(capsys, put, reason):
    make("good")
    (RUNS / "bad").mkdir()
    put(RUNS / "bad" / "run.json")
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert column(out) == ["id", "good"]
    assert f"1 damaged run is left out: runs/bad/run.json: {reason}" in err


def test_the_note_names_three_damaged_runs_and_counts_the_others(capsys):
    for number in range(5):
        (RUNS / f"bad-{number}").mkdir(parents=True)
        (RUNS / f"bad-{number}" / "run.json").touch()
    assert main(["list"]) == 0
    err = capsys.readouterr().err.splitlines()[0]
    assert err.startswith("xpnet: note: 5 damaged runs are left out: runs/bad-0/run.json: ")
    assert err.endswith("; and 2 more")


def test_foreign_files_and_folders_are_passed_over(capsys):
    make("good")
    (RUNS / "notes.txt").write_text("mine")
    (RUNS / "metrics.jsonl").write_text("mine")
    (RUNS / "pictures" / "old").mkdir(parents=True)
    (RUNS / "model.safetensors").write_bytes(b"mine")
    assert column(printed(capsys, "list")) == ["id", "good"]


WRONG = {
    "config": [None, [], "text", {"hidden": 5}, {"hidden": ["a"]}, {"arithmetic": 7}, {"dtype": []}],
    "data": [None, [], {"name": "x"}, {"name": ["a"], "sha256": "ab"}],
    "metrics": [[], "text", {"a": "high"}, {"a": True}, {"a": {}}, {"a": [1, "b"]}],
    "started": [None, 5, []],
    "resumed": [None, "text", [5]],
    "command": [None, "text", [5, {}]],
    "versions": [None, [], {"numpy": {}}],
    "git": [[], "text"],
    "fingerprint": [5, [], {}],
    "device_used": [None, 5],
    "backend": [None, 5, []],
    "error": [5],
}


@pytest.mark.parametrize("key", WRONG)
def test_a_record_with_values_of_other_kinds_is_left_out_with_a_note_and_refused_by_name(capsys, key):
    folder = make("odd")
    make("good")
    for value in WRONG[key]:
        edit(folder, **{key: value})
        assert main(["list"]) == 0
        out, err = capsys.readouterr()
        assert column(out) == ["id", "good"]
        assert err.startswith(f"xpnet: note: 1 damaged run is left out: runs/odd/run.json: {key}")
        for words in (("show", "odd"), ("compare", "odd", "good")):
            assert complaint(capsys, *words).startswith(f"runs/odd/run.json: {key}")


ODD = [
    {"config": {}, "data": {"name": "", "sha256": ""}, "versions": {}, "git": {"commit": 5, "dirty": True}},
    {"metrics": None, "fingerprint": None},
    {"metrics": {}, "command": [], "resumed": ["", "x"]},
    {"metrics": {"test_accuracy": None, "test_accuracy_per_class": [None, 1]}},
    {"metrics": {"test_accuracy": 10**400, "seconds": -1e300, "epochs": 10**300}},
    {"error": "x" * 10**6, "started": "", "backend": ""},
]


@pytest.mark.parametrize("changes", ODD, ids=" ".join)
def test_a_record_that_says_little_or_much_is_shown_as_far_as_it_goes(capsys, changes):
    edit(make("odd"), **changes)
    make("good")
    assert "odd" in column(printed(capsys, "list"))
    assert "odd" in column(printed(capsys, "list", "--sort", "test_accuracy"))
    assert printed(capsys, "show", "odd").startswith("odd\n")
    assert printed(capsys, "compare", "odd", "good", "--all").startswith("settings")
    for form in ("--json", "--csv"):
        printed(capsys, "show", "odd", form)
        printed(capsys, "list", form)
        printed(capsys, "compare", "odd", "good", form)
    assert main(["best"]) == 0
    assert capsys.readouterr().out.startswith(("good\n", "odd\n"))


def test_numbers_that_json_does_not_have_count_as_missing(capsys):
    folder = make("nan")
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace("0.8,", "NaN,").replace("0.25", "-1e999"))
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": Infinity}\n')
    (run,) = json.loads(printed(capsys, "list", "--json"), parse_constant=pytest.fail)
    assert set(run["metrics"]) == {"train_accuracy", "test_loss", "epochs", "seconds"}
    output = json.loads(printed(capsys, "show", "nan", "--json"), parse_constant=pytest.fail)
    assert output["metrics"]["test_accuracy"] is None
    assert output["history"] == [{"epoch": 1, "train_loss": None}]


@pytest.mark.parametrize("content", [b"{}\nno\n{}\n", b"[1]\n", b'{"a":' + b"[" * 50 + b"]" * 50 + b"}\n"])
def test_a_damaged_history_is_refused(capsys, content):
    (make("a") / "metrics.jsonl").write_bytes(content)
    assert complaint(capsys, "show", "a").startswith("runs/a/metrics.jsonl: ")


def test_a_torn_last_line_of_the_history_is_left_out(capsys):
    with (make("a") / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 6, "tr')
    assert len(json.loads(printed(capsys, "show", "a", "--json"))["history"]) == 2


def test_a_history_too_large_to_be_one_is_refused(capsys, monkeypatch):
    make("a")
    monkeypatch.setattr(record, "METRICS_LIMIT", 10)
    assert "more than 10" in complaint(capsys, "show", "a")


# Hostile text

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\r\n\u202e[bold]b"
ESCAPED = r"\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\r\n\u202e[bold]b"
COMMANDS = [
    ("list",),
    ("list", "--sort", "epochs"),
    ("list", "--sort", "EVIL"),
    ("show", "EVIL"),
    ("compare", "good", "EVIL"),
    ("compare", "good", "EVIL", "--all"),
    ("best", "--metric", "EVIL"),
]


@pytest.fixture
def evil_run():
    """A run with control characters wherever text can be, its name among them, beside a good one."""
    folder = make("evil")
    evil = {EVIL: EVIL}
    config = {**json.loads((folder / "run.json").read_text())["config"], **evil}
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, EVIL: 2.0}) + "\n")
    texts = ("id", "started", "ended", "backend", "device_used", "device_reason", "error")
    edit(
        folder,
        **dict.fromkeys((*texts, "python", "platform", "fingerprint"), EVIL),
        config={**config, "arithmetic": EVIL},
        data={**evil, "name": EVIL, "sha256": EVIL},
        versions=evil,
        git={"commit": EVIL, "dirty": True},
        command=[EVIL, EVIL],
        resumed=[EVIL],
        metrics={**FIGURES, EVIL: 0.5, EVIL + "s": [0.5]},
    )
    make("good")
    return folder.rename(RUNS / EVIL)


@pytest.mark.skipif(sys.platform == "win32", reason="allows no such names")
@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=["text", "json", "csv"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_control_characters_never_reach_the_terminal(capsys, evil_run, words, form):
    words = [EVIL if word == "EVIL" else word for word in words]
    assert main([*words, *form]) == 0
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert "owned" in out
    if form != ("--json",):
        assert ESCAPED[:20] in out


@pytest.mark.skipif(sys.platform == "win32", reason="allows no such names")
@pytest.mark.parametrize(
    "words",
    [
        ("show", EVIL),
        ("show", f"no {EVIL}"),
        ("compare", EVIL, EVIL),
        ("list", EVIL),
        ("list", "--sort", EVIL),
        ("best", "--metric", EVIL),
        (EVIL,),
        ("list", f"--{EVIL}"),
    ],
    ids=lambda words: " ".join(plain(word) for word in words),
)
def test_control_characters_never_reach_the_terminal_in_messages(capsys, evil_run, words):
    (evil_run / "run.json").write_text("damaged")
    assert main([*words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.isprintable() for line in err.split("\n"))
    assert r"\x1b]0;owned" in err.splitlines()[-1]


def test_control_characters_never_reach_the_terminal_in_notes(capsys, evil_run):
    (evil_run / "run.json").write_text("damaged")
    assert main(["list"]) == 0
    err = capsys.readouterr().err
    assert ESCAPED in err
    assert all(line.isprintable() for line in err.split("\n"))


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("plain text 1-2_ü", "plain text 1-2_ü"),
        ("\x1b[0m", r"\x1b[0m"),
        ("a\tb\nc\r", r"a\tb\nc\r"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\u202e\u2028\u200b", r"\u202e\u2028\u200b"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_text_is_printable_and_otherwise_unchanged(text, output):
    assert plain(text) == output


def test_text_that_standard_output_cannot_encode_is_escaped():
    make("größe")
    code = "import sys; from xpnet.__main__ import main; sys.exit(main(['runs', 'list']))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert rb"gr\xf6\xdfe " in run.stdout


def test_long_text_loses_its_middle():
    assert format_value("a" * 44) == "a" * 44
    assert format_value("start" + "-" * 100 + "end") == "start---------------" + "..." + "-" * 18 + "end"


# show


def test_show_says_everything_about_a_run(capsys):
    make("a", hidden=(7,), learning_rate=0.25)
    out = printed(capsys, "show", "a")
    record = read_run(RUNS / "a")
    for line in [
        "a",
        "  status                  completed",
        "  folder                  runs/a",
        "  files                   metrics.jsonl, run.json",
        f"  started                 {record['started']}",
        f"  ended                   {record['ended']}",
        "  command                 python -m xpnet.train --name a",
        "  network                 3-7-2",
        "  device                  cpu (asked for auto: no driver)",
        "  data                    tiny, 6 training samples, 4 test samples, 3 features, 2 classes",
        f"  data SHA-256            {'cd' * 32}",
        f"  python                  {record['python']}",
        f"  fingerprint             {PRINTS['a']}",
        "* hidden                  [7]",
        "* learning_rate           0.25",
        "  momentum                -",
        "  test_accuracy           0.8000",
        "  class  test_accuracy_per_class",
        "      1                   0.8500",
        "  epoch  train_loss  seconds",
        "      5      0.5000      1.2",
        "evaluate                xpnet evaluate runs/a",
    ]:
        assert line in out.splitlines()
    assert set(record["config"]) <= {line[2:].split()[0] for line in out.splitlines() if line[2:]}
    assert "--resume" not in out


@pytest.mark.parametrize("name", ["five/a", "runs/five/a", "./runs/five/a", "runs/five/a/"])
def test_runs_are_named_by_their_id_or_their_folder(capsys, name):
    make("a", RUNS / "five")
    assert printed(capsys, "show", name).startswith("five/a\n")


def test_a_run_elsewhere_is_named_by_its_folder(capsys, tmp_path):
    folder = make("a", tmp_path / "elsewhere")
    assert printed(capsys, "show", folder).startswith(f"{folder}\n")
    assert printed(capsys, "show", "a", "--out", "elsewhere").startswith("a\n")


@pytest.mark.parametrize("out", ["runs", "elsewhere"])
def test_show_without_a_name_shows_the_newest(capsys, out):
    for folder, name, year in (("", "b", 2030), ("trials", "seed-0", 2031), ("", "a", 2029)):
        edit(make(name, Path(out, folder)), started=f"{year}-01-01T00:00:00.000+00:00")
    assert main(["show", "--out", out, "--json"]) == 0
    output, err = capsys.readouterr()
    assert err == f"xpnet: note: no RUN given: using the newest, {out}/trials/seed-0\n"
    assert output == printed(capsys, "show", "trials/seed-0", "--out", out, "--json")


@pytest.mark.parametrize("left_out", ["no model", "running", "failed", "damaged"])
def test_the_newest_trained_run_has_ended_and_has_a_model(capsys, left_out):
    for name in ("old", "new"):
        (make(name) / "model.safetensors").touch()
    assert find_newest_run().folder == RUNS / "new"
    if left_out == "no model":
        (RUNS / "new/model.safetensors").unlink()
    elif left_out == "damaged":
        (RUNS / "new/run.json").write_text("{")
    else:
        edit(RUNS / "new", status=left_out)
    capsys.readouterr()
    assert find_newest_run().folder == RUNS / "old"
    *notes, last = capsys.readouterr().err.splitlines()
    assert last == "xpnet: note: no RUN given: using the newest, runs/old"
    assert [note.partition(": runs/new/run.json")[0] for note in notes] == (
        ["xpnet: note: 1 damaged run is left out"] if left_out == "damaged" else []
    )


def test_show_json_is_the_record_with_the_history(capsys):
    folder = make("a")
    output = json.loads(printed(capsys, "show", "a", "--json"))
    assert output.pop("folder") == "runs/a"
    history = output.pop("history")
    assert output == read_run(folder)
    assert [row["epoch"] for row in history] == [0, 5]


def test_show_csv_is_the_history(capsys):
    make("a")
    assert printed(capsys, "show", "a", "--csv") == "epoch,train_loss,seconds\n0,3.0,0.0\n5,0.5,1.25\n"


def test_a_long_history_is_shown_in_forty_lines_with_both_ends(capsys):
    run = start("long")
    for epoch in range(1000):
        run.log({"epoch": epoch})
    run.finish("completed", metrics=FIGURES)
    out = printed(capsys, "show", "long")
    title, _, *rest = out[out.index("history") :].splitlines()
    epochs = [int(line) for line in rest[: rest.index("")]]
    assert title == "history (40 of 1000 lines; --csv gives all)"
    assert len(epochs) == details.LINES == len(set(epochs))
    assert (epochs[0], epochs[-1]) == (0, 999)


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_can_go_on_is_shown_with_the_command_for_it(capsys, status):
    start("my run").finish(status, error="no more space")
    out = printed(capsys, "show", "my run")
    assert "xpnet train --resume 'runs/my run'\n" in out
    assert "  error                   no more space\n" in out


def test_trials_are_shown_with_their_summary(capsys):
    for seed in (0, 1):
        make(f"seed-{seed}", RUNS / "five", seed=seed)
    figures = {"test_accuracy": {"mean": 0.8, "standard_deviation": 0.0125}}
    summary = {"over": "seeds", "figures": figures, "trials": []}
    (RUNS / "five" / "summary.json").write_text(json.dumps(summary))
    out = printed(capsys, "show", "five")
    assert "all seeds, mean ± standard deviation\n" in out
    assert "  test_accuracy         0.8000 ± 0.0125\n" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["five/seed-0", "five/seed-1"]
    assert [run["id"] for run in json.loads(printed(capsys, "show", "five", "--json"))] == [
        "five/seed-0",
        "five/seed-1",
    ]


def test_compared_learning_rates_are_shown_with_the_best(capsys):
    make("lr-0.1", RUNS / "rates")
    summary = {"over": "learning rates", "best": {"run": "lr-0.1", "metrics": {}}}
    (RUNS / "rates" / "summary.json").write_text(json.dumps(summary))
    assert "best of all learning rates: lr-0.1\n" in printed(capsys, "show", "rates")


@pytest.mark.parametrize("content", ["", "[]", '{"over": 5', "[" * 9000])
def test_a_damaged_summary_is_refused(capsys, content):
    make("seed-0", RUNS / "five")
    (RUNS / "five" / "summary.json").write_text(content)
    assert complaint(capsys, "show", "five").startswith("runs/five/summary.json: damaged")


@pytest.mark.parametrize(
    "content", ['{"over": 5, "figures": []}', '{"figures": {"a": 5, "b": {"mean": "x"}}, "best": 1}']
)
def test_a_summary_with_values_of_other_kinds_is_shown_as_far_as_it_goes(capsys, content):
    make("seed-0", RUNS / "five")
    (RUNS / "five" / "summary.json").write_text(content)
    assert "five/seed-0" in printed(capsys, "show", "five")


# compare


def test_compare_shows_the_settings_that_differ_and_the_metrics(capsys):
    make("a", learning_rate=0.1, optimizer="adam")
    make("b", learning_rate=0.2, optimizer="adam", figures={"best_epoch": 4, "test_accuracy": 0.5})
    out = printed(capsys, "compare", "a", "b")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "settings a b",
        "learning_rate 0.1 0.2",
        "",
        "surroundings: no difference",
        "",
        "metrics a b",
        "train_loss 0.2500 0.2500",
        "train_accuracy 0.9000 0.9000",
        "test_loss 0.5000 0.5000",
        "test_accuracy 0.8000 0.5000",
        "epochs 5 5",
        "seconds 1.2 1.2",
        "best_epoch - 4",
        "",
        "fingerprints agree: the parameters are the same, bit for bit",
    ]


def test_compare_all_shows_what_is_equal_too_and_marks_what_differs(capsys):
    make("a", learning_rate=0.1)
    make("b", learning_rate=0.2)
    edit(RUNS / "b", backend="torch")
    lines = [line.split() for line in printed(capsys, "compare", "a", "b", "--all").splitlines()]
    assert ["*", "learning_rate", "0.1", "0.2"] in lines
    assert ["optimizer", "sgd", "sgd"] in lines
    assert ["*", "name", "a", "b"] in lines
    assert ["*", "backend", "numpy", "torch"] in lines
    assert ["device", "cpu", "cpu"] in lines
    assert {line[0 if line[0] != "*" else 1] for line in lines if line} >= set(to_json(TrainConfig()))


def test_compare_highlights_on_a_terminal():
    make("a", learning_rate=0.1)
    make("b", learning_rate=0.2, figures={"test_accuracy": 0.5, "test_loss": 0.4})
    comparison = details.compare_runs(survey(RUNS).runs, everything=True)
    text = on_terminal(100, details.print_comparison, comparison, everything=True)
    assert re.search("\x1b\\[33m0\\.1 *\x1b\\[0m", text)
    assert re.search("\x1b\\[33m\\* learning_rate *\x1b\\[0m", text)
    assert "\x1b[33m  optimizer" not in text
    assert "\x1b[32m0.8000\x1b[0m" in text
    assert "\x1b[32m0.4000\x1b[0m" in text
    assert "\x1b[32m0.5000\x1b[0m" not in text
    assert "\x1b[32m0.9000\x1b[0m" not in text  # both have it


def test_a_narrow_terminal_gets_several_tables():
    for number in range(12):
        make(f"run-{number}", learning_rate=0.1 + number)
    comparison = details.compare_runs(survey(RUNS).runs, everything=False)
    lines = plain_lines(on_terminal(50, details.print_comparison, comparison, everything=False))
    headings = [line.split() for line in lines if line.startswith("settings ")]
    assert [name for heading in headings for name in heading[1:]] == [f"run-{number}" for number in range(12)]
    assert len(headings) > 1
    assert max(len(line) for line in lines[: lines.index("surroundings: no difference")]) <= 50


@pytest.mark.parametrize(
    ("prints", "verdict", "agree"),
    [
        ("aa", "fingerprints agree: the parameters are the same, bit for bit", True),
        ("aba", "fingerprints differ: aaaaaaaaaaaa run-0, run-2; bbbbbbbbbbbb run-1", False),
        ("a-", "not every run has a fingerprint: aaaaaaaaaaaa run-0; none run-1", None),
    ],
)
def test_compare_says_whether_the_fingerprints_agree(capsys, prints, verdict, agree):
    for number, fingerprint in enumerate(prints):
        folder = make(f"run-{number}", fingerprint=fingerprint.replace("-", "a"))
        if fingerprint == "-":
            edit(folder, fingerprint=None)
    names = [f"run-{number}" for number in range(len(prints))]
    assert printed(capsys, "compare", *names).splitlines()[-1] == verdict
    compared = json.loads(printed(capsys, "compare", *names, "--json"))
    assert compared["fingerprints_agree"] is agree


def test_compare_prints_json_and_csv(capsys):
    make("a", learning_rate=0.1)
    make("b", hidden=(4, 3), learning_rate=0.2)
    compared = json.loads(printed(capsys, "compare", "a", "b", "--json"))
    assert compared["runs"] == ["a", "b"]
    assert compared["settings"] == {"hidden": [[10], [4, 3]], "learning_rate": [0.1, 0.2]}
    assert compared["surroundings"] == {}
    assert compared["metrics"]["test_accuracy"] == [0.8, 0.8]
    rows = list(csv.reader(io.StringIO(printed(capsys, "compare", "a", "b", "--csv"))))
    assert rows[:3] == [
        ["kind", "name", "a", "b"],
        ["setting", "hidden", "[10]", "[4, 3]"],
        ["setting", "learning_rate", "0.1", "0.2"],
    ]
    assert rows[-1] == ["fingerprint", "fingerprint", PRINTS["a"], PRINTS["a"]]


def test_true_and_one_differ(capsys):
    edit(make("a"), config={"flag": True})
    edit(make("b"), config={"flag": 1})
    settings = json.loads(printed(capsys, "compare", "a", "b", "--json"))["settings"]
    assert settings == {"flag": [True, 1]}


def test_a_folder_of_trials_stands_for_its_runs(capsys):
    for seed in (0, 1):
        make(f"seed-{seed}", RUNS / "five", seed=seed)
    make("alone")
    compared = json.loads(printed(capsys, "compare", "alone", "five", "--json"))
    assert compared["runs"] == ["alone", "five/seed-0", "five/seed-1"]
    assert compared["settings"] == {"seed": [0, 0, 1]}


# best


def test_best_is_chosen_by_validation_accuracy_where_there_is_one(capsys):
    make("test-says", figures={"validation_accuracy": 0.6, "test_accuracy": 0.9})
    make("validation says", figures={"validation_accuracy": 0.7, "test_accuracy": 0.5})
    make("neither", figures={"test_accuracy": 0.99})
    lines = printed(capsys, "best").splitlines()
    assert lines[:2] == ["validation says", "the best of 2 runs with validation_accuracy"]
    assert "  validation_accuracy   0.7000" in lines
    assert f"  fingerprint           {PRINTS['a']}" in lines
    assert lines[-3:] == [
        "evaluate    xpnet evaluate 'runs/validation says'",
        "predict     xpnet predict 'runs/validation says' IMAGE",
        "start from  xpnet train --init-from 'runs/validation says/model.safetensors'",
    ]


def test_best_says_so_when_the_test_accuracy_has_to_decide(capsys):
    make("a")
    assert main(["best"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a\nthe only run with test_accuracy\n")
    assert err.startswith("xpnet: note: chosen by test_accuracy, ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("metric", "name"), [("test_accuracy", "b"), ("test_loss", "c"), ("seconds", "a")])
def test_best_takes_any_metric(capsys, metric, name):
    make("a", figures={"test_accuracy": 0.1, "test_loss": 0.9, "seconds": 1.0})
    make("b", figures={"test_accuracy": 0.3, "test_loss": 0.8, "seconds": 2.0})
    make("c", figures={"test_accuracy": 0.2, "test_loss": 0.7, "seconds": 3.0})
    assert printed(capsys, "best", "--metric", metric).splitlines()[0] == name
    best = json.loads(printed(capsys, "best", "--metric", metric, "--json"))
    assert (best["id"], best["chosen_by"]) == (name, metric)
    assert best["commands"]["evaluate"] == f"xpnet evaluate runs/{name}"
    row = printed(capsys, "best", "--metric", metric, "--csv").splitlines()[1]
    assert row.startswith(f"{name},completed,")


def test_of_equally_accurate_runs_the_lower_loss_is_best_then_the_first(capsys):
    make("high-loss", figures={"test_loss": 0.9})
    make("first", figures={"test_loss": 0.5})
    make("second", figures={"test_loss": 0.5})
    assert printed(capsys, "best", "--metric", "test_accuracy").splitlines()[0] == "first"


def test_runs_that_have_not_ended_are_not_the_best(capsys):
    make("ended", figures={"validation_accuracy": 0.1})
    run = start("running")
    run.log({"epoch": 1, "validation_accuracy": 0.9})
    assert printed(capsys, "best").splitlines()[0] == "ended"


def test_an_interrupted_run_can_be_the_best_and_go_on(capsys):
    make("a", status="interrupted")
    out = printed(capsys, "best", "--metric", "test_accuracy")
    assert "resume      xpnet train --resume runs/a\n" in out
    assert "evaluate    xpnet evaluate runs/a\n" in out


# Bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: ACTION (xpnet runs --help)"),
        (("fly",), "argument ACTION: invalid choice: 'fly'"),
        (("show", "--out", "runs/empty"), "no run in runs/empty: xpnet train makes one; or give"),
        (("show", "--out", "absent"), "no run in absent: xpnet train makes one; or give RUN"),
        (("show", "--out", "file"), "file: cannot be read (Not a directory): expected a folder"),
        (("list", "--colour"), "unrecognized arguments: --colour (xpnet runs --help)"),
        (("list", "runs", "--out", "runs"), "argument --out: not allowed with argument FOLDER"),
        (("list", "absent"), "absent: cannot be read (No such file or directory): expected a folder"),
        (("list", "file"), "file: cannot be read (Not a directory): expected a folder with runs"),
        (("list", "a\0b"), r"a\x00b: cannot be read (not a path): expected a folder"),
        (("show", "absent"), "absent: no such run in runs, and no such folder"),
        (("show", "empty"), "runs/empty: no run in it"),
        (("show", "file"), "file: no such run in runs, and no such folder"),
        (("compare", "a"), "expected two runs or more to compare, got 1"),
        (("compare", "a", "empty"), "runs/empty: no run in it"),
        (("best", "runs/empty"), "no run here has ended with results"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(capsys, words, message):
    make("a")
    (RUNS / "empty").mkdir()
    Path("file").touch()
    before = tree(Path())
    assert complaint(capsys, *words).startswith(message)
    assert tree(Path()) == before


def test_no_command_changes_anything(capsys):
    make("a")
    make("b", RUNS / "five")
    age(start("running").folder)
    before = tree(Path())
    for words in (["list"], ["show", "running"], ["show", "five"], ["compare", "a", "running"]):
        assert main(words) == 0
    assert main(["best", "--metric", "seconds"]) == 0
    assert tree(Path()) == before


def test_debug_shows_the_traceback(capsys):
    assert main(["list", "absent", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


# Two trainings at once

TRAIN = """\
import sys; import xpnet.cli.train; from xpnet import train
print("ready", flush=True); sys.stdin.readline()
sys.exit(train.main(sys.argv[1:]))
"""


def trained_at_once(*words):
    """Exit code, output and errors of two trainings that are let go at the same moment."""
    x = np.random.default_rng(0).integers(0, 256, size=(60, 5), dtype=np.uint8)
    y = np.arange(60) % 3
    np.savez("small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    command = [sys.executable, "-c", TRAIN, "--data", "small.npz", "--epochs", "30", *words]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    assert [each.stdout.readline() for each in both] == ["ready\n"] * 2
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    ended = [(each.communicate(), each.returncode) for each in both]
    return [(code, out, err) for (out, err), code in ended]


def test_two_trainings_at_once_without_names_have_a_run_each(capsys):
    ended = trained_at_once("--device", "cpu")
    assert [code for code, _, _ in ended] == [0, 0]
    out = printed(capsys, "list")
    assert column(out, 1) == ["status", "completed", "completed"]
    lines = [line.split() for _, text, _ in ended for line in text.splitlines()]
    folders = {line[1] for line in lines if line[0] == "run"}
    assert {f"runs/{name}" for name in column(out)[1:]} == folders
    assert len(folders) == 2 == len(list(RUNS.iterdir()))
    compared = json.loads(printed(capsys, "compare", *folders, "--json"))
    assert compared["fingerprints_agree"] is True
    for folder in map(Path, folders):
        output = json.loads(printed(capsys, "show", folder, "--json"))
        epochs = [row["epoch"] for row in output["history"]]
        assert epochs == [0, 10, 20, 30]


def test_of_two_trainings_of_one_name_one_wins_and_the_other_says_so(capsys):
    ended = sorted(trained_at_once("--name", "wanted", "--device", "cpu", "--quiet"))
    assert [code for code, _, _ in ended] == [0, 2]
    assert [out for _, out, _ in ended] == ["", ""]
    loser = ended[1][2]
    assert loser.startswith("xpnet: runs/wanted: ")
    assert loser.count("\n") == 1
    assert printed(capsys, "list").splitlines()[1].split()[:2] == ["wanted", "completed"]
    assert [path.name for path in RUNS.iterdir()] == ["wanted"]


def test_two_series_of_trials_at_once_have_a_folder_each(capsys):
    ended = trained_at_once("--repeats", "2", "--device", "cpu", "--quiet")
    assert [code for code, _, _ in ended] == [0, 0]
    first, second = sorted(RUNS.iterdir())
    for folder in (first, second):
        summary = json.loads((folder / "summary.json").read_text())
        assert [trial["run"] for trial in summary["trials"]] == ["seed-0", "seed-1"]
        assert [run.folder.name for run in survey(folder).runs] == ["seed-0", "seed-1"]
