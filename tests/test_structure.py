"""The shape of the package, as far as the import contract in pyproject.toml does not say it."""

import ast
import re
import traceback
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from networks import pixels

import xpnet
from xpnet import errors, train
from xpnet.nn import layers

PACKAGE = Path(xpnet.__file__).resolve().parent
ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(PACKAGE.rglob("*.py"))
parsed = cache(lambda file: ast.parse(file.read_text()))


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def body_length(function):
    """The lines of a function's body, without its docstring."""
    documented = ast.get_docstring(function) is not None and len(function.body) > 1
    return function.end_lineno - function.body[documented].lineno + 1


def test_no_file_and_no_function_is_long():
    assert [name(file) for file in FILES if len(file.read_text().splitlines()) > 420] == []
    nodes = [(name(file), node) for file in FILES for node in ast.walk(parsed(file))]
    functions = [(file, node) for file, node in nodes if isinstance(node, ast.FunctionDef)]
    assert functions
    assert [(file, function.name) for file, function in functions if body_length(function) > 60] == []


def imported_by(file):
    """The files of the package that a file imports, also inside functions and for types alone."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xpnet."):
            folder = PACKAGE.parent.joinpath(*node.module.split("."))
            inside = [folder / f"{alias.name}.py" for alias in node.names]
            itself = [] if all(each in FILES for each in inside) else [folder / "__init__.py"]
            yield from (each for each in (*inside, folder.with_suffix(".py"), *itself) if each in FILES)


def test_no_file_imports_another_in_a_circle():
    graph = {name(file): {name(each) for each in imported_by(file)} for file in FILES}
    order = [*TopologicalSorter(graph).static_order()]  # raises CycleError, which names the circle
    assert order.index("nn/layers.py") < order.index("nn/network.py") < order.index("train.py")


ERRORS = {error for error in vars(errors) if error.endswith("Error")}


def raised_errors(function):
    """The errors of xpnet that a function raises itself."""
    raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc]
    return {node.id for exc in raised for node in ast.walk(exc) if isinstance(node, ast.Name)} & ERRORS


def public_functions(node, path):
    """Yield the public functions in a tree, and the public methods of public classes, with their paths."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from public_functions(child, f"{path}: {child.name}")
            else:
                yield f"{path}: {child.name}", child


def test_public_functions_document_the_errors_they_raise():
    missing = {}
    for file in FILES:
        for path, function in public_functions(parsed(file), name(file)):
            section = (ast.get_docstring(function) or "").partition("Raises\n------\n")[2]
            if undocumented := sorted(error for error in raised_errors(function) if error not in section):
                missing[path] = undocumented
    assert missing == {}


@pytest.fixture
def calls_of_a_step(tmp_path, monkeypatch):
    """Train, and return the calls from the command to the first product of a step, by file and function."""
    (x, y), linear = pixels(3000, 4, 3), layers.linear
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    def call(batch_size):
        stacks = []

        def watched(*arguments, **options):
            frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
            stacks.append([(name(file), call) for file, call in frames if file.is_relative_to(PACKAGE)])
            return linear(*arguments, **options)

        monkeypatch.setattr(layers, "linear", watched)
        words = ["--batch-size", batch_size, "--epochs", "1", "--quiet", "--no-report", "--overwrite"]
        words += ["--workers", "1", "--name", "run", "--out", str(tmp_path)]
        assert train.main([*words, "--backend", "numpy", "--data", str(tmp_path / "data.npz")]) == 0
        stack = next(stack for stack in stacks if ("training/step.py", "__call__") in stack)
        return [*stack, ("nn/layers.py", "linear")]

    return call


@pytest.mark.parametrize(("batch_size", "most"), [("full", 14), ("1000", 11)])
def test_a_step_is_few_calls_from_the_command_to_the_product_as_the_page_shows(
    calls_of_a_step, monkeypatch, batch_size, most
):
    stack = calls_of_a_step(batch_size)
    assert stack[0] == ("train.py", "main")
    assert len(stack) <= most + 2, stack
    monkeypatch.setenv("XPNET_COMPILE", "0")
    stack = calls_of_a_step(batch_size)
    assert len(stack) <= most, stack
    assert len({file for file, _ in stack}) <= 8, stack
    if batch_size == "full":
        page = (ROOT / "docs" / "code.md").read_text()
        shown = re.findall(r"^(xpnet/\S+) +(?:\w+\.)?(\w+)\b.*$", page, re.MULTILINE)
        assert shown == [(f"xpnet/{file}", call) for file, call in stack]
