"""scripts/gpu_check.py: the refusal on this machine, the stages on a GPU that is pretended, its processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gpu_check
import numpy as np
import pytest
from backend_enum import BackendCase
from benchmarks.peers import Images
from gpu import page, runs, work

from xpnet.backends.resolve import make, probe
from xpnet.errors import XPNetError

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
ODD_NAME = "NVIDIA GeForce RTX™ 4090/D (24 GB)"
ODD_SLUG = "nvidia-geforce-rtx-4090-d-24-gb"
RIGHT = gpu_check.golden(gpu_check.GOLDEN)
STAGES = ["fingerprints", "parity", "speed", "suite"]


class Machine:
    """A machine with a GPU, whose processes find what is right, but for what is `wrong` or `broken`."""

    def __init__(self):
        self.devices = {name: ["cuda:0"] for name in ("cupy", "torch", "jax")}
        self.wrong = {}
        self.broken = {}
        self.started = []
        self.limits = []
        self.before = lambda words: None

    def work(self, words, seconds, found):
        self.started.append(words)
        self.limits.append(seconds)
        self.before(words)
        what, name, *rest = words
        if what == "probe":
            found(self.probe(name))
        elif what == "fingerprints":
            digests = RIGHT | self.wrong.get(name, {})
            for epochs in map(int, rest[1:]):
                digest = digests[epochs]
                found({"epochs": epochs, "fingerprint": digest, "seconds": epochs / 8})
        else:
            self.measured(what, found)
        return self.broken.get((what, name))

    def probe(self, name):
        devices = self.devices[name]
        reason, fix = (None, None) if devices else (f"{name} is not installed", f"pip {name}")
        version = "14.2" if devices else None
        return {
            "usable": bool(devices),
            "version": version,
            "devices": devices,
            "reason": reason,
            "fix": fix,
        }

    def measured(self, what, found):
        kinds = ["reproducible", "native"]
        if what == "speed":
            found({"bandwidth": 2e12})
            found({"products": {"side": 2048, "float32": 1e-3, "float64": 2e-3, "ratio": 2.0}})
        for batch in (60_000, 1024, 128):
            for kind in kinds if what == "speed" else [None]:
                step = {"batch": batch, "rows": 60_000, "seconds": 1e-6 * batch, "runs": []}
                found({"step": step if kind is None else {"arithmetic": kind, **step}})

    def command(self, words, seconds, **variables):
        self.limits.append(seconds)
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
    monkeypatch.setattr(gpu_check, "card", lambda: card("NVIDIA H100 80GB HBM3"))
    return machine


def card(name):
    return {
        "name": name,
        "memory_gib": 79.2,
        "float32_to_float64": 2,
        "driver": "580.65",
        "cuda": "13.0",
    }


def evidence(folder):
    """Return the evidence that lies in the folder, and its page; nothing else lies there."""
    (file,) = folder.glob("*.json")
    assert sorted(folder.iterdir()) == [file, file.with_suffix(".md")]
    return json.loads(file.read_text()), file.with_suffix(".md").read_text()


def check(folder, *words):
    return gpu_check.main(["--out", str(folder), *words])


# --- no GPU


def test_a_machine_without_cuda_is_told_why_in_one_line(tmp_path):
    probes = {name: probe(name, "cuda:0") for name in ("cupy", "torch", "jax")}
    if any(result.usable for result in probes.values()):
        pytest.skip("there is a GPU")
    found = subprocess.run(
        [sys.executable, SCRIPTS / "gpu_check.py", "--out", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("gpu_check: CUDA is not usable here: cupy: ")
    assert found.stderr.count("\n") == 1
    for name, result in probes.items():
        assert f"{name}: {result.reason}" in found.stderr
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_missing_is_recorded_and_no_failure(gpu, tmp_path):
    gpu.devices["jax"] = []
    assert check(tmp_path) == 0
    found, page = evidence(tmp_path)
    assert found["libraries"]["jax"]["reason"] == "jax is not installed"
    assert "- jax not usable: jax is not installed\n" in page
    assert list(found["stages"]["fingerprints"]["parts"]) == ["cupy on cuda:0", "torch on cuda:0"]
    assert list(found["stages"]["speed"]["parts"]) == ["cupy", "torch", "hand-written torch"]


def test_a_probe_that_crashes_is_a_library_that_does_not_work(gpu, tmp_path):
    gpu.broken["probe", "torch"] = "ended by signal 11: no output"
    assert check(tmp_path) == 0
    torch = evidence(tmp_path)[0]["libraries"]["torch"]
    assert not torch["usable"]
    assert torch["reason"] == "ended by signal 11: no output"


# --- the stages


def test_a_gpu_that_agrees_gives_evidence_and_code_0(gpu, tmp_path, capsys):
    assert check(tmp_path / "new" / "folder") == 0
    assert (tmp_path / "new/folder/cuda-nvidia-h100-80gb-hbm3.json").exists()
    found, page = evidence(tmp_path / "new" / "folder")
    assert found["card"] == card("NVIDIA H100 80GB HBM3")
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
    assert "not finished" not in page
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[-1].startswith("all agree; written to ")


def test_the_evidence_of_a_library_is_written_before_the_next_one_starts(gpu, tmp_path):
    def die(words):
        if words[:2] == ["fingerprints", "torch"]:
            raise KeyboardInterrupt

    gpu.before = die
    assert check(tmp_path) == 130
    found, page = evidence(tmp_path)
    stage = found["stages"]["fingerprints"]
    assert stage["parts"]["cupy on cuda:0"]["100"]["fingerprint"] == RIGHT[100]
    assert not stage["complete"]
    assert "**not finished**" in page
    assert page.startswith("# NVIDIA H100 80GB HBM3: agree so far: \n")


def test_each_fingerprint_and_step_is_written_when_it_is_found(gpu, tmp_path, monkeypatch):
    contents = []
    work = gpu.work

    def watched(words, seconds, found):
        def look(answer):
            found(answer)
            contents.extend(file.read_text() for file in tmp_path.glob("*.json"))

        return work(words, seconds, look)

    monkeypatch.setattr(gpu_check, "work", watched)
    assert check(tmp_path, "--only", "fingerprints", "speed") == 0
    assert len(contents) == 3 * 4 + 3 * 8 + 2 * 3
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("name", STAGES)
def test_only_runs_the_stages_that_are_named_and_leaves_the_others_as_they_were(gpu, tmp_path, name):
    assert check(tmp_path) == 0
    before = evidence(tmp_path)[0]["stages"]
    gpu.broken = {
        ("fingerprints", "cupy"): "out of memory",
        "xpnet": "no parity",
        ("speed", "cupy"): "out of memory",
        "pytest": "3 failed",
    }
    assert check(tmp_path, "--only", name) == 1
    after, page = evidence(tmp_path)
    for other in STAGES:
        assert (after["stages"][other] == before[other]) is (other != name)
    assert page.startswith("# NVIDIA H100 80GB HBM3: NOT all agree\n")


def test_a_first_check_of_one_stage_says_what_is_not_checked(gpu, tmp_path):
    assert check(tmp_path, "--only", "parity") == 0
    assert evidence(tmp_path)[1].startswith("# NVIDIA H100 80GB HBM3: agree so far: parity\n")


def test_the_page_has_the_stages_in_their_order(gpu, tmp_path):
    assert check(tmp_path, "--only", "suite", "parity") == 0
    assert check(tmp_path, "--only", "fingerprints") == 0
    page = evidence(tmp_path)[1]
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["fingerprints", "parity", "suite"]


def test_an_unknown_stage_names_the_known_ones(gpu, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        check(tmp_path, "--only", "everything")
    assert ended.value.code == 2
    assert "fingerprints, parity, speed, suite" in capsys.readouterr().err.replace("'", "")


def test_the_most_telling_stage_comes_first(gpu, tmp_path):
    assert check(tmp_path) == 0
    kinds = [words[0] for words in gpu.started if isinstance(words, list)]
    assert kinds == ["probe"] * 3 + ["fingerprints"] * 3 + ["speed"] * 3 + ["peer"] * 2


def test_a_fingerprint_that_differs_gives_code_1_and_names_the_first(gpu, tmp_path, capsys):
    gpu.wrong["torch"] = {10: "0" * 64, 100: "1" * 64}
    assert check(tmp_path) == 1
    found, page = evidence(tmp_path)
    assert found["stages"]["fingerprints"]["failures"] == [
        f"torch on cuda:0: after 10 epochs the fingerprint is {'0' * 64}, not {RIGHT[10]}"
    ]
    assert "| torch on cuda:0 | same | same | DIFFERS | DIFFERS | 12.5 |" in page
    assert capsys.readouterr().err.startswith("gpu_check: torch on cuda:0: after 10 epochs")


def test_a_second_gpu_is_checked_for_ten_epochs(gpu, tmp_path):
    for devices in gpu.devices.values():
        devices.append("cuda:1")
    assert check(tmp_path, "--only", "fingerprints") == 0
    parts = evidence(tmp_path)[0]["stages"]["fingerprints"]["parts"]
    assert list(parts) == [f"{name} on {device}" for device in ("cuda:0", "cuda:1") for name in gpu.devices]
    assert gpu.started[-1] == ["fingerprints", "jax", "cuda:1", "0", "1", "10"]


@pytest.mark.parametrize(("part", "stage"), [("pytest", "suite"), ("xpnet", "parity")])
def test_a_failing_suite_or_parity_table_gives_code_1(gpu, tmp_path, part, stage):
    gpu.broken[part] = "ended with code 1: 3 failed"
    assert check(tmp_path) == 1
    found, page = evidence(tmp_path)
    failures = found["stages"][stage]["failures"]
    assert failures
    assert all(line.endswith(": ended with code 1: 3 failed") for line in failures)
    assert all(not found["stages"][name]["failures"] for name in STAGES if name != stage)
    assert f"- {failures[0]}\n" in page
    assert "FAILED tests/test_x.py::test_y" in page


def test_parity_requires_the_gpu_of_every_library_that_works(gpu, tmp_path):
    gpu.devices["torch"] = []
    assert check(tmp_path, "--only", "parity") == 0
    words, _ = gpu.started[-1]
    assert words[:5] == ["-m", "xpnet", "parity", "--require", "numpy,cupy,jax:cuda"]


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("xdist", [True, False])
def test_the_suite_has_the_plugin_and_the_processes_that_there_are(
    gpu, tmp_path, monkeypatch, installed, xdist
):
    points = [SimpleNamespace(value="xpnet.parity.plugin")] if installed else []
    metadata = SimpleNamespace(entry_points=lambda group: points)
    monkeypatch.setattr(gpu_check, "metadata", metadata)
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: name if xdist else None)
    monkeypatch.setattr(gpu_check, "available_cpus", lambda: 16)
    assert check(tmp_path, "--only", "suite") == 0
    commands = gpu.started[3:]
    cases = ["cupy", "torch:cuda", "jax:cuda"]
    assert [variables for _, variables in commands] == [{"XPNET_REQUIRE_BACKENDS": case} for case in cases]
    for (words, _), case in zip(commands, cases, strict=True):
        text = " ".join(words)
        assert words[:2] == ["-m", "pytest"]
        assert text.endswith(f" -k {case}")
        assert " -m cuda" in text
        assert (" -n 8" in text) is xdist
        assert (" -p xpnet.parity.plugin" in text) is not installed


@pytest.mark.parametrize("case", ["cupy", "torch:cuda", "jax:cuda"])
def test_the_selector_selects_the_cases_on_the_gpu_alone(case):
    words = ["-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "-m", "cuda"]
    file = "tests/backends/test_backends.py"
    found = subprocess.run(
        [sys.executable, *words, "-k", case, file],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    selected = [line for line in found.stdout.splitlines() if "::" in line]
    assert len(selected) > 50, found.stdout
    assert all(f"[{case}" in line or f"-{case}" in line for line in selected)


# --- time


def test_a_stage_shares_its_time_among_what_is_left(gpu, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gpu_check, "time", SimpleNamespace(monotonic=lambda: now[0]))
    took = iter([10.0, 80.0, 400.0])

    def take(words):
        if words[0] == "fingerprints":
            now[0] += next(took)

    gpu.before = take
    assert check(tmp_path, "--only", "fingerprints", "--minutes", "5") == 0
    assert gpu.limits[-3:] == [100.0, 145.0, 210.0]


def test_what_runs_over_its_time_is_recorded_and_the_next_goes_on(gpu, tmp_path):
    gpu.broken["speed", "cupy"] = "stopped after 96 s"
    assert check(tmp_path) == 1
    found, _ = evidence(tmp_path)
    assert found["stages"]["speed"]["failures"] == ["cupy: stopped after 96 s"]
    assert len(found["stages"]["speed"]["parts"]["cupy"]["steps"]) == 6
    assert all(stage["complete"] for stage in found["stages"].values())


ENDLESS = """
import os, signal, subprocess, sys, time
subprocess.Popen(["sleep", "1000"])  # which holds the pipe open
print("first", flush=True)
{}
time.sleep(1000)
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_process_is_stopped_with_those_that_it_started(monkeypatch, stubborn):
    monkeypatch.setattr(runs, "GRACE", 1.0)
    program = ENDLESS.format("signal.signal(signal.SIGINT, signal.SIG_IGN)" if stubborn else "")
    lines = []
    ending = runs.run(["-S", "-c", program], 5.0, lines.append, subprocess.DEVNULL)
    assert ending == "stopped after 5 s"
    assert lines == ["first"]


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("", None),
        ("raise SystemExit(3)", "ended with code 3"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
    ],
)
def test_how_a_process_ends(program, ending):
    found = runs.run(["-S", "-c", program], 60.0, print, subprocess.DEVNULL)
    assert found == ending


