"""scripts/benchmark.py: what it computes from its measurements, what it writes, and how it ends."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import benchmark
import numpy as np
import pytest
from benchmarks import against, contenders, growth, limits, runs
from benchmarks.against import Pair
from benchmarks.growth import Point, Series, slope
from benchmarks.limits import Limits
from benchmarks.page import Results, number, page, table_section
from benchmarks.peers import Images, images
from benchmarks.runs import Command, ContenderError, Effort, Line, Table
from benchmarks.tasks import NAMES, WORKLOADS, Task, Workload

import xpnet
from xpnet._lib.machine import available_cpus
from xpnet.data import datasets
from xpnet.errors import DivergedError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LIMITS = Limits(float32=100e9, float64=50e9, bandwidth=10e9, blas="openblas 1.2 Kernel")


# --- the least work of a task


def counted_flops(task):
    """Count the products of a training step, or of predictions, while computing them in NumPy."""
    count = 0

    def product(a, b):
        nonlocal count
        count += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b

    weights = [np.ones((units, inputs)) for inputs, units in zip(task.sizes, task.sizes[1:], strict=False)]
    activations = [np.ones((task.sizes[0], task.rows))]
    for weight in weights:
        activations.append(product(weight, activations[-1]))
    if task.kind == "train":
        dz = activations[-1]
        for layer in reversed(range(len(weights))):
            product(dz, activations[layer].T)
            if layer:
                dz = product(weights[layer].T, dz)
    return count


@pytest.mark.parametrize(
    "task",
    [
        Task(rows=3),
        Task(hidden=(7, 5, 4), rows=2),
        Task(hidden=(), rows=2),
        Task("predict", hidden=(7, 5), rows=4),
    ],
    ids=str,
)
def test_the_operations_are_those_of_the_products(task):
    assert task.flops == counted_flops(task)


def test_the_floor_is_the_larger_of_arithmetic_and_reading():
    wide = Task(hidden=(800,), batch=256)
    assert LIMITS.floor(wide, "native") == wide.flops / 100e9
    assert LIMITS.floor(wide, "reproducible") == wide.flops / 50e9
    fast = replace(LIMITS, float32=10e12)
    assert fast.floor(Task("predict", rows=10_000), "native") == 10_000 * 784 / 10e9


def test_the_better_measurement_counts_in_each_respect():
    other = Limits(float32=1e9, float64=60e9, bandwidth=11e9, blas="")
    assert limits.better(LIMITS, other) == Limits(100e9, 60e9, 11e9, LIMITS.blas)


def test_the_limits_of_this_machine_are_plausible():
    found = limits.measure(threads=2, size=256, mebibytes=64, repeats=3)
    assert 1e8 < found.float64 < 1e14
    assert 1e8 < found.float32 < 1e14
    assert 1e8 < found.bandwidth < 1e13
    assert found.blas != "unknown"


# --- from runs to figures


def test_a_ratio_is_the_median_of_the_ratios_within_a_round():
    line, other = (
        Line("torch", "", [1.0, 2.0, 9.0]),
        Line("jax", "", [1.0, 1.0, 10.0]),
    )
    assert line.ratio(other) == 1.0  # not the ratio of the medians, 2
    assert other.ratio(line) == 1.0


@pytest.mark.parametrize(
    ("task", "answer", "seconds"),
    [
        (Task(), {"seconds": 6.0, "passes": 3, "rows": 60_000}, 2.0),
        # 47 of 469 steps
        (Task(batch=128), {"seconds": 1.0, "passes": 1, "rows": 47 * 128}, 469 / 47),
        # the last of 469 steps is short, and a step all the same
        (Task(batch=128), {"seconds": 4.0, "passes": 2, "rows": 60_000}, 2.0),
    ],
)
def test_the_time_of_an_epoch_follows_from_a_part_of_its_steps(task, answer, seconds):
    assert runs.seconds_of_pass(task, answer) == pytest.approx(seconds)


@pytest.mark.parametrize(("seconds_of_step", "rows"), [(0.001, 60_000), (0.1, 20 * 128), (7.0, 128)])
def test_a_run_is_an_epoch_or_the_steps_that_fit(seconds_of_step, rows):
    assert contenders.rows_within(Task(batch=128), seconds_of_step, longest=2.0) == rows


def test_the_slope_of_a_power_law_is_its_exponent():
    xs = [10, 100, 1_000, 50_000]
    assert slope(xs, [3 * x**0.7 for x in xs]) == pytest.approx(0.7)


def test_the_slope_is_that_of_the_least_squares_line():
    random = np.random.default_rng(0)
    xs = [6_000, 20_000, 60_000, 600_000]
    ys = [x * random.uniform(0.5, 2.0) for x in xs]
    expected = np.polyfit(np.log(xs), np.log(ys), 1)[0]
    assert slope(xs, ys) == pytest.approx(expected, rel=1e-9)


# --- the contenders


def small_images(rows=40):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (rows, 784), dtype=np.uint8)
    y = (np.arange(rows) % 10).astype(np.int32)
    return Images(x, y, x[:20], y[:20])


def test_more_rows_than_there_are_repeat_the_images():
    data = small_images()
    found = contenders.resized(data, 100)
    assert np.array_equal(found.x_train, np.concatenate([data.x_train] * 3)[:100])
    assert np.array_equal(found.y_train, np.concatenate([data.y_train] * 3)[:100])
    assert np.array_equal(contenders.resized(data, 30).x_train, data.x_train[:30])


def test_the_images_are_those_that_xpnet_comes_with():
    data, expected = images(), datasets.load()
    for name in Images._fields:
        assert np.array_equal(getattr(data, name), getattr(expected, name))


@pytest.mark.parametrize("batch", [None, 16])
def test_as_many_epochs_of_xpnet_are_trained_as_are_timed(batch, monkeypatch):
    epochs = []
    real = xpnet.fit

    def fit(*arguments, callback, **settings):
        def note(epoch):
            epochs.append(epoch.epoch)
            return callback(epoch)

        return real(*arguments, callback=note, **settings)

    monkeypatch.setattr(xpnet, "fit", fit)
    one = contenders.XPNet("native", "numpy", small_images())
    timed = one.training(Task(batch=batch, rows=40))
    assert timed(3) > 0
    assert epochs == [0, 1, 2, 3]
    assert timed(1) > 0
    assert epochs == [0, 1, 2, 3, 4]
    one.current.end()
    assert epochs == [0, 1, 2, 3, 4]
    assert not one.current.is_alive()


@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_xpnet_trains_and_then_predicts(library):
    pytest.importorskip(library)
    one = contenders.XPNet("native", library, small_images())
    assert one.training(Task(rows=40))(2) > 0
    with one.contexts:
        assert one.inference(Task("predict", rows=20))(2) > 0
    assert not one.current.is_alive()


def test_a_training_that_fails_says_so():
    one = contenders.XPNet("native", "numpy", small_images())
    with pytest.raises(DivergedError, match="diverged"):
        one.training(Task(rows=40, learning_rate=1e30))(5)


PEERS = ["notebook", "torch", "jax", "sklearn"]


@pytest.mark.parametrize("who", PEERS)
@pytest.mark.parametrize("task", [Task(rows=40), Task(batch=16, rows=40), Task("predict", rows=20)])
def test_every_peer_does_every_task(who, task):
    pytest.importorskip({"notebook": "numpy"}.get(who, who))
    one = contenders.contender(who, small_images())
    timed = one.training(task) if task.kind == "train" else one.inference(task)
    assert timed(2) > 0


def test_requests_are_answered_and_errors_are_answers():
    task = asdict(Task(batch=16, rows=64, learning_rate=1e-6))
    requests = [
        {"task": {**task, "hidden": [0]}, "target": 0.01, "longest": 0.01, "trial": 2},
        {"task": task, "target": 0.01, "longest": 0.01, "trial": 2},
        {},
    ]
    answers = io.StringIO()
    contenders.serve("xpnet:native:numpy", io.StringIO("\n".join(map(json.dumps, requests))), answers)
    failed, ready, ran = map(json.loads, answers.getvalue().splitlines())
    assert failed["error"]
    assert ready == {}
    assert ran["seconds"] > 0
    assert ran["rows"] % 16 == 0
    assert ran["mebibytes"] > 10


def test_a_contender_that_cannot_start_says_why():
    with runs.processes(["xpnet:native:nonsense"], runs.environment(1)) as both:
        ((_, process),) = both
        with pytest.raises(ContenderError, match="nonsense"):
            process.ask(task=asdict(Task()), target=0.01, longest=None, trial=2)


class FakeProcess:
    """Answers as a contender would, and notes when it was asked."""

    def __init__(self, who, asked, error=None):
        self.who, self.asked, self.error = who, asked, error

    def ask(self, **request):
        if self.error:
            raise ContenderError(self.error)
        if request:
            return {}
        self.asked.append(self.who)
        return {"seconds": 1.0, "passes": 1, "rows": 60_000, "mebibytes": 5.0}


def test_contenders_run_in_turn_and_one_that_cannot_is_left_out(monkeypatch):
    monkeypatch.setattr(runs, "PAUSE", 0.0)
    asked = []
    running = [
        (who, FakeProcess(who, asked, "no compiler" if who == "torch-compile" else None))
        for who in ("torch", "torch-compile", "xpnet:native:numpy")
    ]
    ready, missing = runs.entrants(Task(), running, Effort(2, 1.0, 1.0))
    runs.run_in_turn(ready, 2)
    assert asked == ["torch", "xpnet:native:numpy"] * 2
    assert missing == {"torch-compile": "no compiler"}
    assert ready[0].line.seconds == [1.0, 1.0]


@pytest.mark.parametrize(
    ("error", "fatal"),
    [("BackendError: torch is not installed", False), ("ValueError: a fault", True)],
)
def test_a_fault_of_xpnet_ends_the_benchmark(error, fatal):
    running = [("xpnet:native:torch", FakeProcess("xpnet:native:torch", [], error))]
    if fatal:
        with pytest.raises(ContenderError, match="a fault"):
            runs.entrants(Task(), running, Effort(1, 1.0, 1.0))
    else:
        _, missing = runs.entrants(Task(), running, Effort(1, 1.0, 1.0))
        assert missing == {"xpnet:native:torch": error}


def test_every_library_gets_the_same_number_of_threads(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    variables = runs.environment(3)
    assert "OPENBLAS_CORETYPE" not in variables
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
    assert {variables[name] for name in names} == {"3"}
    assert "intra_op_parallelism_threads=3" in variables["XLA_FLAGS"]


def test_the_process_that_measures_loads_no_array_library():
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import benchmark; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    libraries = {"numpy", "pandas", "torch", "jax", "sklearn", "matplotlib"}
    assert not libraries & set(loaded.stdout.split())


# --- commands


def python(code, **options):
    return Command("x", "a command", [sys.executable, "-c", code], **options)


def test_a_command_is_measured_to_its_end_or_by_itself(tmp_path):
    variables = runs.environment(1)
    waits = "import time; print('ready', flush=True); time.sleep(0.4); print(12.5)"
    to_end, memory = python(waits).run(tmp_path, variables)
    assert to_end > 0.4
    assert python(waits, reports=True).run(tmp_path, variables)[0] == 12.5
    assert 1 < memory < 100_000  # MiB: a child's peak includes that of this process


WAITS_FOR_A_READING = """
import pathlib, sys, time
reading = pathlib.Path("reading")
reading.unlink()  # the one at the start
print("ready", flush=True)
end = time.monotonic() + 60
while not reading.exists():
    if time.monotonic() > end: sys.exit(1)
    time.sleep(0.01)
