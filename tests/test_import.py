"""Importing the package is cheap, and each of its names brings what it needs."""

import os
import pydoc
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import xpnet.parity

ROOT = Path(__file__).resolve().parents[1]
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
ALONE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

INSTALLED = {"xpnet", "numpy", "array_api_compat", "array_api_strict", *sys.stdlib_module_names}
INSTALLED |= {"pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "test_alone"}

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        is_installed = name.partition(".")[0] in INSTALLED or name.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if is_installed else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Installed]
import pytest
raise SystemExit(pytest.main(["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-Werror"]))
"""
TEST_ALONE = """
import numpy as np
from xpnet import reproducible
from xpnet.parity import assert_parity

def test_it(xp_backend):
    x = xp_backend.from_host(np.ones(3))
    assert float(reproducible.sum(reproducible.matmul(x, x) + reproducible.exp(x * 0.0))) == 12.0
    assert_parity(lambda x, xp: xp.sum(x[0]), [np.ones(3)], reference=np.sum, ulp=1, float64=False)
"""
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


@pytest.mark.needs("array-api-strict")
def test_parity_and_reproducible_need_numpy_two_array_api_packages_and_pytest_alone(tmp_path):
    """No other package can be imported, as if it were not installed."""
    (tmp_path / "test_alone.py").write_text(TEST_ALONE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XPNET_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", ALONE]
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert re.search("^xpnet: tests with numpy, array-api-strict.*; without cupy, torch, jax", printed, re.M)


def test_completion_and_help_show_the_public_names_of_parity():
    assert {*xpnet.parity.__all__} <= {*dir(xpnet.parity)}
    assert re.search(r"assert_parity\(\s*function", pydoc.plain(pydoc.render_doc(xpnet.parity)))


def test_the_estimator_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "xpnet.estimator", raising=False)
    message = r'^XPNetClassifier needs scikit-learn 1\.6 or newer: pip install "scikit-learn>=1\.6"$'
    with pytest.raises(ImportError, match=message):
        import_module("xpnet.estimator")
