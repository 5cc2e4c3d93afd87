"""Importing the package is cheap, and each of its names brings what it needs."""

import subprocess
import sys
from importlib import import_module

import pytest

import xpnet

ARRAYS = {"numpy", "pandas", "torch", "jax", "cupy", "onnx", "safetensors"}
HEAVY = ARRAYS | {"matplotlib", "sklearn", "rich"}
LIGHT = "xpnet.__main__ xpnet.config xpnet.parity.plugin xpnet.report xpnet.train"
COMMANDS = "xpnet.cli.evaluate xpnet.cli.export xpnet.cli.predict xpnet.cli.runs"
HELP = """
from xpnet.__main__ import COMMANDS, main
for command in COMMANDS.keys() - {"parity"}:
    try:
        main([command, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""
STEPS = {
    "package": "import xpnet; xpnet.__version__; dir(xpnet); xpnet.ConfigError",
    "reproducible": "import numpy as np; xpnet.reproducible.sum(np.ones(3))",
    "parity": "import xpnet.parity.plugin; from xpnet.parity import assert_parity",
    "data": "from xpnet.data import datasets; datasets.load()",
    "interface": "xpnet.fit; xpnet.load; xpnet.Model",
}
"""Code that may load more from step to step."""


def loaded_by(*steps):
    """The modules that a new Python has loaded after each of these pieces of code."""
    code = "import sys\n" + "".join(f"{step}\nprint('modules:', *sys.modules)\n" for step in steps)
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines = process.stdout.splitlines()
    return [{*line.split()[1:]} for line in lines if line.startswith("modules:")]


@pytest.fixture(scope="module")
def loaded():
    """The modules that are loaded after each of `STEPS`, in one process."""
    return dict(zip(STEPS, loaded_by(*STEPS.values()), strict=True))


def test_the_import_and_its_errors_load_nothing_heavy_and_no_other_module(loaded):
    assert not loaded["package"] & HEAVY
    assert {name for name in loaded["package"] if name.startswith("xpnet")} == {"xpnet", "xpnet.errors"}


def test_modules_and_the_help_of_commands_load_no_array_library():
    after_import, after_help = loaded_by(f"import {', '.join([*LIGHT.split(), *COMMANDS.split()])}", HELP)
    assert not after_import & ARRAYS
    assert not after_help & ARRAYS


def test_the_reproducible_functions_load_no_other_array_library_and_nothing_for_tables_or_commands(loaded):
    assert "xpnet.reproducible" in loaded["reproducible"]
    assert not loaded["reproducible"] & (HEAVY - {"numpy"} | {"tyro"})
    assert {name.split(".")[1] for name in loaded["reproducible"] if name.startswith("xpnet.")} <= {
        *("_lib", "_typing", "arithmetic", "backends", "errors", "nn", "reproducible")
    }


def test_assert_parity_and_the_plugin_load_neither_pandas_nor_the_command_line(loaded):
    assert not loaded["parity"] & (HEAVY - {"numpy"} | {"tyro", "xpnet.cli"})


def test_pandas_is_imported_only_for_decimals_in_csv_files(loaded):
    assert "xpnet.data.datasets" in loaded["data"]
    assert "pandas" not in loaded["data"]


def test_the_interface_loads_no_other_array_library(loaded):
    assert "numpy" in loaded["interface"]
    assert not loaded["interface"] & HEAVY - {"numpy", "safetensors"}


@pytest.mark.needs("sklearn")
def test_every_public_name_is_there_and_others_are_not():
    for name in set(xpnet.__all__) - {"__version__"}:
        assert getattr(xpnet, name).__name__ == name
        assert name in dir(xpnet)
    with pytest.raises(AttributeError, match="module 'xpnet' has no attribute 'nothing'"):
        _ = xpnet.nothing


def test_the_estimator_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "xpnet.estimator", raising=False)
    message = r'^XPNetClassifier needs scikit-learn 1\.6 or newer: pip install "scikit-learn>=1\.6"$'
    with pytest.raises(ImportError, match=message):
        import_module("xpnet.estimator")