"""


def test_a_command_is_measured_to_a_line(tmp_path, monkeypatch):
    readings = []

    def clock():
        (tmp_path / "reading").touch()
        readings.append(2.0 ** len(readings))
        return readings[-1]

    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=clock))
    command = python(WAITS_FOR_A_READING, stop_at=b"ready")
    assert command.run(tmp_path, runs.environment(1))[0] == 1.0
    assert readings == [1.0, 2.0]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (python("raise SystemExit(3)"), "ended with code 3"),
        (python("print('else')", stop_at=b"ready"), "printed no line that starts with b'ready'"),
    ],
)
def test_a_command_that_fails_ends_the_benchmark(command, message, tmp_path):
    with pytest.raises(ContenderError, match=message):
        command.run(tmp_path, runs.environment(1))


def test_short_commands_run_three_times_as_often_after_one_to_warm_up():
    ran = []

    def run(command):
        ran.append(command.who)
        return float(len(ran)), 1.0

    commands = [replace(python(""), who=who) for who in "ab"]
    effort = Effort(runs=2, target=1.0, longest=1.0)
    table = runs.measure_commands("key", "Title", commands, effort, run)
    assert ran == ["a", "b"] * 7
    assert table.lines[0].seconds == [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]


# --- the page


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0123456, "0.0123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1234567.0, "1,234,567"),
        (0.000012, "1.20e-05"),
    ],
)
def test_a_number_has_three_digits(x, text):
    assert number(x) == text


def a_table():
    return Table(
        "epoch",
        "One epoch",
        [
            Line("notebook", "notebook", [0.2, 0.1, 0.3], [800.0, 801.0, 802.0]),
            Line("torch", "PyTorch eager", [0.1, 0.1, 0.1], [600.0] * 3),
            Line("xpnet:native:numpy", "xpnet native", [0.04, 0.05, 0.06], [150.0] * 3),
        ],
        Task(rows=60_000),
    )


def test_a_table_shows_times_ratios_floors_and_memory():
    floor = 60_000 * 31_960 / 100e9  # 19.2 ms
    assert table_section(a_table(), LIMITS).splitlines() == [
        "## One epoch",
        "",
        "|  | ms an epoch | min - max | × notebook | × PyTorch | × floor | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| notebook | 200 | 100 - 300 |  | 2.00 |  | 801 |",
        "| PyTorch eager | 100 | 100 - 100 | 0.500 |  |  | 600 |",
        f"| xpnet native | 50.0 | 40.0 - 60.0 | 0.200 | 0.500 | {0.05 / floor:.2f} | 150 |",
    ]


def test_mini_batches_are_shown_by_the_step():
    seconds = [0.0469] * 2
    lines = [Line("xpnet:native:numpy", "xpnet native", seconds, [150.0, 151.0])]
    text = table_section(Table("steps", "One step", lines, Task(batch=128)), LIMITS)
    floor = 60_000 * 31_960 / 100e9
    assert "µs a step" in text
    assert f"| xpnet native | 100 | 100 - 100 | {0.0469 / floor:.2f} |" in text


def some_growth():
    series = Series(
        "rows",
        "training images (full batch)",
        "an epoch",
        tuple((n, Task(rows=n)) for n in (6_000, 60_000, 600_000)),
    )
    points = [
        Point(
            x,
            Table(
                "rows",
                "",
                [
                    Line(who, who, [scale * x**0.9] * 2, [100 + x / 1000] * 2)
                    for who, scale in zip(growth.CONTENDERS, (1e-6, 2e-6), strict=True)
                ],
                task,
            ),
        )
        for x, task in series.points
    ]
    return series, points


def some_results():
    width, depth = (
        Series(key, f"units of {key}", "a step", tuple((n, Task(batch=256)) for n in (1, 2)))
        for key in ("width", "depth")
    )
    series, points = some_growth()
    few = [replace(point, x=x) for x, point in zip((1, 2), points, strict=False)]
    return Results(
        about={"machine": "a machine"},
        limits=LIMITS,
        tables=[a_table()],
        growth=[(series, points), (width, few), (depth, few)],
        missing={"torch-compile": "no C++ compiler"},
        runs=3,
        threads=2,
    )


def test_the_page_has_every_part():
    text = page(some_results())
    for part in (
        "medians of 3 runs",
        "- machine: a machine",
        "100 GFLOP/s in float32 and 50.0 GFLOP/s in float64",
        "## One epoch",
        "](benchmarks-growth.svg)",
        "Slope of time: native 0.90, reproducible 0.90.",
        f"- {NAMES['torch-compile']} did not take part: no C++ compiler",
        "Every process has 2 threads",
    ):
        assert part in text


def test_the_rows_of_every_table_of_the_page_have_the_same_cells():
    tables = [[]]
    for line in page(some_results()).splitlines():
        if line.startswith("|"):
            tables[-1].append(line.count("|"))
        elif tables[-1]:
            tables.append([])
    tables = [table for table in tables if table]
    assert len(tables) == 5
    assert all(len(set(table)) == 1 for table in tables)


def test_the_record_keeps_every_run():
    found = json.loads(json.dumps(benchmark.record(some_results())))
    assert found["tables"][0]["lines"][0]["seconds"] == [0.2, 0.1, 0.3]
    assert found["growth"][0]["slopes"]["xpnet:native:numpy"] == pytest.approx(0.9)
    assert found["limits"]["float64"] == 50e9


def test_the_figure_is_the_same_bytes_again_and_carries_no_date():
    pytest.importorskip("matplotlib")
    series = some_results().growth
    content = growth.figure(series)
    assert content == growth.figure(series)
    assert ET.fromstring(content).tag.endswith("svg")  # noqa: S314
    assert b"dc:date" not in content


# --- the command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "0"], "--runs: expected a whole number, 1 or more, got '0'"),
        (["--runs", "many"], "got 'many'"),
        (["--only", "epoch,nothing"], "got 'nothing'"),
        (["--only", ""], "got ''"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--out"], "--out: expected one argument"),
        (["--json", "here"], "--json: goes with --against"),
        (["--against", "HEAD", "--out", "here"], "--out: does not go with --against"),
        (
            ["--against", "HEAD", "--only", "epoch,wide"],
            "some of epoch,steps,main,startup, got 'wide'",
        ),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark: ")
    assert message in line


def test_a_folder_that_cannot_be_made_is_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert benchmark.main(["--only", "startup", "--out", str(tmp_path / "file" / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ([], benchmark.DOCS),
        (["--runs", "3"], benchmark.DOCS),
        (["--quick"], None),
        (["--only", "epoch"], None),
        (["--quick", "--out", "here"], Path("here")),
    ],
)
def test_only_a_full_run_writes_the_page_of_the_repository(words, out):
    assert benchmark.parse_options(words).out == out


def test_parts_keep_their_order():
    assert benchmark.parse_options(["--only", "growth,epoch"]).only == ("epoch", "growth")


def test_every_contender_has_a_name():
    assert {who for workload in WORKLOADS for who in workload.contenders} <= set(NAMES)


def test_a_quick_run_measures_and_writes(tmp_path, monkeypatch, capsys):
    few = Workload("steps", (Task(batch=128),), ("notebook", "xpnet:reproducible:numpy"))
    monkeypatch.setattr(benchmark, "WORKLOADS", (few,))
    assert benchmark.main(["--quick", "--only", "steps", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmarks.json", "benchmarks.md"]
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    (table,) = found["tables"]
    assert [line["who"] for line in table["lines"]] == list(few.contenders)
    assert all(len(line["seconds"]) == 1 for line in table["lines"])
    assert found["limits"]["float64"] > 0
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| xpnet reproducible, NumPy" in text
    assert text.strip() in capsys.readouterr().out


# --- two commits


def git(folder, *words):
    """Run git in a folder, whatever the user's own settings are; return what it prints."""
    identity = ("-c", "user.name=xpnet", "-c", "user.email=xpnet@example.invalid")
    command = ["git", *identity, "-c", "core.hooksPath=/dev/null", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two commits of xpnet, the second of which has another greeting."""
    root, ignored = tmp_path / "repository", shutil.ignore_patterns("__pycache__")
    for name in against.PACKED:
        shutil.copytree(runs.ROOT / name, root / name, ignore=ignored)
    git(tmp_path, "init", "--quiet", str(root))
    for content in ("old", "new"):
        (root / "xpnet" / "side.py").write_text(f"SIDE = {content!r}\n")
        git(root, "add", "--force", ".")
        git(root, "commit", "--quiet", "--message", content)
    monkeypatch.setattr(against, "ROOT", root)
    return root


def test_two_commits_are_compared(repository, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(against, "CONTENDERS", {"xpnet:native:numpy": 3})
    file = tmp_path / "comparison.json"
    before = git(repository, "status", "--porcelain", "--ignored")
    assert benchmark.main(["--against", "HEAD~1", "--quick", "--json", str(file)]) == 0
    head, columns, *lines, last = capsys.readouterr().out.splitlines()
    old, new = (git(repository, "rev-parse", name) for name in ("HEAD~1", "HEAD"))
    assert head == f"old {old[:12]}, new {new[:12]}, 1 round, {available_cpus()} threads"
    assert columns.split() == ["old", "new", "new/old", "quartiles", "min", "-", "max"]
    content = json.loads(file.read_text())
    assert (content["old"], content["new"]) == (old, new)
    assert [pair["title"] for pair in content["pairs"]] == [
        "xpnet native, NumPy: an epoch, full batch",
        "xpnet native, NumPy: a step, batches of 32",
        "xpnet native, NumPy: a step, batches of 128",
        "xpnet native, NumPy: a step, batches of 1,024",
        "xpnet reproducible, NumPy: the main job",
        "xpnet native, NumPy: the main job",
        "--help",
        "import xpnet",
    ]
    worst = max(content["pairs"], key=lambda pair: pair["ratio"])
    assert last == f"worst ratio: {worst['ratio']:.3f}, {worst['title']}"
    for pair, line in zip(content["pairs"], lines, strict=True):
        assert line.startswith(pair["title"])
        assert f" {pair['ratio']:.3f} " in line
        assert len(pair["old"]) == len(pair["new"]) == (3 if pair["key"] == "startup" else 1)
    assert git(repository, "status", "--porcelain", "--ignored") == before
    assert git(repository, "worktree", "list").count("\n") == 0


def test_each_side_runs_its_own_commit(repository):
    found = []
    with against.unpacked(*against.commits("HEAD~1")) as roots:
        for root in roots:
            variables = runs.environment(1, root)
            against.check_origin(root, repository.parent, variables)
            code = "from xpnet.side import SIDE; print(SIDE)"
            command = [sys.executable, "-c", code]
            answer = subprocess.run(
                command,
                cwd=repository.parent,
                env=variables,
                check=True,
                capture_output=True,
                text=True,
            )
            found.append(answer.stdout.strip())
        with pytest.raises(ContenderError, match="expected import xpnet to find the package there"):
            against.check_origin(roots[0], repository.parent, variables)
    assert found == ["old", "new"]
    assert not any(root.exists() for root in roots)


def test_a_commit_that_does_not_exist_is_one_line_and_code_2(repository, capsys):
    assert benchmark.main(["--against=--upload-pack=x"]) == 2
    assert benchmark.main(["--against", "nothing"]) == 2
    out, err = capsys.readouterr()
    assert not out
    expected = "benchmark: --against: expected a commit of this repository, got {!r}\n"
    assert err == expected.format("--upload-pack=x") + expected.format("nothing")


def test_what_is_not_committed_is_one_line_and_code_2(repository, capsys):
    (repository / "xpnet" / "side.py").write_text("SIDE = 'neither'\n")
    assert benchmark.main(["--against", "HEAD"]) == 2
    expected = "compares commits, but xpnet/side.py has changes: commit or stash them"
    assert capsys.readouterr().err == f"benchmark: --against: {expected}\n"


def test_without_git_it_is_one_line_and_code_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(against, "ROOT", tmp_path)
    assert benchmark.main(["--against", "HEAD"]) == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmark.main(["--against", "HEAD"]) == 2
    no_repository, no_git = capsys.readouterr().err.splitlines()
    assert "benchmark: --against: git status: fatal: not a git repository" in no_repository
    assert no_git == "benchmark: --against: needs git, which is not installed"


class OneSide:
    """Notes when it ran, and takes the seconds it is given."""

    def __init__(self, who, ran, seconds):
        self.line, self.who, self.ran, self.left = Line(who, who), who, ran, list(seconds)

    def run(self):
        self.ran.append(self.who)
        self.line.seconds.append(self.left.pop(0))


def test_the_sides_alternate_and_rounds_are_paired():
    ran, pair = [], Pair("epoch", "an epoch")
    for rounds in (range(3), range(3, 5)):  # two pairs of processes
        sides = [OneSide("old", ran, [1.0, 2.0, 4.0]), OneSide("new", ran, [3.0, 2.0, 2.0])]
        against.alternate(pair, sides, rounds)
    order = ["old", "new", "new", "old"]
    assert ran == [*order, *order, "old", "new"]
    assert pair.ratios == [3.0, 1.0, 0.5, 3.0, 1.0]
    assert pair.ratio == 1.0
    assert pair.quartiles == (1.0, 3.0)


def test_a_row_has_times_ratio_and_spread():
    pair = Pair("steps", "a step, batches of 32", 100, [0.01, 0.01, 0.02], [0.01, 0.02, 0.02])
    line = against.row(pair)
    words = "a step, batches of 32 100 µs 200 µs 1.000 1.000 - 1.500 1.000 - 2.000"
    assert line.split() == words.split()
    assert line.index("1.000") == against.heading().index("new/old") + 2


def test_the_worst_ratio_is_the_largest():
    pairs = [Pair("epoch", name, 1, [1.0], [new]) for name, new in (("a", 0.9), ("b", 1.1), ("c", 1.0))]
    assert against.worst(pairs) == "worst ratio: 1.100, b"


def test_a_library_that_is_absent_takes_no_part(monkeypatch, capsys):
    @contextlib.contextmanager
    def processes(contenders, variables):
        yield [(who, FakeProcess(who, [], "BackendError: no torch")) for who in contenders]

    monkeypatch.setattr(against, "processes", processes)
    wanted = against.tasks(["epoch"], quick=True)
    who, effort = "xpnet:native:torch", Effort(1, 1.0, None)
    assert not list(against.trainings(who, 1, wanted, effort, ({}, {})))
    expected = "xpnet native, PyTorch takes no part: BackendError: no torch\n"
    assert capsys.readouterr().out == expected


def test_nine_rounds_are_the_default():
    assert benchmark.parse_options(["--against", "HEAD"]).runs == 9
    assert benchmark.parse_options(["--against", "HEAD", "--runs", "3"]).runs == 3
    assert benchmark.parse_options(["--against", "HEAD"]).out is None