def test_a_real_command_is_shown_and_recorded(monkeypatch, capsys, tmp_path):
    (tmp_path / "xpnet_said.py").write_text(
        "import os, sys\n"
        "print('first'); print(os.environ['WORD'], flush=True)\n"
        "print('== 1 failed ==', file=sys.stderr); sys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = runs.command(["-m", "xpnet_said"], 60.0, WORD="naïve")
    assert found == {
        "problem": "ended with code 3: 1 failed",
        "last_line": "1 failed",
        "output": "first\nnaïve\n== 1 failed ==",
    }
    assert "naïve" in capsys.readouterr().out


# --- the files


def test_a_damaged_file_of_an_earlier_check_is_written_anew(gpu, tmp_path):
    (tmp_path / "cuda-nvidia-h100-80gb-hbm3.json").write_text('{"stages": ')
    assert check(tmp_path, "--only", "parity") == 0
    assert list(evidence(tmp_path)[0]["stages"]) == ["parity"]


def test_the_file_is_named_after_the_card_whatever_characters_it_has(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "card", lambda: card(ODD_NAME))
    assert check(tmp_path) == 0
    assert (tmp_path / f"cuda-{ODD_SLUG}.json").exists()
    assert evidence(tmp_path)[0]["card"]["name"] == ODD_NAME


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (ODD_NAME, ODD_SLUG),
        ("../../etc", "etc"),
        ("Tesla\0V100\n", "tesla-v100"),
        ("显卡", "unknown"),
    ],
)
def test_slug(name, expected):
    assert gpu_check.slug(name) == expected


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_runs(gpu, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert check(tmp_path / "file" / "below") == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1
    assert [words[0] for words in gpu.started] == ["probe"] * 3


def test_the_golden_fingerprints_are_those_of_the_page(tmp_path):
    assert sorted(RIGHT) == [0, 1, 10, 100]
    page = tmp_path / "page.md"
    page.write_text(gpu_check.GOLDEN.read_text().replace("| after 10 epochs |", "| later |"))
    with pytest.raises(XPNetError, match="after 10 epochs"):
        gpu_check.golden(page)
    with pytest.raises(XPNetError, match="cannot be read"):
        gpu_check.golden(tmp_path / "none.md")


def test_slow_float64_is_noted():
    products = {"cupy": 31.5, "torch": 30.8}
    parts = {name: {"steps": [], "products": {"ratio": ratio}} for name, ratio in products.items()}
    text = page._float64_note(parts)
    assert "31.5 times (cupy), 30.8 times (torch)" in text
    assert text.endswith(": slow, and the reproducible arithmetic needs float64.")
    assert page._float64_note({}) == "float64: not measured."


# --- what runs in a process of its own, here on the CPU


def test_real_processes_probe_and_train():
    answers = []
    assert runs.work(["probe", "numpy", "cpu"], 60.0, answers.append) is None
    assert answers[0]["usable"]
    answers.clear()
    words = ["fingerprints", "numpy", "cpu", "0", "1"]
    assert runs.work(words, 120.0, answers.append) is None
    assert {one["epochs"]: one["fingerprint"] for one in answers} == {x: RIGHT[x] for x in (0, 1)}


def test_the_error_of_a_real_process_is_one_line():
    problem = runs.work(["fingerprints", "numpy", "mars", "0"], 60.0, print)
    assert problem is not None
    assert problem.startswith("BackendError: the numpy backend cannot run on mars: ")
    assert "\n" not in problem


def test_a_real_process_that_says_nothing_more_is_told_by_its_last_words(monkeypatch, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(
        "print('{\"a\": 1}', flush=True)\n"
        "import os, sys; sys.stderr.write('CUDA error: gone\\n'); sys.stderr.flush(); os.abort()\n"
    )
    monkeypatch.setattr(runs, "WORK", [str(script)])
    answers = []
    assert runs.work([], 60.0, answers.append) == "ended by signal 6: CUDA error: gone"
    assert answers == [{"a": 1}]


def test_an_answer_that_is_cut_off_is_not_one(monkeypatch, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(
        "print('{\"error\": \"out of memory\"}')\nprint('{\"a\": ', end='', flush=True)\n"
        "import time; time.sleep(1000)\n"
    )
    monkeypatch.setattr(runs, "WORK", [str(script)])
    problem = runs.work([], 5.0, lambda answer: pytest.fail(str(answer)))
    assert problem == "out of memory; stopped after 5 s"


@pytest.fixture
def small(monkeypatch):
    """Little to measure: a data set, and the sizes of matrices and of the memory that is copied."""
    monkeypatch.setattr(work, "COPIED", 1 << 16)
    monkeypatch.setattr(work, "SIDE", 32)
    monkeypatch.setattr(work, "RUNS", 3)
    effort = {"target": 0.001, "longest": 0.01, "trial": 1}
    monkeypatch.setattr(work, "EFFORT", effort)
    tasks = work.Task
    monkeypatch.setattr(work, "Task", lambda batch: tasks(batch=batch, rows=2048))
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (2048, 784), dtype=np.uint8)
    y = random.integers(0, 10, 2048).astype(np.int32)
    return Images(x, y, x[:10], y[:10])


def test_the_speed_of_a_library(small):
    answers = []
    work.speed("numpy", "cpu", small, answers.append)
    assert answers[0]["bandwidth"] > 0
    assert answers[1]["products"]["side"] == 32
    steps = [one["step"] for one in answers[2:]]
    assert [(step["arithmetic"], step["batch"]) for step in steps] == [
        (arithmetic, batch) for batch in (2048, 1024, 128) for arithmetic in ("reproducible", "native")
    ]
    assert all(len(step["runs"]) == 3 and min(step["runs"]) > 0 for step in steps)


@pytest.mark.parametrize("case", [BackendCase.TORCH, BackendCase.JAX])
def test_the_speed_of_what_users_write_by_hand(small, case):
    answers = []
    try:
        work.peer(case.value, "cpu", small, answers.append)
    finally:
        if case is BackendCase.JAX:
            import jax

            jax.config.update("jax_default_device", None)
    assert [one["step"]["batch"] for one in answers] == [2048, 1024, 128]
    assert all("arithmetic" not in one["step"] for one in answers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_real_product_takes_time(dtype):
    assert work.product_seconds(make("numpy", "cpu"), dtype, 64) > 0
