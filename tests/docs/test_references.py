"""The pages name modules, functions and files that are there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xpnet"
OLD_NAMES = {PACKAGE / "datasets.py", PACKAGE / "runs.py"}
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted(PACKAGE.rglob("*.py"))
    if file not in OLD_NAMES
]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MATHEMATICS = (ROOT / "docs/math.md").read_text()
NOTEBOOK = (ROOT / "README.md").read_text().partition("## From the notebook to the code")[2]


@pytest.mark.parametrize("text", [MATHEMATICS, NOTEBOOK], ids=["mathematics", "notebook"])
def test_a_page_names_functions_that_are_there(text):
    references = re.findall(r"`([a-z_][\w.]*)\.(\w+)`", text)
    assert len(references) > 10
    for module, name in references:
        places = [import_module(path) for path in MODULES if path.endswith(f".{module}")]
        assert any(hasattr(place, name) for place in places), f"{module}.{name}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w./]+(?:\.py|\.md|\.sh|/))`", CONTRIBUTING))))
def test_contributing_names_files_that_are_there(path):
    assert any((place / path).exists() for place in (ROOT, PACKAGE, PACKAGE / "training"))


def test_contributing_is_short():
    assert len(CONTRIBUTING.splitlines()) <= 60
