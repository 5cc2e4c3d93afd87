"""scripts/gpu_check.py: its refusal without a GPU, its pages, and its commands; scripts/gpu_steps.py."""

import json
from contextlib import contextmanager
from functools import partial
from subprocess import CompletedProcess
from types import SimpleNamespace

import gpu_check
import gpu_steps
import pytest
from backend_enum import BackendCase
from benchmarks.peers import Images
from benchmarks.tasks import Task
from gpu_check import Command
from networks import pixels

pytestmark = pytest.mark.tooling

TROUBLE = {"device": "cuda:0", "reason": "jax is not installed", "fix": "pip install jax"}
JAX = {"name": "jax", "version": None, "devices": [], "usable": [], "troubles": [TROUBLE]}
DEVICES = ["cuda:0", "cuda:1"]
CUPY = {"name": "cupy", "version": "14.2", "devices": DEVICES, "usable": DEVICES, "troubles": []}
TORCH = {"name": "torch", "version": "2.13", "devices": ["cpu", "cuda:0"], "usable": ["cpu", "cuda:0"]}
TORCH |= {"troubles": []}


@pytest.fixture
def gpu(monkeypatch):
    """A machine with two GPUs; the commands that it runs, of which those in `broken` fail."""
    ran, broken = [], set()

    def run(command, seconds):
        assert seconds == 480
        ran.append((command.title, command.words, command.variables))
        if "interrupted" in broken and len(ran) == 3:  # in the middle of a stage
            raise KeyboardInterrupt
        return ("FAILED: exit code 1" if command.words[1] in broken else "agrees, 2 s"), "some output\n"

    monkeypatch.setattr(Command, "run", run)
    monkeypatch.setattr(gpu_check, "describe_libraries", lambda: [CUPY, TORCH, JAX])
    monkeypatch.setattr(gpu_check, "describe_card", lambda: "NVIDIA H100 80GB HBM3, 580.65, 81559 MiB")
    return ran, broken


def test_without_a_gpu_or_a_folder_to_write_to_it_is_one_line_and_code_2(gpu, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert gpu_check.main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"gpu_check: {tmp_path / 'file'}: cannot be written")
    monkeypatch.undo()
    report = json.dumps({"backends": [{"name": "numpy", "usable": ["cpu"], "troubles": []}, JAX]})
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda words, **_: CompletedProcess(words, 0, report))
    assert gpu_check.main([]) == 2
    line = "gpu_check: CUDA is not usable here: jax: jax is not installed; to fix it: pip install jax\n"
    assert capsys.readouterr().err == line


def test_each_stage_has_a_page_that_shows_what_its_commands_print(gpu, tmp_path, capsys):
    ran, _ = gpu
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all agree\n")
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert pages.keys() == {f"cuda-nvidia-h100-80gb-hbm3-{name}.md" for name in gpu_check.STAGES}
    page = pages["cuda-nvidia-h100-80gb-hbm3-train.md"]
    assert page.startswith("# train: all agree\n")
    assert "- cupy 14.2 on cuda:0, cuda:1\n" in page
    assert "- jax: jax is not installed; to fix it: pip install jax\n" in page
    assert "## cupy on cuda:1: agrees, 2 s\n\n```\nsome output\n```\n" in page
    titles = ["cupy on cuda:0", "cupy on cuda:1", "torch on cuda:0", "table", *2 * ["cupy", "torch"]]
    assert [title for title, _, _ in ran] == titles
    assert ran[3][1][3:] == ["--require", "numpy,cupy,torch:cuda"]
    cases = [variables["XPNET_REQUIRE_BACKENDS"] for _, _, variables in ran[4:6]]
    assert cases == ["cupy", "torch:cuda"]
    assert {case.value for case in BackendCase}.issuperset(cases)


def test_a_command_that_fails_is_named_and_an_interrupt_leaves_the_page(gpu, tmp_path):
    _, broken = gpu
    broken.add("xpnet")
    assert gpu_check.main(["--out", str(tmp_path), "--only", "parity"]) == 1
    (page,) = tmp_path.iterdir()
    assert page.read_text().startswith("# parity: NOT all agree\n")
    assert "## table: FAILED: exit code 1\n" in page.read_text()
    broken.add("interrupted")
    assert gpu_check.main(["--out", str(tmp_path), "--only", "suite"]) == 130
    assert "# suite: all agree so far, 1 of 2 commands\n" in next(tmp_path.glob("*suite.md")).read_text()


ENDLESS = """import signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"])  # which holds the pipe open
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("program", "seconds", "ending"),
    [
        ("print('right')", 60.0, "agrees, "),
        ("print('wrong')", 60.0, "FAILED: does not print right"),
        (ENDLESS, 1.0, "FAILED: stopped after 1 s"),
    ],
    ids=["right", "wrong", "endless"],
)
def test_a_command_agrees_if_it_ends_well_and_in_time_and_prints_what_is_expected(program, seconds, ending):
    actual, output = Command("title", ["-S", "-c", program], "right").run(seconds)
    assert actual.startswith(ending)
    assert output == ("right\n" if ending.startswith("agrees") else "wrong\n" if "print" in ending else "")


def test_the_steps_of_a_library(monkeypatch, capsys):
    x, y = pixels(2048, 784, 10)
    monkeypatch.setattr(gpu_steps, "images", lambda: Images(x, y, x[:10], y[:10]))
    own = {"RUNS": 1, "SECONDS": 0.01, "Task": partial(Task, rows=2048), "which": lambda _: None}
    for name, value in own.items():
        monkeypatch.setattr(gpu_steps, name, value)
    monkeypatch.setattr(gpu_steps.util, "find_spec", lambda _: None)
    gpu_steps.main("numpy", "cpu")
    note, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert note == "nvidia-smi is missing: clocks, ECC and other processes are not recorded"
    assert head == "| numpy on cpu | batch of 60,000 | batch of 1,024 | batch of 128 |"
    assert [row.split("|")[1].strip() for row in rows] == ["xpnet, reproducible", "", "xpnet, native", ""]
    assert all(float(cell.replace(",", "")) > 0 for row in rows[::2] for cell in row.split("|")[2:5])
    assert rows[1] == rows[3] == "|  | ? | ? | ? |"


def test_what_pytorch_traces_is_counted_without_the_start(monkeypatch):
    traced, cuda = [], SimpleNamespace(name="CUDA")

    def event(microseconds):
        return SimpleNamespace(device_type=cuda, time_range=SimpleNamespace(elapsed_us=lambda: microseconds))

    @contextmanager
    def profile(activities):
        traced[:] = [event(700.0)]  # before the first epoch
        yield SimpleNamespace(events=lambda: traced)

    def run(passes):
        traced.extend(event(50.0) for _ in range(8 * passes))
        return 1e-3 * passes

    profiler = SimpleNamespace(ProfilerActivity=SimpleNamespace(CUDA=cuda), profile=profile)
    profiler.supported_activities = lambda: [cuda]
    monkeypatch.setattr(gpu_steps.util, "find_spec", lambda _: True)
    monkeypatch.setattr(gpu_steps, "import_module", lambda _: profiler)
    assert gpu_steps.trace(run, Task(batch=128, rows=256, unit="a step")) == "4.0, 40%"
