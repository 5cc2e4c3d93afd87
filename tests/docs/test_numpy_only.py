"""examples/numpy_only.py is short, needs NumPy alone, and has the accuracies of ``xpnet train``."""

import ast
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from fingerprints import mnist, real_data

import xpnet
from xpnet.nn.init import initialize

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "numpy_only.py"
SHOWN = re.search(r"^epoch .*?^test", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]


def read_accuracies(text):
    """The epochs (or ``test``) and their accuracies, as printed."""
    pairs = re.findall(r"^(?:epoch +)?(\d+|test) .*accuracy (\S+)$", text, re.MULTILINE)
    return dict(pairs)


@pytest.fixture(scope="module")
def functions():
    return runpy.run_path(str(SCRIPT))


def test_it_starts_from_the_specified_parameters(functions):
    expected = [array for layer in initialize((784, 10, 10), seed=0) for array in layer]
    for array, expected_array in zip(functions["init_params"](), expected, strict=True):
        assert np.array_equal(array, expected_array)


def printed_accuracies(capsys, functions, data):
    x, x_test = data.x_train.T / 255, data.x_test.T / 255
    functions["gradient_descent"](x, data.y_train, x_test, data.y_test, 10)
    return read_accuracies(capsys.readouterr().out)


def test_its_accuracies_are_those_of_xpnet(functions, capsys):
    data = real_data(2000, 500)
    model = xpnet.fit(data.x_train, data.y_train, epochs=10, log_every=10)
    expected = {str(row["epoch"]): f"{row['train_accuracy']:.4f}" for row in model.history}
    expected["test"] = f"{np.mean(model.predict(data.x_test) == data.y_test):.4f}"
    assert expected.keys() == {"0", "10", "test"}
    assert printed_accuracies(capsys, functions, data) == expected


@pytest.mark.slow
def test_its_first_epochs_have_the_accuracies_that_readme_shows_of_xpnet_train(functions, capsys):
    printed, shown = printed_accuracies(capsys, functions, mnist()), read_accuracies(SHOWN)
    assert {name: printed[name] for name in ("0", "10")} == {name: shown[name] for name in ("0", "10")}


def test_it_has_at_most_45_lines_and_imports_numpy_alone():
    text = SCRIPT.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert modules - set(sys.stdlib_module_names) == {"numpy"}
    assert len(text.splitlines()) <= 45
