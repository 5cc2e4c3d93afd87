"""The pages name modules, functions and files that exist, and link to such."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xpnet"
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(PACKAGE.rglob("*.py"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = [*PAGES, ROOT / "Dockerfile", *sorted(PACKAGE.rglob("*.py")), *sorted(ROOT.glob("examples/*.ipynb"))]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MATHEMATICS = (ROOT / "docs/math.md").read_text()


def test_the_mathematics_name_functions_that_exist():
    references = re.findall(r"`([a-z_][\w.]*)\.(\w+)`", MATHEMATICS)
    assert len(references) > 40
    for module, name in references:
        places = [import_module(path) for path in MODULES if path.endswith(f".{module}")]
        assert any(hasattr(place, name) for place in places), f"{module}.{name}"


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
