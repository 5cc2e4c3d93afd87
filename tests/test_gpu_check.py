"""scripts/gpu_check.py: the refusal on this machine, and the whole check with a GPU that is pretended."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from xpnet import datasets
from xpnet.backends.base import Probe
from xpnet.backends.resolve import make, probe
from xpnet.errors import XPNetError

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = (0, 1, 10, 100)
ODD_NAME = "NVIDIA GeForce RTX™ 4090/D (24 GB)"
ODD_SLUG = "nvidia-geforce-rtx-4090-d-24-gb"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts/gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(script, monkeypatch) -> ModuleType:
    """The script on a machine whose GPU, libraries, suite and parity table are all in order."""
    right = script.golden(script.GOLDEN)
    monkeypatch.setattr(script, "probe", lambda name, device: Probe(True, "14.2", (device,)))
    monkeypatch.setattr(script, "card", lambda: card("NVIDIA H100 80GB HBM3"))
    monkeypatch.setattr(script, "_run", lambda words, title, variables: ran(words))
    monkeypatch.setattr(script, "train", lambda *_: training(right))
    monkeypatch.setattr(script, "products", lambda name: product(2.0))
    monkeypatch.setattr(script.datasets, "load", lambda: None)
    return script


def card(name: str) -> dict:
    return {
        "name": name,
        "compute_capability": "9.0",
        "float32_to_float64": 2,
        "memory_gib": 79.2,
        "driver": "580.65",
        "cuda": {"driver": "13.0", "cupy": "12.9", "torch": "12.8"},
    }


def ran(words: list[str], code: int = 0, line: str = "812 passed in 93.10s") -> dict:
    """Return what running a command gives, after writing the report that it was asked for."""
    if "--json" in words:
        Path(words[words.index("--json") + 1]).write_text('{"rows": [{"device": "cuda:0"}]}')
        line = "numpy  cpu  reproducible  same"
    command = f"python -m {' '.join(words)}"
    return {"command": command, "exit": code, "seconds": 1.0, "last_line": line, "output": line}


def training(fingerprints: dict[int, str]) -> dict:
    return {"fingerprints": dict(fingerprints), "seconds_per_epoch": 0.00123}


def product(ratio: float) -> dict:
    return {"size": 4096, "float32": 0.003, "float64": 0.003 * ratio, "ratio": ratio}


def evidence(folder: Path) -> tuple[dict, str]:
    """Return the evidence that lies in the folder, and its page; nothing else lies there."""
    (file,) = folder.glob("*.json")
    assert sorted(folder.iterdir()) == [file, file.with_suffix(".md")]
    return json.loads(file.read_text()), file.with_suffix(".md").read_text()


@pytest.mark.skipif(
    probe("cupy", "cuda:0").usable and probe("torch", "cuda:0").usable, reason="has a GPU"
)
def test_a_machine_without_cuda_is_told_why_in_one_line(tmp_path):
    found = subprocess.run(
        [sys.executable, ROOT / "scripts/gpu_check.py", "--out", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("gpu_check: ")
    assert found.stderr.count("\n") == 1
    for name in ("cupy", "torch"):
        result = probe(name, "cuda:0")
        assert result.usable or str(result.reason) in found.stderr
    assert not (tmp_path / "out").exists()


def test_one_library_alone_is_not_enough(gpu, monkeypatch, capsys, tmp_path):
    def half(name, device):
        works = name == "cupy"
        return Probe(works, "1", (), None if works else "no wheel", None if works else "pip it")

    monkeypatch.setattr(gpu, "probe", half)
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "gpu_check: cuda:0 needs both: torch: no wheel; to mend it: pip it\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_agrees_gives_evidence_and_code_0(gpu, tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "new" / "folder")]) == 0
    found, page = evidence(tmp_path / "new" / "folder")
    assert (tmp_path / "new/folder/cuda-nvidia-h100-80gb-hbm3.json").exists()
    assert found["verdict"] == "all agree"
    assert found["failures"] == []
    assert found["card"] == card("NVIDIA H100 80GB HBM3")
    assert found["parity"]["report"] == {"rows": [{"device": "cuda:0"}]}
    assert "FILE" in found["parity"]["command"]
    assert set(found["trainings"]) == {"cupy", "torch"}
    right = {str(epochs): digest for epochs, digest in gpu.golden(gpu.GOLDEN).items()}
    for both in found["trainings"].values():
        assert both["reproducible"] == {"fingerprints": right, "seconds_per_epoch": 0.00123}
        assert "seconds_per_epoch" in both["native"]
    assert page.startswith("# NVIDIA H100 80GB HBM3: all agree\n")
    for shown in ("580.65", "13.0 (driver)", "812 passed", "| 1.23 | 1.23 |", right["100"]):
        assert shown in page
    assert "slow in float64" not in page
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[-1].startswith("all agree; written to ")


def test_suite_and_parity_require_the_gpu(gpu, monkeypatch):
    calls = []

    def run(words, title, variables):
        calls.append((words, variables))
        return ran(words)

    monkeypatch.setattr(gpu, "_run", run)
    gpu.suite()
    gpu.parity()
    (pytest_words, pytest_variables), (parity_words, _) = calls
    assert pytest_words[0] == "pytest"
    required = pytest_variables["XPNET_REQUIRE_BACKENDS"].split(",")
    assert {"cupy", "torch:cuda"} <= set(required)
    assert parity_words[:3] == ["xpnet", "parity", "--require"]
    assert parity_words[3].split(",") == required


@pytest.mark.parametrize(("part", "named"), [("pytest", "suite"), ("xpnet", "parity")])
def test_a_failing_suite_or_parity_table_gives_code_1(gpu, monkeypatch, tmp_path, part, named):
    def run(words, title, variables):
        return ran(words, 1, "3 failed") if words[0] == part else ran(words)

    monkeypatch.setattr(gpu, "_run", run)
    assert gpu.main(["--out", str(tmp_path)]) == 1
    found, page = evidence(tmp_path)
    assert found["verdict"] == "NOT all agree"
    assert len(found["failures"]) == 1
    assert found["failures"][0].startswith(f"{named} ended with code 1: ")
    assert f"- {found['failures'][0]}\n" in page


def test_a_parity_table_without_a_report_is_recorded_as_such(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_run", lambda words, title, variables: ran(words[:1], 2, "torch: no"))
    assert gpu.main(["--out", str(tmp_path)]) == 1
    assert evidence(tmp_path)[0]["parity"]["report"] is None


def test_a_fingerprint_that_differs_gives_code_1_and_names_the_first(gpu, monkeypatch, tmp_path):
    right = gpu.golden(gpu.GOLDEN)
    wrong = right | {10: "0" * 64, 100: "1" * 64}
    monkeypatch.setattr(
        gpu, "train", lambda name, *_: training(wrong if name == "torch" else right)
    )
    assert gpu.main(["--out", str(tmp_path)]) == 1
    found, page = evidence(tmp_path)
    assert found["failures"] == [
        f"torch: after 10 epochs the fingerprint is {'0' * 64}, not {right[10]}"
    ]
    assert "1" * 64 in page


def test_native_arithmetic_may_give_other_bits(gpu, monkeypatch, tmp_path):
    right = gpu.golden(gpu.GOLDEN)
    native = dict.fromkeys(right, "0" * 64)
    monkeypatch.setattr(
        gpu, "train", lambda _, kind, *__: training(native if kind == "native" else right)
    )
    assert gpu.main(["--out", str(tmp_path)]) == 0


def test_a_training_or_product_that_fails_is_recorded_and_the_rest_goes_on(
    gpu, monkeypatch, tmp_path
):
    right = gpu.golden(gpu.GOLDEN)

    def train(name, kind, *_):
        if (name, kind) == ("cupy", "reproducible"):
            msg = "out of\nmemory"
            raise MemoryError(msg)
        return training(right)

    def products(name):
        raise RuntimeError

    monkeypatch.setattr(gpu, "train", train)
    monkeypatch.setattr(gpu, "products", products)
    assert gpu.main(["--out", str(tmp_path)]) == 1
    found, page = evidence(tmp_path)
    assert found["failures"] == [
        "cupy, reproducible: MemoryError: out of memory",
        "cupy, products: RuntimeError: RuntimeError",
        "torch, products: RuntimeError: RuntimeError",
    ]
    assert found["trainings"]["torch"]["reproducible"]["seconds_per_epoch"] == 0.00123
    assert "| `none` | failed | 1.23 |" in page
    assert "float64: not measured" in page


def test_slow_float64_is_noted(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "products", lambda name: product(31.5 if name == "cupy" else 30.8))
    assert gpu.main(["--out", str(tmp_path)]) == 0
    assert "31.5 times (cupy), 30.8 times (torch)" in evidence(tmp_path)[1]
    assert "slow in float64" in evidence(tmp_path)[1]


def test_the_file_is_named_after_the_card_whatever_characters_it_has(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "card", lambda: card(ODD_NAME))
    assert gpu.main(["--out", str(tmp_path)]) == 0
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
def test_slug(script, name, expected):
    assert script.slug(name) == expected


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_runs(gpu, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert gpu.main(["--out", str(tmp_path / "file" / "below")]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1


def test_the_golden_fingerprints_are_those_of_the_page(script, tmp_path):
    found = script.golden(script.GOLDEN)
    assert tuple(sorted(found)) == EPOCHS
    page = tmp_path / "page.md"
    page.write_text(script.GOLDEN.read_text().replace("| after 10 epochs |", "| later |"))
    with pytest.raises(XPNetError, match="after 10 epochs"):
        script.golden(page)
    with pytest.raises(XPNetError, match="cannot be read"):
        script.golden(tmp_path / "none.md")


def test_a_real_training_gives_golden_fingerprints_and_a_time(script):
    found = script.training(make("numpy", "cpu"), "reproducible", (0, 1, 3), datasets.load())
    right = script.golden(script.GOLDEN)
    assert {epochs: found["fingerprints"][epochs] for epochs in (0, 1)} == {
        epochs: right[epochs] for epochs in (0, 1)
    }
    assert 0 < found["seconds_per_epoch"] < 60


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_real_product_takes_time(script, dtype):
    assert script.product_seconds(make("numpy", "cpu"), dtype, 64) > 0


def test_a_real_command_is_shown_and_recorded(script, monkeypatch, capsys, tmp_path):
    (tmp_path / "xpnet_said.py").write_text(
        "import os, sys\n"
        "print('first'); print(os.environ['WORD'], flush=True)\n"
        "print('== 1 failed ==', file=sys.stderr); sys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = script._run(["xpnet_said"], "what it says", {"WORD": "naïve"})
    assert found["exit"] == 3
    assert found["last_line"] == "1 failed"
    assert found["command"] == "python -m xpnet_said"
    assert found["output"].splitlines() == ["first", "naïve", "== 1 failed =="]
    assert "naïve" in capsys.readouterr().out
