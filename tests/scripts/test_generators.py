"""Scripts without xpnet, and with another one than that of the checkout, whose files they write."""

import re
import shutil
import subprocess
import sys

import pytest
from checkout import ROOT, SCRIPTS
from shared import python_path

pytestmark = pytest.mark.tooling

GENERATORS = """docs/array_names docs/course/make_course docs/emulated_bugs docs/functions_of_others
docs/math_links docs/results/reproduce_mnist_table docs/vectors/make_vectors examples/browser/browser_page
scripts/cli_reference scripts/keyword_types scripts/schemas scripts/upstream_suites"""


NAMES = """benchmark check_kernels check_release cli_reference emulated_cuda export_csv faults fetch_mnist
gpu_check keyword_types make_fixtures misreadings public_names"""
OTHERS = """docs/results/reproduce_mnist_table docs/tile_mnist docs/vectors/make_vectors
examples/browser/browser_page"""


def run(path, *options, **variables):
    words = [sys.executable, *options, str(ROOT / f"{path}.py")]
    process = subprocess.run(words, env=variables or None, capture_output=True, text=True, check=False)
    assert (process.stdout, process.returncode) == ("", 2)
    return process.stderr.removeprefix(f"{path.rpartition('/')[2]}: ")


@pytest.mark.parametrize("path", [*(f"scripts/{name}" for name in NAMES.split()), *OTHERS.split()])
def test_without_xpnet_a_script_is_one_line_and_code_2(path):
    line = 'xpnet is not installed: pip install -e ".[train]"\n'
    assert run(path, "-E", "-S") == line  # without installed packages


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "xpnet", folder / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("path", GENERATORS.split())
def test_another_xpnet_is_refused_in_one_line(path, other):
    problem = f"writes into {ROOT}, but xpnet is that of {other}: set PYTHONPATH={ROOT}\n"
    assert run(path, PYTHONPATH=python_path(other)) == problem


def test_each_script_has_a_line_in_the_readme_of_scripts():
    listed = re.findall(r"^- `([\w./-]+)`: .", (SCRIPTS / "README.md").read_text("utf-8"), re.MULTILINE)
    files = [path for path in SCRIPTS.iterdir() if path.name not in ("README.md", "__pycache__")]
    assert listed == sorted(f"{path.name}{'/' * path.is_dir()}" for path in files)
