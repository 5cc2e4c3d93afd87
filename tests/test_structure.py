"""The mathematics is written once: only the files that may name an array library do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "xpnet"
LIBRARIES = {"cupy", "torch", "jax", "array_api_strict", "array_api_compat"}
HOST_SIDE = {
    "api.py",
    "checkpoint.py",
    "digits.py",
    "distort.py",
    "estimator.py",
    "evaluate.py",
    "experiment.py",
    "metrics.py",
    "model.py",
    "normalization.py",
    "parity/assertion.py",
    "parity/compare.py",
    "parity/distance.py",
    "parity/runs.py",
    "predict.py",
    "predictor.py",
    "preview.py",
    "rng.py",
    "snapshot.py",
    "tensors.py",
}
"""These run before arrays go to the device or after they come back, and may use NumPy."""


def imported(path):
    """The top-level names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_only_backends_name_an_array_library(file):
    names = imported(PACKAGE / file)
    if file.parts[0] != "backends":
        assert not names & LIBRARIES
    if file.parts[0] not in ("backends", "datasets", "report") and str(file) not in HOST_SIDE:
        assert "numpy" not in names
        assert "pandas" not in names


def test_the_check_covers_the_mathematics():
    assert {Path("functional.py"), Path("layers.py"), Path("loop.py")} <= set(FILES)
    assert "numpy" in imported(PACKAGE / "backends" / "numpy.py")


@pytest.mark.parametrize(
    "module",
    [
        "xpnet",
        "xpnet.config",
        "xpnet.data.augment",
        "xpnet.cli.augment",
        "xpnet.train",
        "xpnet.__main__",
        "xpnet.cli.evaluate",
        "xpnet.cli.predict",
        "xpnet.report",
        "xpnet.cli.runs.command",
        "xpnet.parity",
        "xpnet.parity.plugin",
        "xpnet.cli.parity",
    ],
)
def test_importing_loads_no_array_library(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"numpy", "pandas", "torch", "jax", "cupy", "safetensors"} & set(loaded)
