"""Importing the package is cheap, and each of its names brings what it needs."""

import subprocess
import sys
from importlib import import_module

import pytest

ARRAYS = {"numpy", "pandas", "torch", "jax", "cupy", "onnx", "safetensors"}
HEAVY = ARRAYS | {"matplotlib", "sklearn", "rich"}
MODULES = "xpnet.__main__, xpnet.config, xpnet.parity.plugin, xpnet.report, xpnet.train"
COMMANDS = "xpnet.cli.evaluate, xpnet.cli.export, xpnet.cli.predict, xpnet.cli.runs"
HELP = """
from xpnet.__main__ import COMMANDS, main
for command in COMMANDS.keys() - {"parity"}:
    try:
        main([command, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""
ONE = [
    ("import xpnet; xpnet.__version__; dir(xpnet); xpnet.ConfigError", HEAVY),
    ("import numpy as np; xpnet.reproducible.sum(np.ones(3))", HEAVY - {"numpy"} | {"xpnet.cli"}),
    ("import xpnet.parity.plugin; from xpnet.parity import assert_parity", HEAVY - {"numpy"} | {"xpnet.cli"}),
    ("from xpnet.data import datasets; datasets.load()", HEAVY - {"numpy"}),
    ("xpnet.fit; xpnet.load; xpnet.Model", HEAVY - {"numpy", "safetensors"}),
]
OTHER = [(f"import {MODULES}, {COMMANDS}", ARRAYS), (HELP, ARRAYS)]


@pytest.mark.parametrize("steps", [ONE, OTHER], ids=["package", "commands"])
def test_code_loads_no_heavy_module_that_it_does_not_need(steps):
    """Code that may load more from step to step, and what must not be loaded after each."""
    code = "import sys\n" + "".join(f"{step}\nprint('modules:', *sys.modules)\n" for step, _ in steps)
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    lines = [line for line in printed.splitlines() if line.startswith("modules:")]
    for line, (step, heavy) in zip(lines, steps, strict=True):
        assert not {*line.split()} & heavy, step
        if step.startswith("import xpnet;"):
            assert {name for name in line.split() if name.startswith("xpnet")} == {"xpnet", "xpnet.errors"}


def test_the_estimator_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "xpnet.estimator", raising=False)
    message = r'^XPNetClassifier needs scikit-learn 1\.6 or newer: pip install "scikit-learn>=1\.6"$'
    with pytest.raises(ImportError, match=message):
        import_module("xpnet.estimator")
