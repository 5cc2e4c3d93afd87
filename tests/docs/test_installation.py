"""Installations in fresh environments: the base, a project that requires it, and a hosted notebook."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest
from checkout import ROOT

pytestmark = [pytest.mark.tooling, pytest.mark.slow, pytest.mark.needs("index")]

NOT_THERE = ("PYTHONPATH", "XPNET_REQUIRE_BACKENDS")  # of these tests, not of the environments they make
PYTEST = "iniconfig packaging pluggy pygments pytest"
FOREIGN = {
    "foreign.py": """
        import xpnet
        from xpnet import reproducible
        from xpnet.parity import assert_parity

        def total(x: object) -> float:
            return float(reproducible.sum(x))

        train = xpnet.fit
        check = assert_parity
        """,
    "test_foreign.py": """
        import numpy as np
        import pytest
        from xpnet.parity import assert_parity

        def test_it(xp_backend):
            assert_parity(lambda x, xp: xp.sum(x), np.ones(3), reference=np.sum, ulp=1)

        def test_the_extra():
            with pytest.raises(ImportError, match=r'pip install "xpnet\\[train\\]"$'):
                import foreign
        """,
}


def run(*words, folder):
    environment = {name: value for name, value in os.environ.items() if name not in NOT_THERE}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    process = subprocess.run([*map(str, words)], check=False, **options)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def install(python, *words):
    pip = sys.executable, "-m", "pip", "--python", python
    run(*pip, "install", "-q", "--no-compile", *words, folder=ROOT)
    run(*pip, "check", folder=ROOT)
    listed = run(*pip, "list", "--format=freeze", folder=ROOT)
    return {re.split("[= ]", line)[0].lower().replace("_", "-") for line in listed.splitlines()}


def test_the_base_and_a_project_whose_tests_require_xpnet_get_two_packages(tmp_path):
    run("git", "clone", "-q", ROOT, tmp_path / "source", folder=ROOT)  # where a build leaves nothing behind
    words = "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, tmp_path / "source"
    run(sys.executable, *words, folder=ROOT)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", folder=ROOT)
    (wheel,), python = tmp_path.glob("*.whl"), tmp_path / "env/bin/python"
    base = {"numpy", "array-api-compat", "xpnet"}
    assert install(python, wheel) == base
    run(python, "-m", "xpnet", "doctor", folder=tmp_path)

    assert install(python, "pytest", "array-api-strict") == {*PYTEST.split(), "array-api-strict", *base}
    for name, text in FOREIGN.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    words = "-m", "pytest", "-q", "--xp-backends", "numpy,array-api-strict", "test_foreign.py"
    printed = run(python, *words, folder=tmp_path)
    assert "3 passed" in printed
    words = "-m", "mypy", "--strict", "--python-executable", python, "foreign.py"
    run(sys.executable, *words, folder=tmp_path)


NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
NotebookClient(notebook, timeout=540, kernel_name="fresh").execute()
nbformat.write(notebook, "executed.ipynb")
"""


@pytest.mark.nightly
@pytest.mark.needs("notebook")
def test_the_cell_for_hosted_notebooks_installs_trains_and_shows_the_report(tmp_path, monkeypatch):
    run("git", "clone", "-q", ROOT, tmp_path / "source", folder=ROOT)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", folder=ROOT)
    python = tmp_path / "env/bin/python"
    install(python, "ipykernel", "pip")
    kernel = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    (tmp_path / "kernels/fresh").mkdir(parents=True)
    (tmp_path / "kernels/fresh/kernel.json").write_text(json.dumps({**kernel, "display_name": "fresh"}))
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    page = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    cell = re.search(r"^```python\n(%pip .*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    address = f"file://localhost{tmp_path}/source"  # pip takes no address without a host
    run(sys.executable, "-c", NOTEBOOK, cell.replace("ADDRESS", address), folder=tmp_path)
    (executed,) = json.loads((tmp_path / "executed.ipynb").read_text(encoding="utf-8"))["cells"]
    printed = "".join("".join(output.get("text", "")) for output in executed["outputs"])
    assert "b00fc7558dade97bc173aadd7c73276e52148bdb0c44bb116c21efe0f4c64e61" in printed
    shown = ["".join(output["data"]["text/html"]) for output in executed["outputs"] if "data" in output]
    assert shown[-1].startswith('<iframe srcdoc="&lt;!doctype html&gt;')
