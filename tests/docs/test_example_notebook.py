"""The notebook of the examples runs, and what is printed in it is what it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook.ipynb"
pytestmark = pytest.mark.tooling
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=540, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(cell):
    """What a cell prints and shows, without its pictures; and how many of these there are."""
    parts, pictures = [], 0
    for output in cell["outputs"]:
        content = output.get("data", {})
        pictures += "image/png" in content
        parts += output.get("text", []) + content.get("text/plain", [])
    return "".join(parts), pictures


@pytest.mark.slow
@pytest.mark.needs("notebook")
def test_it_prints_what_is_stored_in_it(tmp_path):
    """By a new kernel, in an empty folder."""
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")}
    command = [sys.executable, "-c", EXECUTE, NOTEBOOK, "executed.ipynb"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, check=True)
    stored, new = cells(NOTEBOOK, "code"), cells(tmp_path / "executed.ipynb", "code")
    assert [text(cell) for cell in new] == [text(cell) for cell in stored]


def test_it_was_run_from_top_to_bottom_without_errors_and_warnings_and_is_small():
    code = cells(NOTEBOOK, "code")
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    shown, pictures = zip(*map(text, code), strict=True)
    assert sum(pictures) >= 4
    assert NOTEBOOK.stat().st_size <= 300_000
    assert not re.search(r"/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\", "\n".join(shown))
    links = re.findall(r"\]\(([^)]+)\)", "".join("".join(x["source"]) for x in cells(NOTEBOOK, "markdown")))
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []
