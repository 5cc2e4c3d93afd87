"""Files of the checkout are written from its own code, whatever xpnet is installed."""

import shutil
import subprocess
import sys

import pytest
from checkout import ROOT, SCRIPTS
from shared import python_path

pytestmark = pytest.mark.tooling

GENERATORS = ["array_names", "browser_page", "cli_reference", "emulated_bugs", "functions_of_others"]
GENERATORS += ["keyword_types", "make_vectors", "reproduce_mnist_table", "schemas", "upstream_suites"]
GENERATORS += ["make_course", "math_links"]
WRITERS = ("write_atomic(", "write_text(", "write_bytes(")
OTHERS = {"shared.py", "check_release.py", "faults.py", "make_fixtures.py"}
"""The helper, and scripts that write a release, copies of the package, or files of an installed version."""


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A folder with a copy of xpnet."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "xpnet", folder / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("name", GENERATORS)
def test_another_xpnet_is_refused_in_one_line(name, other):
    command = [sys.executable, str(SCRIPTS / f"{name}.py")]
    process = subprocess.run(
        command, env={"PYTHONPATH": python_path(other)}, capture_output=True, text=True, check=False
    )
    problem = f"writes into {ROOT}, but xpnet is that of {other}: set PYTHONPATH={ROOT}"
    assert (process.returncode, process.stderr) == (2, f"{name}: {problem}\n")


def test_the_helper_alone_writes_files_of_the_checkout():
    texts = {path: path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.py")}
    writing = {path.name for path, text in texts.items() if any(word in text for word in WRITERS)}
    assert writing - OTHERS == {"upstream_suites.py"}  # which unpacks archives elsewhere
