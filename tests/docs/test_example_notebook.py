"""The notebook of the examples runs, and what is printed in it is what it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook.ipynb"
pytestmark = [pytest.mark.needs("notebook"), pytest.mark.slow]
LARGEST = 300_000
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


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it was run, by a new kernel in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    own = {name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")}
    outcome = subprocess.run(
        [sys.executable, "-c", EXECUTE, NOTEBOOK, "executed.ipynb"],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return folder / "executed.ipynb"


def test_it_prints_what_is_stored_in_it(executed):
    stored, new = cells(NOTEBOOK, "code"), cells(executed, "code")
    assert [text(cell) for cell in new] == [text(cell) for cell in stored]


def test_it_was_run_from_top_to_bottom():
    found = cells(NOTEBOOK, "code")
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))


def test_nothing_failed_or_warned():
    outputs = [output for cell in cells(NOTEBOOK, "code") for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {
        "stream",
        "execute_result",
        "display_data",
    }
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}


def test_it_shows_pictures_and_is_small():
    assert sum(text(cell)[1] for cell in cells(NOTEBOOK, "code")) >= 4
    assert NOTEBOOK.stat().st_size <= LARGEST


def test_it_names_no_machine():
    shown = "\n".join(text(cell)[0] for cell in cells(NOTEBOOK, "code"))
    assert not re.search(r"/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\", shown)


def test_its_links_lead_somewhere():
    words = "".join("".join(cell["source"]) for cell in cells(NOTEBOOK, "markdown"))
    links = re.findall(r"\]\(([^)]+)\)", words)
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).is_file(), link
