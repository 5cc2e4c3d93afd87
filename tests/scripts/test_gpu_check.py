"""scripts/gpu_check.py: its refusals, its rows and files, and that each failure stays alone."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import benchmark
import checkout
import gpu_check
import pytest
from backend_enum import BackendCase
from benchmarks import gpu, runs
from benchmarks.tasks import Task

pytestmark = pytest.mark.tooling

TROUBLE = {"device": "cuda:0", "reason": "jax is not installed", "fix": "pip install jax"}
JAX = {"name": "jax", "version": None, "devices": [], "usable": [], "troubles": [TROUBLE]}
DEVICES = ["cuda:0", "cuda:1"]
CUPY = {"name": "cupy", "version": "14.2", "devices": DEVICES, "usable": DEVICES, "troubles": []}
TORCH = {"name": "torch", "version": "2.13", "devices": ["cpu", "cuda:0"], "usable": ["cpu", "cuda:0"]}
TORCH |= {"troubles": []}
CARD = "NVIDIA H100 80GB HBM3, 580.65, 81559 MiB"


@pytest.fixture
def check(monkeypatch, tmp_path):
    """A check of a machine with these libraries, whose processes all end at once, in a way of their own."""

    def run(*words, libraries=(CUPY, TORCH, JAX), ends=lambda *_: ""):
        monkeypatch.setattr(gpu_check.Check, "describe_libraries", lambda _: [*libraries])
        monkeypatch.setattr(gpu_check, "ask_card", lambda _: CARD)
        monkeypatch.setattr(gpu_check, "run_logged", ends)
        monkeypatch.setattr(runs.Process, "module", "stand_in_contender")
        code = gpu_check.main([*map(str, words), "--out", str(tmp_path)])
        (file,) = tmp_path.glob("*.json")
        return code, json.loads(file.read_bytes()), file.with_suffix(".md").read_text()

    helpers = Path(__file__).parents[1] / "helpers"
    monkeypatch.setenv("PYTHONPATH", str(helpers))
    return run


def ends_well(words, log, seconds, variables, show):
    """Print what is expected of a process."""
    show(json.dumps({"part": "a part", "took": 0.1, "values": {"rate": 3.5}}))
    for line in (gpu_check.ROOT / "docs/reproducibility.md").read_text().splitlines():
        show(line)
    return ""


def test_without_a_gpu_a_package_or_a_folder_it_is_one_line_and_code_2(check, monkeypatch, tmp_path, capsys):
    report = json.dumps({"backends": [{"name": "numpy", "usable": ["cpu"], "troubles": []}, JAX]})
    doctor = SimpleNamespace(stdout=report, returncode=2)
    with monkeypatch.context() as patch:
        patch.setattr(gpu_check.subprocess, "run", lambda *_, **__: doctor)
        assert gpu_check.main([]) == 2
    line = "gpu_check: CUDA is not usable here: jax: jax is not installed; to fix it: pip install jax\n"
    assert capsys.readouterr().err == line
    (tmp_path / "file").touch()
    monkeypatch.setattr(gpu_check.Check, "describe_libraries", lambda _: [CUPY])
    assert gpu_check.main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"gpu_check: {tmp_path / 'file'}")
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    monkeypatch.setattr(checkout, "find_spec", lambda name: None if name == "array_api_compat" else name)
    with pytest.raises(SystemExit):
        gpu_check.main([])
    wheels = "pip install --no-index --find-links FOLDER array-api-compat\n"
    problem = (
        "gpu_check: array_api_compat is not installed: python scripts/gpu_check.py --bundle FOLDER elsewhere"
    )
    assert capsys.readouterr().err == f"{problem}, {wheels}"


def test_all_cases_run_in_the_order_in_which_they_tell_most(check, capsys):
    code, content, page = check("--quick", ends=ends_well, libraries=(CUPY, TORCH))
    assert code == 1  # some stand-ins come to harm
    stages = list(dict.fromkeys(row["stage"] for row in content["rows"]))
    assert stages == [*gpu_check.MINUTES][:-1]
    assert content["not done"] == []
    assert "- cupy 14.2 on cuda:0, cuda:1\n" in page
    assert "| a part | cupy | agrees | 0 | 3.5 |\n" in page
    assert capsys.readouterr().out.count("-- a part: cupy: agrees, 0 s rate 3.5\n") >= 5
    whos = [row["who"] for row in content["rows"] if row["stage"] == "epochs"]
    assert whos == ["cupy on cuda:0, epochs 100", "cupy on cuda:1, epochs 100", "torch on cuda:0, epochs 100"]


HARMED = {
    "xpnet reproducible, CuPy": "measured",
    "xpnet native, CuPy": "FAILED: CUDARuntimeError: device lost",
    "CuPy by hand, float32": "FAILED: its process ended with code 9",
    "PyTorch eager, float32": "FAILED: ModuleNotFoundError: No module named 'torch'",
    "PyTorch as a CUDA graph, float32": "FAILED: OutOfMemoryError: CUDA out of memory",
    "PyTorch compiled, float32": "FAILED: RuntimeError: no C++ compiler",
    "JAX, float32": "FAILED: stopped after 2 s",
}


def test_each_contender_fails_alone_and_its_reason_is_kept(check, monkeypatch):
    monkeypatch.setattr(gpu_check, "LIMIT", 2.0)
    both = {**JAX, **{name: TORCH[name] for name in ("version", "devices", "usable", "troubles")}}
    code, content, page = check("--quick", "--only", "steps", libraries=(CUPY, TORCH, both))
    rows = {row["who"]: row for row in content["rows"]}
    assert {who: row["result"] for who, row in rows.items() if who != gpu_check.CARD} == HARMED
    assert (code, rows["xpnet native, CuPy"]["values"]) == (1, {"µs": 2000.0, "host µs": 1000.0})
    assert rows["xpnet reproducible, CuPy"]["values"] == {"µs": 2000.0, "host µs": 1000.0, "operations": 7.0}
    assert "| 2,000 | 1,000 | 7 |" in page


def test_what_there_is_no_time_for_is_listed_and_earlier_rows_stay(check, monkeypatch, capsys):
    check("--only", "versions", "--library", "cupy", libraries=[CUPY])
    monkeypatch.setitem(gpu_check.MINUTES, "first", 0.0)

    def interrupted(words, *_):
        raise KeyboardInterrupt

    code, content, page = check("--only", "first", "parity", "suite", ends=interrupted)
    assert (code, [row["stage"] for row in content["rows"]]) == (130, ["versions", "versions"])
    left = [f"first: cupy on cuda:0, epochs {n}" for n in (1, 10, f"10, {gpu_check.WHOLE}")]
    assert content["not done"] == [*left, "parity: cupy", "parity: torch", "suite: cupy", "suite: torch"]
    assert "## Not done\n\n- first: cupy" in page
    code, content, _ = check("--only", "suite", "--cases", "torch", ends=lambda *_: "exit code 1: 2 failed")
    assert (code, content["rows"][-1]["result"]) == (1, "FAILED: exit code 1: 2 failed")
    assert {case.value for case in BackendCase} >= {"cupy", "torch:cuda", "jax:cuda"}


ENDLESS = """import signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("begun", flush=True)
subprocess.Popen(["sleep", "1000"])  # which holds the output open
{}time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("program", "problem", "lines"),
    [
        ("print('one'); print('two', end='')", "", ["one", "two"]),
        ("print('so'); raise SystemExit('no compiler')", "exit code 1: no compiler", ["so", "no compiler"]),
        (ENDLESS.format("# "), "", ["begun"]),
        (ENDLESS.format(""), "stopped after 1 s", ["begun"]),
    ],
    ids=["right", "wrong", "left behind", "endless"],
)
def test_a_process_that_hangs_is_ended_and_what_it_leaves_behind_is_not_waited_for(
    tmp_path, program, problem, lines
):
    seen, log, seconds = [], tmp_path / "log", 1.0 if problem[:7] == "stopped" else 60.0
    assert gpu_check.run_logged(["-S", "-c", program], log, seconds, {}, seen.append) == problem
    assert [line for line in seen if line] == lines
    assert log.read_text().split() == " ".join(lines).split()


