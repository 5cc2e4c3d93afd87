"""scripts/gpu_check.py: its refusal without a GPU, the stages on a stand-in for one, and its processes."""

import json
from functools import partial
from pathlib import Path

import gpu_check
import pytest
from backend_enum import BackendCase
from benchmarks.peers import Images
from benchmarks.tasks import Task
from gpu import runs, work
from networks import pixels

pytestmark = pytest.mark.tooling

LIBRARIES = ["cupy", "torch", "jax"]
CARD = {"name": "NVIDIA H100 80GB HBM3", "memory_gib": 79.2, "float32_to_float64": 2}
CARD |= {"driver": "580.65", "cuda": "13.0"}
RIGHT = gpu_check.golden(gpu_check.GOLDEN)
STAGES = ["fingerprints", "parity", "speed", "suite"]
CASES = {case.value for case in BackendCase}


class Machine:
    """A machine with a GPU, whose processes find what is right, except for those `wrong` or `broken`."""

    def __init__(self, out):
        self.out, self.started, self.commands = out, [], []
        self.devices = {name: ["cuda:0"] for name in LIBRARIES}
        self.wrong, self.broken = {}, {}

    def check(self, *words):
        """Run the check and return its exit code."""
        return gpu_check.main(["--out", str(self.out), *words])

    def evidence(self):
        """Return the evidence that lies in the folder, and its page; nothing else lies there."""
        file, page = sorted(self.out.iterdir())
        assert file.with_suffix(".md") == page
        return json.loads(file.read_text()), page.read_text()

    def work(self, words, _, on_result):
        self.started.append(words)
        what, name, *rest = words
        for result in getattr(self, what)(name, *rest):
            on_result(result)
        return self.broken.get((what, name))

    def probe(self, name, _):
        devices, reason = self.devices[name], f"{name} is not installed"
        yield {"usable": bool(devices), "version": "14.2", "devices": devices, "reason": reason, "fix": "pip"}

    def fingerprints(self, name, _, *marks):
        for epochs in map(int, marks):
            digest = (RIGHT | self.wrong.get(name, {}))[epochs]
            yield {"epochs": epochs, "fingerprint": digest, "seconds": epochs / 8}

    def speed(self, *_):
        yield {"bandwidth": 2e12, "products": {"ratio": 31.5}}
        for result in self.peer():
            yield {"step": {"arithmetic": "reproducible", **result["step"]}}

    def peer(self, *_):
        for batch in (60_000, 1024, 128):
            yield {"step": {"batch": batch, "seconds": 1e-6 * batch}}

    def command(self, words, _, **variables):
        self.commands.append((words, variables))
        if "--json" in words:
            Path(words[-1]).write_text('{"rows": [{"device": "cuda:0"}]}')
        problem = self.broken.get(words[1])
        output = "a table" if problem is None else "a table\nFAILED tests/test_x.py::test_y"
        return {"problem": problem, "last_line": "561 passed in 93.10s", "output": output}


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    machine = Machine(tmp_path / "new" / "out")
    monkeypatch.setattr(gpu_check, "work", machine.work)
    monkeypatch.setattr(gpu_check, "command", machine.command)
    monkeypatch.setattr(gpu_check, "card", lambda: dict(CARD))
    return machine


def test_without_cuda_the_fingerprints_or_a_folder_to_write_to_it_is_one_line_and_code_2(
    gpu, monkeypatch, tmp_path, capsys
):
    def refusal():
        assert gpu.check() == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    gpu.out.parent.touch()
    assert "cannot be written" in refusal()
    gpu.devices = dict.fromkeys(LIBRARIES, ())
    reasons = " | ".join(f"{name}: {name} is not installed; to fix it: pip" for name in LIBRARIES)
    assert refusal() == f"gpu_check: CUDA is not usable here: {reasons}"
    assert [words[0] for words in gpu.started] == ["probe"] * 6
    golden, page = gpu_check.GOLDEN, tmp_path / "page.md"
    monkeypatch.setattr(gpu_check, "GOLDEN", page)
    assert "page.md: cannot be read" in refusal()
    page.write_text(golden.read_text().replace("| after 10 epochs |", "| later |"))
    assert refusal().endswith("page.md: lacks the fingerprint of the default run after 10 epochs")


def test_gpu_libraries_that_agree_give_evidence_and_code_0_without_those_that_are_missing(gpu, capsys):
    gpu.devices["jax"] = []
    assert gpu.check() == 0
    evidence, page = gpu.evidence()
    assert evidence["card"] == CARD
    assert evidence["libraries"]["jax"]["reason"] == "jax is not installed"
    assert [name for name, stage in evidence["stages"].items() if stage["complete"]] == STAGES
    assert evidence["stages"]["parity"]["parts"]["table"]["report"] == {"rows": [{"device": "cuda:0"}]}
    (parity, _), *suite = gpu.commands
    assert parity[3:5] == ["--require", "numpy,cupy,torch:cuda"]
    assert all(words[-1] == variables["XPNET_REQUIRE_BACKENDS"] in CASES for words, variables in suite)
    assert page.startswith("# NVIDIA H100 80GB HBM3: all agree\n")
    for line in (
        "- 79.2 GiB, driver 580.65, CUDA 13.0",
        "- jax not usable: jax is not installed",
        "| torch on cuda:0 | same | same | same | same | 12.5 |",
        "a table",
        "| xpnet on cupy, reproducible | 60,000.0 | 1,024.0 | 128.0 |",
        "| hand-written torch | 60,000.0 | 1,024.0 | 128.0 |",
        "| floor | 23.6 | 0.4 | 0.1 |",
        "- torch: 561 passed in 93.10s",
    ):
        assert f"{line}\n" in page
    assert capsys.readouterr().out.splitlines()[-1].startswith("all agree; written to ")


