"""Importing the package is cheap, and each of its names brings what it needs."""

import os
import re
import subprocess
import sys

import pytest
from checkout import ROOT

from xpnet._lib import extras

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
BASE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

INSTALLED = {"xpnet", "numpy", "array_api_compat", *sys.stdlib_module_names, *sys.argv[1:]}

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        is_installed = name.partition(".")[0] in INSTALLED or name.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if is_installed else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Installed]
"""
"""No other package can be imported, as if it were not installed; words name more that can."""
RUN_PYTEST = """
import pytest
raise SystemExit(pytest.main(["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-Werror"]))
"""
PYTEST = "pytest _pytest pluggy iniconfig packaging pygments py test_alone array_api_strict"
NAMES = """
import inspect, xpnet
from xpnet import *
print(*sorted({"fit", "load", "ConfigError"} & {*globals()}), "fit" in dir(xpnet), hasattr(xpnet, "fitt"))
inspect.getmembers(xpnet)
lines = "xpnet.fit; hasattr(xpnet, 'load'); from xpnet import XPNetClassifier; xpnet.parity.first_difference"
for line in lines.split("; "):
    try:
        exec("import xpnet.parity\\n" + line)
    except ImportError as error:
        print(error)
"""
COMMAND = """
from xpnet.__main__ import main
sys.exit(main(MAIN))
"""
FIX = f"needs the extra train (not installed: {', '.join(extras.TRAIN)}): pip install"
TEST_ALONE = """
import numpy as np
from xpnet import reproducible
from xpnet.parity import assert_parity

def test_it(xp_backend):
    x = xp_backend.from_host(np.ones(3))
    assert float(reproducible.sum(reproducible.matmul(x, x) + reproducible.exp(x * 0.0))) == 12.0
    assert_parity(lambda x, xp: xp.sum(x[0]), [np.ones(3)], reference=np.sum, ulp=1, float64=False)
"""
OTHER = [("import xpnet.cli.guard", {"bdb", "ctypes", "hashlib", "pathlib", "platform", "socket"})]
OTHER += [(f"import {MODULES}, {COMMANDS}", ARRAYS), (HELP, ARRAYS)]


@pytest.mark.parametrize("steps", [ONE, OTHER], ids=["package", "commands"])
def test_code_loads_no_heavy_module_that_it_does_not_need(steps):
    code = "import sys\n" + "".join(f"{step}\nprint('modules:', *sys.modules)\n" for step, _ in steps)
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    lines = [line for line in printed.splitlines() if line.startswith("modules:")]
    for line, (step, heavy) in zip(lines, steps, strict=True):
        assert not {*line.split()} & heavy, step
    if steps is ONE:
        loaded = {name for name in lines[0].split() if name.startswith("xpnet")}
        assert loaded == {"xpnet", "xpnet.errors", "xpnet._lib", "xpnet._lib.extras"}


def test_before_a_command_can_be_interrupted_quietly_nothing_is_loaded():
    """Ctrl-C while the module of a command is imported would leave a traceback."""
    code = "import sys; before = {*sys.modules}; import xpnet.__main__; print(*{*sys.modules} - before)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert {*loaded} == {"xpnet", "xpnet.__main__"}


def run_base(code, *more, folder=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XPNET_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", BASE + code, *more]
    return subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, check=False)


@pytest.mark.needs("array-api-strict")
def test_parity_and_reproducible_need_the_base_array_api_strict_and_pytest_alone(tmp_path):
    (tmp_path / "test_alone.py").write_text(TEST_ALONE)
    printed = run_base(RUN_PYTEST, *PYTEST.split(), folder=tmp_path).stdout
    assert re.search("^xpnet: tests with numpy, array-api-strict.*; without cupy, torch, jax", printed, re.M)


def test_names_that_need_the_extra_train_say_so_and_are_not_listed_without_it():
    process = run_base(NAMES, *PYTEST.split())
    first, *lines = process.stdout.splitlines()
    assert first == "ConfigError False False", process.stderr
    names = ("xpnet.fit", "xpnet.load", "xpnet.XPNetClassifier", "xpnet.parity.first_difference")
    assert lines == [f'{name} {FIX} -e ".[train]"' for name in names]


def test_a_command_without_the_extra_train_is_one_line_and_code_2():
    process = run_base(COMMAND.replace("MAIN", "['train']"))
    line = f'xpnet: xpnet train {FIX} -e ".[train]"\n'
    assert (process.returncode, process.stdout, process.stderr) == (2, "", line)


@pytest.mark.parametrize("word", ["--help", "doctor"])
def test_help_version_and_doctor_need_the_base_alone(word):
    process = run_base(COMMAND.replace("MAIN", f"[{word!r}]"))
    assert (process.returncode, process.stderr) == (0, "")
    assert ('  to fix it: pip install -e ".[train]"' in process.stdout) == (word == "doctor")
