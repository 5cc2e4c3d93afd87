"""Installations in fresh environments: the base, a project that requires it, and an editable one."""

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
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "foreign"
        version = "1"
        [project.optional-dependencies]
        test = ["array-api-strict", "pytest", "xpnet @ XPNET"]
        [tool.hatch.metadata]
        allow-direct-references = true
        """,
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
    process = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The committed files and changes, where a build leaves nothing behind."""
    folder = tmp_path_factory.mktemp("source") / "xpnet"
    run("git", "clone", "-q", ROOT, folder, folder=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(source):
    """The wheel of these files, which is built once."""
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", source.parent, source, folder=ROOT)
    (path,) = source.parent.glob("*.whl")
    return path


def make_environment(folder):
    """Make an environment without packages; return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", folder=folder)
    return folder / "env/bin/python"


def install(python, *words):
    """Install into an environment; return the names of its packages."""
    pip = sys.executable, "-m", "pip", "--python", python
    run(*pip, "install", "-q", "--no-compile", *words, folder=ROOT)
    run(*pip, "check", folder=ROOT)
    listed = run(*pip, "list", "--format=freeze", folder=ROOT)
    return {re.split("[= ]", line)[0].lower().replace("_", "-") for line in listed.splitlines()}


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """A fresh environment with the base installation: its Python, and the names of its packages."""
    python = make_environment(tmp_path_factory.mktemp("base"))
    return python, install(python, wheel)


def test_the_base_brings_numpy_and_array_api_compat_alone(base, tmp_path):
    python, packages = base
    assert packages == {"numpy", "array-api-compat", "xpnet"}
    run(python, "-m", "xpnet", "doctor", folder=tmp_path)


@pytest.fixture(scope="module")
def foreign(wheel, base, tmp_path_factory):
    """The folder of a project that requires xpnet, installed there too; the Python, and the packages."""
    folder, (python, _) = tmp_path_factory.mktemp("foreign"), base
    for name, text in FOREIGN.items():
        (folder / name).write_text(textwrap.dedent(text).lstrip().replace("XPNET", wheel.as_uri()))
    return folder, python, install(python, f"{folder}[test]")


def test_a_project_whose_tests_require_xpnet_gets_two_packages_beside_its_own(foreign):
    folder, python, packages = foreign
    assert packages == {*PYTEST.split(), "numpy", "array-api-compat", "array-api-strict", "foreign", "xpnet"}
    printed = run(python, "-m", "pytest", "-q", "--xp-backends", "numpy,array-api-strict", folder=folder)
    assert "3 passed" in printed
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "foreign.py", folder=folder)


def test_the_blocks_of_the_page_on_parity_print_the_same_there(foreign, tmp_path):
    """Those that need no further library and compare no trainings."""
    _, python, _ = foreign
    page = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    blocks = [
        block for block in blocks if not re.search(r'"jax"|sync=False|xpnet\.training|hypothesis', block)
    ]
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.py").write_text(block)
    code = "\n".join(
        f"exec(compile(open({f'block{n}.py'!r}).read(), 'parity.md', 'exec'))" for n in range(len(blocks))
    )
    printed = run(python, "-c", code, folder=tmp_path)

    def problems(text):  # without the libraries that have them, and the numbers of lines
        return [re.sub(r"(?<=parity.md:)\d+", "", line.partition(": ")[2]) for line in text.splitlines()]

    assert (len(blocks) >= 6, len(problems(printed)) >= 6) == (True, True)
    assert {*problems(printed)} <= {*problems(page)}


def test_an_editable_installation_has_no_package_of_that_name_beside_the_checkout(source, tmp_path):
    """So the process that installed it imports the checkout, once it reads the new path."""
    code = f"""
import site, subprocess, sys, sysconfig
pip = [{sys.executable!r}, "-m", "pip", "--python", sys.executable, "install", "-q", "--no-compile"]
subprocess.run([*pip, "-e", {str(source)!r}], check=True)
site.addsitedir(sysconfig.get_path("purelib"))
import xpnet
print(xpnet.__version__, xpnet.reproducible.random.uniform(0, ()).shape)
"""
    python = make_environment(tmp_path)
    assert run(python, "-c", code, folder=tmp_path).endswith(" ()\n")
    (packages,) = (tmp_path / "env/lib").glob("python*/site-packages")
    assert not (packages / "xpnet").exists()


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
def test_the_cell_for_hosted_notebooks_installs_trains_and_shows_the_report(
    base, source, tmp_path, monkeypatch
):
    python, _ = base
    install(python, "ipykernel", "pip")
    kernel = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    (tmp_path / "kernels/fresh").mkdir(parents=True)
    (tmp_path / "kernels/fresh/kernel.json").write_text(json.dumps({**kernel, "display_name": "fresh"}))
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    page = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    cell = re.search(r"^```python\n(%pip .*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    address = f"file://localhost{source}"  # pip takes no address without a host
    run(sys.executable, "-c", NOTEBOOK, cell.replace("ADDRESS", address), folder=tmp_path)
    [executed] = json.loads((tmp_path / "executed.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = executed["outputs"]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    shown = ["".join(output["data"]["text/html"]) for output in outputs if "data" in output]
    assert "b00fc7558dade97bc173aadd7c73276e52148bdb0c44bb116c21efe0f4c64e61" in printed
    assert shown[-1].startswith('<iframe srcdoc="&lt;!doctype html&gt;')
