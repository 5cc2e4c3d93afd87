"""scripts/gpu_check.py: its refusals, its rows and files, and that each failure stays alone."""

import json
from pathlib import Path
from types import SimpleNamespace

import checkout
import gpu_check
import pytest
from benchmarks import runs

pytestmark = pytest.mark.tooling


def library(name, *devices, **facts):
    return {"name": name, "version": "1.0", "devices": devices, "usable": devices, "troubles": [], **facts}


TROUBLE = {"device": "cuda:0", "reason": "jax is not installed", "fix": "pip install jax"}
CUPY, TORCH = library("cupy", "cuda:0", "cuda:1"), library("torch", "cpu", "cuda:0")
JAX, NO_JAX = library("jax", "cuda:0"), library("jax", troubles=[TROUBLE])
CARD = "NVIDIA H100 80GB HBM3, 580.65, 81559 MiB"


def test_without_a_gpu_or_a_package_it_is_one_line_and_code_2(monkeypatch, capsys):
    doctor = SimpleNamespace(stdout=json.dumps({"backends": [library("numpy", "cpu"), NO_JAX]}), returncode=2)
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda *_, **__: doctor)
    assert gpu_check.main([]) == 2
    line = "gpu_check: CUDA is not usable here: jax: jax is not installed; to fix it: pip install jax\n"
    assert capsys.readouterr().err == line
    monkeypatch.setattr(checkout, "find_spec", lambda name: None if name == "array_api_compat" else name)
    with pytest.raises(SystemExit):
        gpu_check.main([])
    assert capsys.readouterr().err.endswith("pip install --no-index --find-links FOLDER array-api-compat\n")


HARMED = {
    "xpnet reproducible, CuPy": "measured",
    "xpnet native, CuPy": "FAILED: CUDARuntimeError: device lost",
    "CuPy by hand, float32": "FAILED: its process ended with code 9",
    "PyTorch eager, float32": "FAILED: ModuleNotFoundError: No module named 'torch'",
    "PyTorch as a CUDA graph, float32": "FAILED: OutOfMemoryError: CUDA out of memory",
    "PyTorch compiled, float32": "FAILED: RuntimeError: no C++ compiler",
    "JAX, float32": "FAILED: stopped after 2 s",
}


def test_each_contender_fails_alone_and_its_reason_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "LIMIT", 2.0)
    monkeypatch.setattr(gpu_check.Check, "describe_libraries", lambda _: [CUPY, TORCH, JAX])
    monkeypatch.setattr(gpu_check, "ask_card", lambda _: CARD)
    monkeypatch.setattr(runs.Process, "module", "stand_in_contender")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    code = gpu_check.main(["--quick", "--only", "steps", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("*.json")
    rows = {row["who"]: row for row in json.loads(file.read_bytes())["rows"]}
    assert {who: row["result"] for who, row in rows.items() if who != gpu_check.CARD} == HARMED
    values = rows["xpnet reproducible, CuPy"]["values"]
    assert (code, values) == (1, {"µs": 2000.0, "host µs": 1000.0, "operations": 7.0})
    assert "| 2,000 | 1,000 | 7 |" in file.with_suffix(".md").read_text()


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
)
def test_a_process_that_hangs_is_ended_with_what_it_leaves_behind(tmp_path, program, problem, lines):
    seen, log, seconds = [], tmp_path / "log", 1.0 if problem[:7] == "stopped" else 60.0
    assert gpu_check.run_logged(["-S", "-c", program], log, seconds, {}, seen.append) == problem
    assert [line for line in seen if line] == lines
    assert log.read_text().split() == " ".join(lines).split()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("emulated-cuda")
def test_a_dry_run_on_the_emulated_device(tmp_path):
    stages = ["versions", "streams", "compile", "steps"]
    words = ["--emulated", "--quick", "--library", "cupy", "--out", str(tmp_path), "--only", *stages]
    assert gpu_check.main(words) == 0
    content = json.loads((tmp_path / "cuda-emulated.json").read_bytes())
    assert {row["result"] for row in content["rows"]} == {"agrees", "measured", "noted"}
    assert {row["stage"] for row in content["rows"]} == {*stages}


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("index")
def test_the_bundle_has_all_wheels_that_a_check_needs(tmp_path):
    assert gpu_check.main(["--bundle", str(tmp_path / "wheels")]) == 0
    names = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert names >= {"array_api_compat", "numpy", "safetensors", "pandas"}