def test_an_interrupt_leaves_what_was_found_and_stages_that_are_not_run_stay(gpu, monkeypatch):
    def interrupted(*_):
        yield {"epochs": 0, "fingerprint": RIGHT[0], "seconds": 0.1}
        raise KeyboardInterrupt

    assert gpu.check("--only", "suite", "parity") == 0
    before = gpu.evidence()[0]["stages"]
    monkeypatch.setattr(gpu, "fingerprints", interrupted)
    assert gpu.check("--only", "fingerprints") == 130
    evidence, page = gpu.evidence()
    unfinished = evidence["stages"].pop("fingerprints")
    assert (unfinished["complete"], [*unfinished["parts"]["cupy on cuda:0"]]) == (False, ["0"])
    assert evidence["stages"] == before
    assert page.startswith("# NVIDIA H100 80GB HBM3: agree so far: parity, suite\n")
    next(gpu.out.glob("*.json")).write_text('{"stages": ')  # damaged: it is replaced
    assert gpu.check("--only", "parity") == 0
    assert list(gpu.evidence()[0]["stages"]) == ["parity"]


def test_each_stage_that_differs_or_fails_is_named_and_the_others_go_on_on_both_gpus(gpu, capsys):
    for devices in gpu.devices.values():
        devices.append("cuda:1")
    gpu.wrong["torch"] = {100: "1" * 64}
    ended = "ended with code 1: 3 failed"
    gpu.broken = dict.fromkeys(["pytest", "xpnet", ("speed", "cupy")], ended)
    gpu.broken["probe", "jax"] = "ended by signal 11: no output"
    assert gpu.check() == 1
    evidence, page = gpu.evidence()
    differs = f"torch on cuda:0: after 100 epochs the fingerprint is {'1' * 64}, not {RIGHT[100]}"
    failures = [differs, f"table: {ended}", f"cupy: {ended}", f"cupy: {ended}", f"torch: {ended}"]
    assert [line for stage in evidence["stages"].values() for line in stage["failures"]] == failures
    assert capsys.readouterr().err.splitlines() == [f"gpu_check: {line}" for line in failures]
    assert page.startswith("# NVIDIA H100 80GB HBM3: NOT all agree\n")
    for line in (
        "- jax not usable: ended by signal 11: no output",
        "| torch on cuda:0 | same | same | same | DIFFERS | 12.5 |",
        f"- table: {ended}",
        "  - `FAILED tests/test_x.py::test_y`",
    ):
        assert f"{line}\n" in page
    pairs = [f"{name} on {device}" for device in ("cuda:0", "cuda:1") for name in ("cupy", "torch")]
    assert list(evidence["stages"]["fingerprints"]["parts"]) == pairs
    assert ["fingerprints", "torch", "cuda:1", "0", "1", "10"] in gpu.started


ANSWER = """print('{"a": 1}', flush=True); """
ENDLESS = """signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"])  # which holds the pipe open
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("program", "seconds", "problem", "count"),
    [
        (f"{ANSWER}os.write(2, b'gone'); os.abort()", 60.0, "ended by signal 6: gone", 1),
        ("""print('{"error": "out of memory"}'); print('{"a": ', end='')""", 60.0, "out of memory", 0),
        (ENDLESS, 1.0, "stopped after 1 s", 0),
    ],
)
def test_the_answers_of_a_process_are_passed_on_and_its_last_words_or_its_limit_are_the_problem(
    monkeypatch, program, seconds, problem, count
):
    monkeypatch.setattr(runs, "GRACE", 0.1)
    monkeypatch.setattr(runs, "WORK", ["-S", "-c", f"import os, signal, subprocess, time; {program}"])
    answers = []
    assert runs.work([], seconds, answers.append) == problem
    assert answers == [{"a": 1}] * count


def test_real_processes_train_and_their_error_is_one_line():
    answers = []
    assert runs.work(["fingerprints", "numpy", "cpu", "0", "1"], 120.0, answers.append) is None
    assert {one["epochs"]: one["fingerprint"] for one in answers} == {x: RIGHT[x] for x in (0, 1)}
    problem = runs.work(["fingerprints", "numpy", "mars", "0"], 60.0, print)
    assert problem.startswith("BackendError: the numpy backend cannot run on mars: ")
    assert "\n" not in problem


def test_the_speed_of_a_library(monkeypatch):
    small = {"COPIED": 1 << 16, "SIDE": 32, "RUNS": 3, "TARGET": 0.01, "Task": partial(Task, rows=2048)}
    for name, value in small.items():
        monkeypatch.setattr(work, name, value)
    (x, y), answers = pixels(2048, 784, 10), []
    work.speed("numpy", "cpu", Images(x, y, x[:10], y[:10]), answers.append)
    assert min(answers[0]["bandwidth"], *answers[1]["products"].values()) > 0
    steps = [one["step"] for one in answers[2:]]
    kinds = [(batch, kind) for batch in (2048, 1024, 128) for kind in ("reproducible", "native")]
    assert [(step["batch"], step["arithmetic"]) for step in steps] == kinds
    assert all(len(step["runs"]) == 3 and min(step["runs"]) > 0 for step in steps)
