"""Files of the checkout are written from its own code, whatever xpnet is installed."""

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


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A folder with a copy of xpnet."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "xpnet", folder / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("path", GENERATORS.split())
def test_another_xpnet_is_refused_in_one_line(path, other):
    command, variables = [sys.executable, str(ROOT / f"{path}.py")], {"PYTHONPATH": python_path(other)}
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    problem = f"writes into {ROOT}, but xpnet is that of {other}: set PYTHONPATH={ROOT}"
    assert (process.returncode, process.stderr) == (2, f"{path.rpartition('/')[2]}: {problem}\n")


def test_each_script_has_a_line_in_the_readme_of_scripts():
    listed = re.findall(r"^- `([\w./-]+)`: .", (SCRIPTS / "README.md").read_text("utf-8"), re.MULTILINE)
    files = [path for path in SCRIPTS.iterdir() if path.name not in ("README.md", "__pycache__")]
    assert listed == sorted(f"{path.name}{'/' * path.is_dir()}" for path in files)
