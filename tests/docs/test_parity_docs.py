"""docs/parity.md: its example runs, and what it says is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet.backends.base import PRECISION_VARIABLES
from xpnet.cli.parity import describe_kind
from xpnet.parity import runs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "test_nearest.py").write_text(example)
    environ = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    words = ["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-W", "error"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "test_nearest.py"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 5


@pytest.mark.parametrize("kind", runs.KINDS, ids=str)
def test_the_page_shows_the_headings_of_the_table(kind):
    assert describe_kind(kind) in PAGE


def test_the_page_states_the_tolerances():
    shown = [runs.format_tolerance(kind.tolerance) for kind in runs.KINDS if kind.tolerance]
    assert f"within {shown[0]} (float32) or\n{shown[1]} (float64)" in PAGE


@pytest.mark.parametrize("name", PRECISION_VARIABLES)
def test_the_page_names_the_refused_variables(name):
    assert f"`{name}`" in PAGE