def test_a_missing_nvidia_smi_is_a_note(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert gpu_check.ask_card("gpu=name").startswith("nvidia-smi does not answer: ")


def test_measured_times_replace_the_estimates_of_the_page(check, monkeypatch, tmp_path, capsys):
    page = tmp_path / "devices.md"
    page.write_text("before\n<!-- times on a GPU -->\nestimates\n<!-- end of times on a GPU -->\nafter\n")
    monkeypatch.setattr(benchmark, "GPU_PAGE", page)
    check("--quick", "--only", "steps", libraries=[CUPY])
    (file,) = tmp_path.glob("*.json")
    assert benchmark.main(["--gpu", str(file)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- times on a GPU -->\nMeasured on NVIDIA H100 80GB HBM3")
    assert "| One step, 784-10-10, mini-batches of 128 | 2,000 |" in text
    assert "estimates" not in text


@pytest.mark.slow
@pytest.mark.needs("emulated-cuda")
def test_a_dry_run_on_the_emulated_device(tmp_path):
    words = [
        "--emulated",
        "--quick",
        "--library",
        "cupy",
        "--only",
        "versions",
        "streams",
        "compile",
        "steps",
    ]
    assert gpu_check.main([*words, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "cuda-emulated.json").read_bytes())
    assert {row["result"] for row in content["rows"]} == {"agrees", "measured", "noted"}
    assert {row["stage"] for row in content["rows"]} == {*words[5:]}


@pytest.mark.slow
@pytest.mark.needs("index")
def test_the_bundle_has_all_wheels_that_a_check_needs(tmp_path):
    assert gpu_check.main(["--bundle", str(tmp_path / "wheels")]) == 0
    names = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert names >= {"array_api_compat", "numpy", "safetensors", "pandas"}


def test_what_pytorch_traces_is_counted_without_the_start(monkeypatch):
    traced, cuda = [], SimpleNamespace(name="CUDA")

    def event(microseconds):
        return SimpleNamespace(device_type=cuda, time_range=SimpleNamespace(elapsed_us=lambda: microseconds))

    @contextmanager
    def profile(activities):
        traced[:] = [event(700.0)]  # before the first epoch
        yield SimpleNamespace(events=lambda: traced)

    def timed(passes):
        traced.extend(event(50.0) for _ in range(8 * passes))
        return 1e-3 * passes

    profiler = SimpleNamespace(ProfilerActivity=SimpleNamespace(CUDA=cuda), profile=profile)
    profiler.supported_activities = lambda: [cuda]
    monkeypatch.setattr(gpu, "PEAKS", {"sys": lambda _: 3 << 20})
    monkeypatch.setattr(gpu.util, "find_spec", lambda _: True)
    monkeypatch.setattr(gpu, "import_module", lambda _: profiler)
    expected = pytest.approx({"card µs": 200.0, "operations": 4.0, "sys MiB": 3})
    assert gpu.observe(timed, Task(batch=128, rows=256, unit="a step")) == expected
