"""docs/parity.md: its example runs, and it names the tolerances and the refused variables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet.backends.base import PRECISION_VARIABLES
from xpnet.cli.parity import describe_kind
from xpnet.parity import runs

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    [example] = [block for block in blocks if "def test_" in block]
    (tmp_path / "test_nearest.py").write_text(example)
    words = ["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-W", "error", "test_nearest.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", *words]
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 5


def test_the_page_shows_the_kinds_of_runs_their_tolerances_and_the_refused_variables():
    shown = [runs.format_tolerance(kind.tolerance) for kind in runs.KINDS if kind.tolerance]
    tolerances = f"within {shown[0]} (float32) or\n{shown[1]} (float64)"
    variables = [f"`{name}`" for name in PRECISION_VARIABLES]
    parts = [*map(describe_kind, runs.KINDS), tolerances, *variables]
    assert [part for part in parts if part not in PAGE] == []
