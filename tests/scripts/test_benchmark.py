"""scripts/benchmark.py: what it computes from its measurements, what it writes, and how it ends."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from itertools import count
from types import SimpleNamespace

import benchmark
import numpy as np
import pytest
import shared
from benchmarks import against, commands, contenders, fast_peers, growth, limits, peers, runs
from benchmarks.against import Pair
from benchmarks.commands import Command
from benchmarks.growth import Point
from benchmarks.limits import Limits
from benchmarks.page import Results, table_section
from benchmarks.peers import Images
from benchmarks.runs import ContenderError, Effort, Line, Table
from benchmarks.tasks import NAMES, Task, Workload
from networks import pixels

import xpnet
from xpnet._lib.machine import available_cpus
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.tooling

LIMITS = Limits(float32=100e9, float64=50e9, bandwidth=10e9, blas="openblas 1.2 Kernel")
NATIVE = "xpnet:native:numpy"
WITH_LIBRARIES = [
    pytest.param(who, marks=pytest.mark.needs(who.split(":")[-1].split("-")[0]))
    for who in ("xpnet:native:jax", "torch", "torch-manual", "sklearn", "jax", "jax-scan")
]


def test_the_floor_is_the_larger_of_the_products_and_of_reading_at_the_better_of_two_limits():
    training, prediction = Task(hidden=(7, 5), rows=10_000), Task("predict", hidden=(1,), rows=10_000)
    assert training.flops == 2 * 10_000 * (3 * (784 * 7 + 7 * 5 + 5 * 10) - 784 * 7)
    assert prediction.flops == 2 * 10_000 * (784 + 10)
    slower = Limits(float32=1e9, float64=50e9, bandwidth=9e9, blas="")
    measured = limits.better(replace(LIMITS, float64=40e9), slower)
    assert measured == LIMITS
    assert measured.floor(training, "native") == pytest.approx(training.flops / 100e9)
    assert measured.floor(training, "reproducible") == pytest.approx(training.flops / 50e9)
    assert measured.floor(prediction, "native") == pytest.approx(10_000 * 784 / 10e9)


@pytest.fixture(scope="module")
def small():
    x, y = pixels(40, 784, 10)
    return Images(x, y, x[:20], y[:20])


def test_as_many_epochs_of_xpnet_are_trained_as_are_timed(monkeypatch, small):
    epochs, fit = [], xpnet.fit

    def noted(*arguments, callback, **settings):
        return fit(*arguments, callback=lambda log: epochs.append(log.epoch) or callback(log), **settings)

    monkeypatch.setattr(xpnet, "fit", noted)
    one = contenders.XPNet("native", "numpy", small)
    timed = one.training(Task(batch=16, rows=40))
    assert min(timed(3), timed(1)) > 0
    one.current.end()
    assert epochs == [0, 1, 2, 3, 4]
    assert not one.current.is_alive()


@pytest.mark.parametrize("who", ["notebook", NATIVE, *WITH_LIBRARIES])
def test_a_contender_does_every_task(who, small):
    one = contenders.contender(who, contenders.resized(small, 100))
    with getattr(one, "contexts", nullcontext()):
        for task in (Task(rows=100), Task(batch=16, rows=100)):
            assert one.training(task)(2) > 0
        assert one.inference(Task("predict", rows=20))(2) > 0


@pytest.fixture(scope="module")
def one_epoch(small):
    """The batch size, the order and the parameters of an epoch of xpnet, by batch size."""
    x, y = small.x_train, small.y_train
    trained = {}
    for batch in (None, 16):
        config = TrainConfig(hidden=(10,), epochs=1, batch_size=batch or "full", learning_rate=0.5)
        with Trainer.open(config, Dataset(x, y, x[:1], y[:1], "images"), make("numpy", "cpu")) as trainer:
            layers = [
                trainer.model(trainer.initial_state()).layers,
                trainer.model(trainer.fit().state).layers,
            ]
            order = trainer.loader.order(1).host
        start, end = ([(each["weight"].T, each["bias"]) for each in half] for half in layers)
        trained[batch] = start, order, end
    return trained


def trained_by(who, small, task):
    """The parameters after an epoch of a contender, in order: weights (inputs, units) and biases (units,)."""
    one = contenders.contender(who, small)
    one.training(task)(1)
    if who == "sklearn":
        one.parameters = [*zip(one.model.coefs_, one.model.intercepts_, strict=True)]
    if who in {"sklearn", "jax"}:
        return [array for layer in one.parameters for array in layer]
    if who == "jax-scan":
        return [array for weight, bias in one.parameters for array in (weight.T, bias)]
    if who == "torch-manual":
        return one.parameters
    return [(array.detach().numpy() if who == "torch" else array).T for array in one.parameters]


@pytest.mark.parametrize("batch", [None, 16], ids=str)
@pytest.mark.parametrize(
    "who",
    [
        "notebook",
        *(
            pytest.param(who, marks=pytest.mark.needs(who.split("-")[0]))
            for who in ("sklearn", "torch", "torch-manual", "jax", "jax-scan")
        ),
    ],
)
def test_contenders_have_the_parameters_of_xpnet_after_an_epoch(who, batch, small, one_epoch, monkeypatch):
    start, order, end = one_epoch[batch]
    for module in (peers, fast_peers):
        monkeypatch.setattr(
            module, "initial_layers", lambda _: [[*map(np.float32, layer)] for layer in start]
        )
        monkeypatch.setattr(module, "order_of", lambda _: order)
    monkeypatch.setattr(peers.Torch, "order_of", lambda self, _: self.torch.from_numpy(order))
    if who == "sklearn":
        layers = iter(start)
        network = import_module("sklearn.neural_network._multilayer_perceptron")
        monkeypatch.setattr(
            network.MLPClassifier, "_init_coef", lambda *_: [each.copy() for each in next(layers)]
        )
        monkeypatch.setattr(network, "shuffle", lambda *_, **__: order)
    task = Task(batch=batch, rows=len(order), learning_rate=0.5)
    expected = [array for layer in end for array in layer]
    for array, right in zip(trained_by(who, small, task), expected, strict=True):
        np.testing.assert_allclose(np.asarray(array).reshape(right.shape), right, rtol=0, atol=1e-5)


def test_contenders_run_in_turn_perhaps_a_part_of_an_epoch_and_an_absent_library_is_left_out(monkeypatch):
    monkeypatch.setattr(runs, "PAUSE", 0.0)
    asked, absent = [], {"jax": "no compiler", "xpnet:native:torch": "BackendError: torch is not installed"}

    def process(who):
        def ask(**request):
            if who in absent:
                raise ContenderError(absent[who])
            if request:
                return {}
            asked.append(who)
            return {"seconds": 2.0, "passes": 2, "rows": 12_800, "mebibytes": 5.0}

        return who, SimpleNamespace(ask=ask)

    running = [process(who) for who in ("torch", *absent, NATIVE)]
    ready, missing = runs.entrants(Task(batch=128), running, Effort(2, 1.0, 1.0))
    runs.run_in_turn(ready, 2)
    assert (asked, missing) == (["torch", NATIVE] * 2, absent)
    assert ready[0].line.seconds == pytest.approx([4.69, 4.69])
    assert ready[0].line.name == "PyTorch eager, float32 (100 of 469 steps)"


def test_a_training_that_fails_ends_the_benchmark_with_one_line_and_code_1(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "WORKLOADS", (Workload("steps", (Task(hidden=(0,)),), (NATIVE,)),))
    monkeypatch.setattr(benchmark, "measure_limits", lambda *_: LIMITS)
    assert benchmark.main(["--quick", "--only", "steps"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("benchmark: xpnet native, NumPy: .*: ConfigError: ", line)


def test_the_process_that_measures_loads_no_array_library():
    code = f"import sys; sys.path.insert(0, {str(shared.SCRIPTS)!r}); import benchmark; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"numpy", "pandas", "torch", "jax", "sklearn", "matplotlib"} & set(loaded.stdout.split())


def test_a_command_is_measured_to_its_end_to_a_line_or_by_itself(tmp_path, monkeypatch):
    clock = count(1.0, 3.0)
    monkeypatch.setattr(commands, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    def measured(code, **options):
        command = Command("x", "a command", [sys.executable, "-S", "-c", code], **options)
        return command.run(tmp_path, runs.environment(1))

    seconds, memory = measured("print('ready')")
    assert seconds == 3.0
    assert 1 < memory < 100_000  # MiB: a child's peak includes that of this process
    assert measured("print('ready', flush=True); print('later')", stop_at=b"ready")[0] == 3.0
    assert measured("print('ready'); print(12.5)", reports=True)[0] == 12.5
    with pytest.raises(ContenderError, match="a command ended with code 3"):
        measured("raise SystemExit(3)")
    with pytest.raises(ContenderError, match="printed no line that starts with b'ready'"):
        measured("print('else')", stop_at=b"ready")


LINES = [
    Line("notebook", "notebook", [0.2, 0.1, 0.3], [800.0, 801.0, 802.0]),
    Line("torch", "PyTorch eager", [0.1, 0.1, 0.1], [600.0] * 3),
    Line(NATIVE, "xpnet native", [0.06, 0.05, 0.04], [150.0] * 3),
]
EPOCH = Table("epoch", "One epoch", LINES, Task(rows=60_000))
FLOOR = 60_000 * 31_960 / 100e9  # 19.2 ms


def test_a_table_shows_times_floors_memory_and_the_medians_of_the_ratios_within_a_round():
    assert table_section(EPOCH, LIMITS).splitlines() == [
        "## One epoch",
        "",
        "|  | ms an epoch | min - max | × notebook | × best peer | × floor | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| notebook | 200 | 100 - 300 |  | 2.00 |  | 801 |",
        "| **PyTorch eager** | 100 | 100 - 100 | 0.500 |  |  | 600 |",
        f"| xpnet native | 50.0 | 40.0 - 60.0 | 0.300 | 0.500 | {0.05 / FLOOR:.2f} | 150 |",
    ]
    line = Line(NATIVE, "xpnet native", [0.0469] * 2, [150.0, 151.0])
    text = table_section(Table("steps", "One step", [line], Task(batch=128)), LIMITS)
    assert "µs a step" in text
    assert f"| xpnet native | 100 | 100 - 100 | {0.0469 / FLOOR:.2f} |" in text


@pytest.mark.needs("matplotlib")
def test_a_full_run_writes_a_page_with_complete_tables_every_run_and_a_figure_without_date(tmp_path):
    def point(x, task):
        lines = [Line(who, who, [1e-6 * x**0.9] * 2, [100.0] * 2) for who in growth.CONTENDERS]
        return Point(x, task, Table("", "", lines, task))

    growing = [(x, [point(*each) for each in x.points]) for x in growth.all_series(quick=True)]
    missing = {"torch-compile": "no C++ compiler"}
    results = Results(3, 2, LIMITS, {"machine": "a machine"}, [EPOCH], growing, missing)
    benchmark.write_results(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    for part in (
        "medians of 3 runs",
        "- machine: a machine",
        "100 GFLOP/s in float32 and 50.0 GFLOP/s in float64",
        "Slope of time: native 0.90, reproducible 0.90.",
        f"- {NAMES['torch-compile']} did not take part: no C++ compiler",
    ):
        assert part in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    record = json.loads((tmp_path / "benchmarks.json").read_text())
    assert record["tables"][0]["lines"][0]["seconds"] == [0.2, 0.1, 0.3]
    assert record["growth"][0]["slopes"][NATIVE] == pytest.approx(0.9)
    svg = (tmp_path / growth.FIGURE).read_bytes()
    assert svg == growth.figure(growing)
    assert (b"<svg " in svg, b"dc:date" in svg) == (True, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "0"], "--runs: expected a whole number, 1 or more, got '0'"),
        (["--only", "epoch,nothing"], "got 'nothing'"),
        (["--against", "HEAD", "--out", "here"], "--out: does not go with --against"),
        (["--against", "HEAD", "--only", "epoch,wide"], "some of epoch,steps,main,startup, got 'wide'"),
        (["--only", "startup", "--out", "/dev/null/out"], "/dev/null/out: cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, capsys):
    assert benchmark.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"benchmark: .*{re.escape(message)}", line)


def test_only_a_full_run_writes_the_page_of_the_repository():
    def out_and_runs(*words):
        options = benchmark.parse_options(words)
        return options.out, options.runs

    assert out_and_runs() == (benchmark.DOCS, 5)
    assert out_and_runs("--quick") == (None, 1)
    assert out_and_runs("--only", "epoch") == (None, 5)
    assert out_and_runs("--against", "HEAD", "--runs", "3") == (None, 3)


def test_a_quick_run_measures_and_writes(tmp_path, monkeypatch, capsys):
    few = Workload("steps", (Task(batch=128),), ("notebook", "xpnet:reproducible:numpy"))
    monkeypatch.setattr(benchmark, "WORKLOADS", (few,))
    assert benchmark.main(["--quick", "--only", "steps", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "benchmarks.json").read_text())
    lines = record["tables"][0]["lines"]
    assert {line["who"]: len(line["seconds"]) for line in lines} == dict.fromkeys(few.contenders, 1)
    assert min(record["limits"][name] for name in ("float32", "float64", "bandwidth")) > 1e6
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| xpnet reproducible, NumPy" in text
    assert text.strip() in capsys.readouterr().out


def git(folder, *words):
    """Run git in a folder, whatever the user's own settings are; return its output."""
    identity = ("-c", "user.name=xpnet", "-c", "user.email=xpnet@example.invalid")
    command = ["git", *identity, "-c", "core.hooksPath=/dev/null", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def commits(tmp_path, monkeypatch):
    """A repository of two commits of xpnet, the second of which has another SIDE."""
    root = tmp_path / "repository"
    for name in against.PACKED:
        shutil.copytree(shared.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "--quiet")
    for content in ("old", "new"):
        (root / "xpnet" / "side.py").write_text(f"SIDE = {content!r}\n")
        git(root, "add", "--force", ".")
        git(root, "commit", "--quiet", "--message", content)
    monkeypatch.setattr(against, "ROOT", root)
    return root


def test_two_commits_are_compared_each_with_its_own_code(commits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(against, "CONTENDERS", {NATIVE: 1})
    assert benchmark.main(["--against", "HEAD~1", "--quick", "--only", "steps,startup"]) == 0
    head, columns, *lines, last = capsys.readouterr().out.splitlines()
    old, new = against.commits("HEAD~1")
    assert head == f"old {old[:12]}, new {new[:12]}, 1 round, {available_cpus()} threads"
    assert columns.split() == ["old", "new", "new/old", "quartiles", "min", "-", "max"]
    titles = [f"xpnet native, NumPy: a step, batches of {size}" for size in ("32", "128", "1,024")]
    assert [line.partition("  ")[0] for line in lines] == [*titles, "--help", "import xpnet"]
    assert last.startswith("worst ratio: ")
    assert git(commits, "status", "--porcelain", "--ignored") == ""
    with against.unpacked(old, new) as roots:
        assert ["'old'" in (root / "xpnet" / "side.py").read_text() for root in roots] == [True, False]
        with pytest.raises(ContenderError, match="expected import xpnet to find the package there"):
            against.check_origin(roots[0], tmp_path, runs.environment(1, roots[1]))


def test_what_cannot_be_compared_is_refused(commits, tmp_path, monkeypatch):
    for commit in ("--upload-pack=x", "nothing"):
        with pytest.raises(ConfigError, match=f"^--against: expected a commit of .*, got '{commit}'$"):
            against.commits(commit)
    (commits / "xpnet" / "side.py").write_text("SIDE = 'neither'")
    with pytest.raises(ConfigError, match=r"but xpnet/side.py has changes: commit or stash them$"):
        against.commits("HEAD")
    monkeypatch.setattr(against, "ROOT", tmp_path)
    with pytest.raises(ConfigError, match=r"^--against: git status: fatal: not a git repository"):
        against.commits("HEAD")


def test_a_row_has_times_ratio_and_spread_and_the_worst_ratio_is_the_largest():
    pair = Pair("steps", "a step, batches of 32", 100, [0.01, 0.01, 0.02], [0.01, 0.02, 0.02])
    line = " ".join(against.row(pair).split())
    assert line == "a step, batches of 32 100 µs 200 µs 1.000 1.000 - 1.500 1.000 - 2.000"
    pairs = [Pair("epoch", name, 1, [1.0], [new]) for name, new in (("a", 0.9), ("b", 1.1), ("c", 1.0))]
    assert against.worst(pairs) == "worst ratio: 1.100, b"


def test_every_contender_has_the_same_threads_and_none_of_the_users_flags(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    variables = runs.environment(3)
    assert {variables[f"{library}_NUM_THREADS"] for library in ("OMP", "MKL", "OPENBLAS")} == {"3"}
    assert variables["XLA_FLAGS"].endswith("intra_op_parallelism_threads=3")
    assert "OPENBLAS_CORETYPE" not in variables
    assert "dump" not in variables["XLA_FLAGS"]
