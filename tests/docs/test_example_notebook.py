"""The notebook of the examples runs, and what is printed in it is what it prints."""

import json
import os
import re
import subprocess
import sys

import pytest
from checkout import ROOT

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
pytestmark = pytest.mark.tooling
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=540, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def shown(path):
    """What each cell of code prints and shows, without its pictures; and how many of these there are."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        outputs = cell.get("outputs", [])
        contents = [{"text/plain": output.get("text", []), **output.get("data", {})} for output in outputs]
        lines = [line for content in contents for line in content["text/plain"]]
        yield lines, sum("image/png" in content for content in contents)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("notebook")
def test_it_prints_what_is_stored_in_it(tmp_path):
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")}
    command = [sys.executable, "-c", EXECUTE, NOTEBOOK, "executed.ipynb"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, check=True)
    assert [*shown(tmp_path / "executed.ipynb")] == [*shown(NOTEBOOK)]


def test_it_shows_pictures_but_no_error_and_no_folder_of_its_author():
    text, (printed, pictures) = NOTEBOOK.read_text(encoding="utf-8"), zip(*shown(NOTEBOOK), strict=True)
    assert len(text) <= 300_000
    assert sum(pictures) >= 4
    assert not re.search(r'"output_type": "error"|"name": "stderr"', text)
    assert not re.search(r"/home/|/root/|/tmp/|/Users/", str(printed))
