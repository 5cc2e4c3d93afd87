"""The pages name modules, functions and files that exist; their formulas, numbers and examples are right."""

import html
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from xpnet.backends.base import PRECISION_VARIABLES
from xpnet.cli.parity import describe_kind
from xpnet.parity import runs

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xpnet"
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(PACKAGE.rglob("*.py"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = [*PAGES, ROOT / "Dockerfile", *sorted(PACKAGE.rglob("*.py")), *sorted(ROOT.glob("examples/*.ipynb"))]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PARITY = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
MATHEMATICS = (ROOT / "docs" / "math.md").read_text(encoding="utf-8")


def test_the_mathematics_name_functions_that_exist():
    references = re.findall(r"`([a-z_][\w.]*)\.(\w+)`", MATHEMATICS)
    assert len(references) > 40
    for module, name in references:
        places = [import_module(path) for path in MODULES if path.endswith(f".{module}")]
        assert any(hasattr(place, name) for place in places), f"{module}.{name}"


def test_formulas_are_left_as_they_are_by_a_renderer_and_closed_where_github_closes_them():
    """No blank inside the dollars, no digit or letter behind the last, no bar for tables to split."""
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", MATHEMATICS, flags=re.MULTILINE | re.DOTALL)
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", prose, re.DOTALL)
    rendered = html.unescape(MarkdownIt("commonmark").enable("table").render(MATHEMATICS))
    assert len(formulas) > 100
    assert [formula for formula in formulas if formula not in rendered] == []
    inline = r"(?<![\w$])\$(?! )[^$|]+(?<! )\$(?![\w$])"
    assert re.sub(rf"\$\$[^$|]+\$\$|{inline}", "", prose).count("$") == 0
    assert not re.search(r"\\[\[\](){}\\|,;!]|\\(?:new|def|operatorname)", "".join(formulas))


def test_the_table_of_a_step_has_the_numbers_that_the_block_prints():
    section = MATHEMATICS.partition("## A step in numbers")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[-1] for line in section.splitlines() if line.startswith("| ")]
    number, printed = r"-?\d+\.\d+", section.rpartition("\n\n```\n")[2]
    assert len(re.findall(number, printed)) > 40
    assert re.findall(number, "".join(cells)) == re.findall(number, printed)


def test_the_example_of_parity_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PARITY, flags=re.DOTALL | re.MULTILINE)
    [example] = [block for block in blocks if "def test_" in block]
    (tmp_path / "test_nearest.py").write_text(example)
    words = ["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-W", "error", "test_nearest.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", *words]
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 5


def test_parity_shows_the_kinds_of_runs_their_tolerances_and_the_refused_variables():
    shown = [runs.format_tolerance(kind.tolerance) for kind in runs.KINDS if kind.tolerance]
    tolerances = f"within {shown[0]} (float32) or\n{shown[1]} (float64)"
    variables = [f"`{name}`" for name in PRECISION_VARIABLES]
    parts = [*map(describe_kind, runs.KINDS), tolerances, *variables]
    assert [part for part in parts if part not in PARITY] == []


def test_contributing_and_readme_are_short_and_name_files_that_exist():
    paths = set(re.findall(r"`([\w./]+(?:\.py|\.md|\.sh|/))`", CONTRIBUTING))
    places = (ROOT, PACKAGE, *(PACKAGE / folder for folder in ("training", "storage", "recording")))
    assert paths
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []
    assert len(CONTRIBUTING.splitlines()) <= 120
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_links_lead_to_files_that_exist():
    link = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
    links = [page.parent / path for page in PAGES for path in link.findall(page.read_text())]
    assert len(links) > 100
    assert [path for path in links if not path.exists()] == []


def test_extras_and_the_photo_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [names for page in PAGES for names in re.findall(r"\.\[([\w,]+)\]", page.read_text())]
    named = {name for names in lists for name in names.split(",")}
    assert {"test", "torch", "mlflow"} <= named <= set(project["project"]["optional-dependencies"])
    assert "/examples" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert (ROOT / "examples" / "seven.jpg").stat().st_size < 100_000


def test_nothing_installs_xpnet_from_an_index():
    install = re.compile(r"xpnet\[|pip install (-\S+ )*\"?xpnet\b")
    assert [path for path in TEXTS if install.search(path.read_text())] == []
