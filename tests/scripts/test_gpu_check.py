"""scripts/gpu_check.py: its refusal without a GPU, the stages on a stand-in for one, and its processes."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import gpu_check
import numpy as np
import pytest
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
        self.started = []
        self.before = self.after = lambda _: None

    def work(self, words, _, on_result):
        self.started.append(words)
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

    def command(self, words, _, **variables):
        self.started.append((words, variables))
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
    ):
        assert f"{line}\n" in page
    assert capsys.readouterr().out.splitlines()[-1].startswith("all agree; written to ")


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
    assert not found["stages"]["fingerprints"]["complete"]
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
    failures = {name: found["stages"][name]["failures"] for name in STAGES}
    assert [name for name in STAGES if failures[name]] == [stage]
    assert all(line.endswith(": ended with code 1: 3 failed") for line in failures[stage])
    assert f"- {failures[stage][0]}\n" in page
    assert ("FAILED tests/test_x.py::test_y" in page) == (stage != "speed")


def test_the_selector_selects_the_cases_on_the_gpu_alone(gpu, check):
    assert check("--only", "suite") == 0
    selector, variables = gpu.started[-1][0][-2:], gpu.started[-1][1]
    words = ["-m", "pytest", "-q", "-m", "cuda", "--collect-only", "-p", "no:cacheprovider", *selector]
    lines = []
    runs.run([*words, "tests/backends/test_backends.py"], 60.0, lines.append, subprocess.DEVNULL, variables)
    selected = [line for line in lines if "::" in line]
    assert len(selected) > 5
    assert all("[jax:cuda" in line or "-jax:cuda" in line for line in selected)


# Time


ENDLESS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"])  # which holds the pipe open
print("first", flush=True)
time.sleep(1000)
"""


def test_a_process_is_stopped_with_those_that_it_started(monkeypatch):
    timers, lines = [], []

    def make_timer(_, function):
        timers.append(function)
        return SimpleNamespace(start=lambda: None, cancel=lambda: None)

    def line(text):
        lines.append(text)
        for function in timers:  # the second one comes after the grace
            function()

    monkeypatch.setattr(runs, "Timer", make_timer)
    ending = runs.run(["-S", "-c", ENDLESS], 5.0, line, subprocess.DEVNULL)
    assert (ending, lines, len(timers)) == ("stopped after 5 s", ["first"], 2)


# The files


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
