"""scripts/gpu_check.py: its refusal without a GPU, the stages on a stand-in for one, and its processes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gpu_check
import numpy as np
import pytest
from backend_enum import BackendCase
from benchmarks.peers import Images
from gpu import runs, work

from xpnet.errors import XPNetError

pytestmark = pytest.mark.tooling

LIBRARIES = ["cupy", "torch", "jax"]
CARD = {"name": "NVIDIA H100 80GB HBM3", "memory_gib": 79.2, "float32_to_float64": 2}
CARD |= {"driver": "580.65", "cuda": "13.0"}
RIGHT = gpu_check.golden(gpu_check.GOLDEN)
STAGES = ["fingerprints", "parity", "speed", "suite"]


class Machine:
    """A machine with a GPU, whose processes find what is right, except for those `wrong` or `broken`."""

    def __init__(self):
        self.devices = {name: ["cuda:0"] for name in LIBRARIES}
        self.wrong, self.broken = {}, {}
        self.started, self.limits = [], []
        self.before = self.after = lambda _: None

    def work(self, words, seconds, on_result):
        self.started.append(words)
        self.limits.append(seconds)
        self.before(words)
        what, name, *rest = words
        for result in getattr(self, what)(name, *rest):
            on_result(result)
            self.after(result)
        return self.broken.get((what, name))

    def probe(self, name, _):
        usable = bool(self.devices[name])
        reason, fix = (None, None) if usable else (f"{name} is not installed", f"pip {name}")
        version, devices = "14.2" if usable else None, self.devices[name]
        yield {"usable": usable, "version": version, "devices": devices, "reason": reason, "fix": fix}

    def fingerprints(self, name, _, *marks):
        for epochs in map(int, marks):
            digest = (RIGHT | self.wrong.get(name, {}))[epochs]
            yield {"epochs": epochs, "fingerprint": digest, "seconds": epochs / 8}

    def speed(self, *_):
        yield {"bandwidth": 2e12}
        yield {"products": {"side": 2048, "float32": 1e-3, "float64": 31.5e-3, "ratio": 31.5}}
        for arithmetic in ("reproducible", "native"):
            for result in self.peer():
                yield {"step": {"arithmetic": arithmetic, **result["step"]}}

    def peer(self, *_):
        for batch in (60_000, 1024, 128):
            yield {"step": {"batch": batch, "rows": 60_000, "seconds": 1e-6 * batch, "runs": []}}

    def command(self, words, seconds, **variables):
        self.started.append((words, variables))
        self.limits.append(seconds)
        self.before(words)
        if "--json" in words:
            file = Path(words[words.index("--json") + 1])
            file.write_text('{"rows": [{"device": "cuda:0"}]}')
        problem = self.broken.get(words[1])
        output = "a table" if problem is None else "a table\nFAILED tests/test_x.py::test_y"
        return {"problem": problem, "last_line": "561 passed in 93.10s", "output": output}


@pytest.fixture
def gpu(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(gpu_check, "work", machine.work)
    monkeypatch.setattr(gpu_check, "command", machine.command)
    monkeypatch.setattr(gpu_check, "card", lambda: dict(CARD))
    environment = {"python": "CPython 3", "platform": "Linux", "git": {"commit": "abc", "dirty": False}}
    monkeypatch.setattr(gpu_check, "collect_environment", lambda: environment)
    return machine


@pytest.fixture
def check(tmp_path):
    """Run the check into a folder of its own and return its exit code."""
    return lambda *words: gpu_check.main(["--out", str(tmp_path / "new" / "out"), *words])


@pytest.fixture
def evidence(tmp_path):
    """Return the evidence that lies in the folder, and its page; nothing else lies there."""

    def read():
        (file,) = tmp_path.glob("new/out/*.json")
        assert sorted(file.parent.iterdir()) == [file, file.with_suffix(".md")]
        return json.loads(file.read_text()), file.with_suffix(".md").read_text()

    return read


# Without a GPU


def test_without_cuda_or_a_folder_to_write_to_it_is_one_line_and_code_2(gpu, check, tmp_path, capsys):
    (tmp_path / "new").touch()
    assert check() == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1
    assert [words[0] for words in gpu.started] == ["probe"] * 3
    gpu.devices = dict.fromkeys(LIBRARIES, ())
    assert check() == 2
    reasons = " | ".join(f"{name}: {name} is not installed; to fix it: pip {name}" for name in LIBRARIES)
    assert capsys.readouterr() == ("", f"gpu_check: CUDA is not usable here: {reasons}\n")


def test_a_library_that_is_missing_or_crashes_is_recorded_and_no_failure(gpu, check, evidence):
    gpu.devices["jax"] = []
    gpu.broken["probe", "torch"] = "ended by signal 11: no output"
    assert check() == 0
    found, page = evidence()
    assert found["libraries"]["jax"]["reason"] == "jax is not installed"
    assert not found["libraries"]["torch"]["usable"]
    assert "- torch not usable: ended by signal 11: no output\n" in page
    assert list(found["stages"]["fingerprints"]["parts"]) == ["cupy on cuda:0"]
    assert list(found["stages"]["speed"]["parts"]) == ["cupy"]
    assert check("--only", "parity") == 0
    assert gpu.started[-1][0][:5] == ["-m", "xpnet", "parity", "--require", "numpy,cupy"]


# The stages


def test_a_gpu_that_agrees_gives_evidence_and_code_0(gpu, check, evidence, capsys):
    assert check() == 0
    found, page = evidence()
    assert found["card"] == CARD
    assert list(found["stages"]) == STAGES
    assert all(stage["complete"] for stage in found["stages"].values())
    assert found["stages"]["parity"]["parts"]["table"]["report"] == {"rows": [{"device": "cuda:0"}]}
    assert page.startswith("# NVIDIA H100 80GB HBM3: all agree\n")
    for line in (
        "- 79.2 GiB, driver 580.65, CUDA 13.0",
        "| jax on cuda:0 | same | same | same | same | 12.5 |",
        "a table",
        "| xpnet on cupy, reproducible | 60,000.0 | 1,024.0 | 128.0 |",
        "| hand-written torch | 60,000.0 | 1,024.0 | 128.0 |",
        "| floor | 23.6 | 0.4 | 0.1 |",
        "- jax: 561 passed in 93.10s",
        "31.5 times (jax) as long as one in float32: slow, and the reproducible arithmetic needs float64.",
    ):
        assert f"{line}\n" in page
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1].startswith("all agree; written to ")
    kinds = [words[0] for words in gpu.started if isinstance(words, list)]
    assert kinds == ["probe"] * 3 + ["fingerprints"] * 3 + ["speed"] * 3 + ["peer"] * 2


def test_every_finding_is_written_at_once_and_an_interrupt_leaves_it(gpu, check, evidence, tmp_path):
    def interrupt(words):
        if words[:2] == ["fingerprints", "torch"]:
            raise KeyboardInterrupt

    contents = set()
    gpu.before = interrupt
    gpu.after = lambda _: contents.update(file.read_text() for file in tmp_path.glob("new/out/*.json"))
    assert check() == 130
    assert len(contents) == 4
    found, page = evidence()
    stage = found["stages"]["fingerprints"]
    assert stage["parts"]["cupy on cuda:0"]["100"]["fingerprint"] == RIGHT[100]
    assert not stage["complete"]
    assert "**not finished**" in page
    assert page.startswith("# NVIDIA H100 80GB HBM3: agree so far: \n")


def test_only_runs_the_stages_that_are_named_and_leaves_the_others_as_they_were(
    gpu, check, evidence, tmp_path
):
    assert check("--only", "suite", "parity") == 0
    before = evidence()[0]["stages"]
    gpu.broken["fingerprints", "cupy"] = "out of memory"
    assert check("--only", "fingerprints") == 1
    after, page = evidence()
    assert {name: after["stages"][name] for name in before} == before
    assert page.startswith("# NVIDIA H100 80GB HBM3: NOT all agree\n")
    gpu.broken.clear()
    assert check("--only", "fingerprints") == 0
    assert evidence()[1].startswith("# NVIDIA H100 80GB HBM3: agree so far: fingerprints, parity, suite\n")
    (file,) = tmp_path.glob("new/out/*.json")
    file.write_text('{"stages": ')  # damaged: it is replaced
    assert check("--only", "parity") == 0
    assert list(evidence()[0]["stages"]) == ["parity"]


def test_a_fingerprint_that_differs_gives_code_1_and_a_second_gpu_is_checked(gpu, check, evidence, capsys):
    for devices in gpu.devices.values():
        devices.append("cuda:1")
    gpu.wrong["torch"] = {100: "1" * 64}
    assert check("--only", "fingerprints") == 1
    found, page = evidence()
    failure = f"torch on cuda:0: after 100 epochs the fingerprint is {'1' * 64}, not {RIGHT[100]}"
    stage = found["stages"]["fingerprints"]
    assert stage["failures"] == [failure]
    assert "| torch on cuda:0 | same | same | same | DIFFERS | 12.5 |" in page
    assert capsys.readouterr().err == f"gpu_check: {failure}\n"
    pairs = [f"{name} on {device}" for device in ("cuda:0", "cuda:1") for name in LIBRARIES]
    assert list(stage["parts"]) == pairs
    assert gpu.started[-1] == ["fingerprints", "jax", "cuda:1", "0", "1", "10"]


@pytest.mark.parametrize(
    ("broken", "stage"), [("pytest", "suite"), ("xpnet", "parity"), (("speed", "cupy"), "speed")]
)
def test_a_failing_stage_gives_code_1_and_the_others_go_on(gpu, check, evidence, broken, stage):
    gpu.broken[broken] = "ended with code 1: 3 failed"
    assert check() == 1
    found, page = evidence()
    failures = found["stages"][stage]["failures"]
    assert failures
    assert all(line.endswith(": ended with code 1: 3 failed") for line in failures)
    assert all(not found["stages"][name]["failures"] for name in STAGES if name != stage)
    assert all(each["complete"] for each in found["stages"].values())
    assert f"- {failures[0]}\n" in page
    assert ("FAILED tests/test_x.py::test_y" in page) == (stage != "speed")


@pytest.mark.parametrize("installed", [True, False])
def test_the_suite_has_the_plugin_and_the_processes_that_there_are(gpu, check, monkeypatch, installed):
    points = [SimpleNamespace(value="xpnet.parity.plugin")] if installed else []
    monkeypatch.setattr(gpu_check, "metadata", SimpleNamespace(entry_points=lambda group: points))
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: name if installed else None)
    monkeypatch.setattr(gpu_check, "available_cpus", lambda: 16)
    assert check("--only", "suite") == 0
    (words, variables) = gpu.started[4]
    plugin = " -n 8" if installed else " -p xpnet.parity.plugin"
    assert " ".join(words).endswith(f" -m cuda{plugin} -k torch:cuda")
    assert variables == {"XPNET_REQUIRE_BACKENDS": "torch:cuda"}


def test_the_selector_selects_the_cases_on_the_gpu_alone(gpu, check):
    assert check("--only", "suite") == 0
    selector, variables = gpu.started[-1][0][-2:], gpu.started[-1][1]
    words = ["-m", "pytest", "-q", "-m", "cuda", "--collect-only", "-p", "no:cacheprovider", *selector]
    lines = []
    runs.run([*words, "tests/backends/test_backends.py"], 60.0, lines.append, subprocess.DEVNULL, variables)
    selected = [line for line in lines if "::" in line]
    assert len(selected) > 30
    assert all("[jax:cuda" in line or "-jax:cuda" in line for line in selected)


# Time


def test_a_stage_shares_its_time_among_what_is_left(gpu, check, monkeypatch):
    now, took = [0.0], iter([10.0, 80.0, 400.0])
    monkeypatch.setattr(gpu_check, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def take(words):
        if words[0] == "fingerprints":
            now[0] += next(took)

    gpu.before = take
    assert check("--only", "fingerprints", "--minutes", "5") == 0
    assert gpu.limits[-3:] == [100.0, 145.0, 210.0]


ENDLESS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.{})
subprocess.Popen(["sleep", "1000"])  # which holds the pipe open
print("first", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize(("handler", "timeouts"), [("default_int_handler", 1), ("SIG_IGN", 2)])
def test_a_process_is_stopped_with_those_that_it_started(monkeypatch, handler, timeouts):
    timers, lines = [], []

    def make_timer(seconds, function):
        timers.append((seconds, function))
        return SimpleNamespace(start=lambda: None, cancel=lambda: None)

    def line(text):
        lines.append(text)
        for _, function in timers[:timeouts]:
            function()

    monkeypatch.setattr(runs, "Timer", make_timer)
    ending = runs.run(["-S", "-c", ENDLESS.format(handler)], 5.0, line, subprocess.DEVNULL)
    assert (ending, lines) == ("stopped after 5 s", ["first"])
    assert [seconds for seconds, _ in timers] == [5.0, 5.0 + runs.GRACE]


# The files


def test_the_file_is_named_after_the_card_whatever_characters_it_has():
    names = ["NVIDIA GeForce RTX™ 4090/D (24 GB)", "../../etc", "Tesla\0V100\n", "显卡"]
    slugs = ["nvidia-geforce-rtx-4090-d-24-gb", "etc", "tesla-v100", "unknown"]
    assert list(map(gpu_check.slug, names)) == slugs


def test_the_golden_fingerprints_are_those_of_the_page(tmp_path):
    assert sorted(RIGHT) == [0, 1, 10, 100]
    page = tmp_path / "page.md"
    page.write_text(gpu_check.GOLDEN.read_text().replace("| after 10 epochs |", "| later |"))
    with pytest.raises(XPNetError, match="after 10 epochs"):
        gpu_check.golden(page)
    with pytest.raises(XPNetError, match="cannot be read"):
        gpu_check.golden(tmp_path / "none.md")


# Processes of their own, here on the CPU


ANSWER = """print('{"a": 1}', flush=True); """


@pytest.mark.parametrize(
    ("program", "problem", "count"),
    [
        (ANSWER, None, 1),
        (f"{ANSWER}os.write(2, b'gone'); os.abort()", "ended by signal 6: gone", 1),
        ("""print('{"error": "out of memory"}'); print('{"a": ', end='')""", "out of memory", 0),
    ],
)
def test_the_answers_of_a_process_are_passed_on_and_its_last_words_are_the_problem(
    monkeypatch, program, problem, count
):
    monkeypatch.setattr(runs, "WORK", ["-S", "-c", f"import os, sys; {program}"])
    answers = []
    assert runs.work([], 60.0, answers.append) == problem
    assert answers == [{"a": 1}] * count


def test_a_command_is_shown_and_recorded(monkeypatch, capsys):
    program = (
        "import os, sys; print('first'); print(os.environ['WORD'], flush=True);"
        "print('== 1 failed ==', file=sys.stderr); sys.exit(3)"
    )
    assert runs.command(["-S", "-c", program], 60.0, WORD="naïve") == {
        "problem": "ended with code 3: 1 failed",
        "last_line": "1 failed",
        "output": "first\nnaïve\n== 1 failed ==",
    }
    assert "naïve" in capsys.readouterr().out


def test_real_processes_train_and_their_error_is_one_line():
    answers = []
    assert runs.work(["fingerprints", "numpy", "cpu", "0", "1"], 120.0, answers.append) is None
    assert {one["epochs"]: one["fingerprint"] for one in answers} == {x: RIGHT[x] for x in (0, 1)}
    problem = runs.work(["fingerprints", "numpy", "mars", "0"], 60.0, print)
    assert problem.startswith("BackendError: the numpy backend cannot run on mars: ")
    assert "\n" not in problem


@pytest.fixture
def small(monkeypatch):
    """Little to measure: a data set, and the sizes of matrices and of the memory that is copied."""
    amounts = {"COPIED": 1 << 16, "SIDE": 32, "RUNS": 3}
    for name, value in (amounts | {"EFFORT": {"target": 0.001, "longest": 0.01, "trial": 1}}).items():
        monkeypatch.setattr(work, name, value)
    tasks = work.Task
    monkeypatch.setattr(work, "Task", lambda batch: tasks(batch=batch, rows=2048))
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (2048, 784), dtype=np.uint8)
    y = random.integers(0, 10, 2048).astype(np.int32)
    return Images(x, y, x[:10], y[:10])


def test_the_speed_of_a_library(small):
    answers = []
    work.speed("numpy", "cpu", small, answers.append)
    assert min(answers[0]["bandwidth"], *answers[1]["products"].values()) > 0
    steps = [one["step"] for one in answers[2:]]
    kinds = [(batch, kind) for batch in (2048, 1024, 128) for kind in ("reproducible", "native")]
    assert [(step["batch"], step["arithmetic"]) for step in steps] == kinds
    assert all(len(step["runs"]) == 3 and min(step["runs"]) > 0 for step in steps)


@pytest.mark.parametrize("case", [BackendCase.TORCH, BackendCase.JAX])
def test_the_speed_of_what_users_write_by_hand(small, case):
    answers = []
    try:
        work.peer(case.value, "cpu", small, answers.append)
    finally:
        if "jax" in sys.modules:
            sys.modules["jax"].config.update("jax_default_device", None)
    assert [one["step"]["batch"] for one in answers] == [2048, 1024, 128]
    assert all("arithmetic" not in one["step"] for one in answers)
