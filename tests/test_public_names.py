"""What is public stays: nothing that a version promised is missing, or has another default.

tests/fixtures/VERSION/public-names.txt is the promise of a version; there may be more than it says.
"""

import ast
import importlib
import re
from pathlib import Path

import public_names
import pytest

import xpnet
import xpnet.parity

FIXTURES = Path(__file__).resolve().parent / "fixtures"
RENAMED = """xpnet.Epoch: 1 figures
xpnet.Epoch: requires epoch, figures
attribute xpnet.Epoch.figures
setting log_every = 10
xpnet.XPNetClassifier: keyword-only log_every=10
xpnet.XPNetClassifier: keyword-only learning_rate=0.005
xpnet.XPNetClassifier: keyword-only weight_decay=None
xpnet.XPNetClassifier: keyword-only weight_decay=0.003
xpnet.XPNetClassifier: keyword-only schedule='constant'
xpnet.Model.report: requires path, self
xpnet.Model.report: 1 path"""
"""Lines of earlier versions that hold no longer."""
GONE = re.compile(r"(attribute )?xpnet\.(datasets|runs)\.|command augment\b|command runs (best\b|.* --where)")
"""Modules of 0.1 whose old names worked in 0.2 and 0.3, and commands with a replacement."""


@pytest.mark.needs("sklearn")
def test_nothing_public_is_missing_or_has_another_default():
    versions = list(FIXTURES.glob("*/public-names.txt"))
    assert FIXTURES / "0.1.0" / "public-names.txt" in versions
    promised = {line for version in versions for line in version.read_text().splitlines()}
    gone = promised - public_names.surface()
    assert {line for line in gone if not GONE.match(line)} == {*RENAMED.splitlines()}


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize("package", [xpnet, xpnet.parity], ids=lambda package: package.__name__)
def test_type_checkers_are_told_of_the_names_that_there_are(package):
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    places = {alias.name: node.module for node in imports for alias in node.names}
    for name in {*package.__all__} - {"__version__"}:
        assert getattr(package, name) is getattr(importlib.import_module(places[name]), name)
