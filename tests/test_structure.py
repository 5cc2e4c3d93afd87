"""The shape of the package, as far as the import contract in pyproject.toml does not say it."""

import ast
import re
import traceback
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from networks import pixels

import xpnet
from xpnet import train
from xpnet.config.training import RULES
from xpnet.errors import flag
from xpnet.nn import layers

PACKAGE = Path(xpnet.__file__).resolve().parent
FILES = sorted(PACKAGE.rglob("*.py"))
SETTINGS = {flag(name) for name in (*RULES, "recipe")}


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def body_length(function):
    """The lines of a function's body, without its docstring."""
    documented = ast.get_docstring(function) is not None and len(function.body) > 1
    return function.end_lineno - function.body[documented].lineno + 1


def test_no_file_and_no_function_is_long():
    assert [name(file) for file in FILES if len(file.read_text().splitlines()) > 420] == []
    trees = ((name(file), ast.walk(ast.parse(file.read_text()))) for file in FILES)
    functions = [(file, node) for file, tree in trees for node in tree if isinstance(node, ast.FunctionDef)]
    assert functions
    assert [(file, function.name) for file, function in functions if body_length(function) > 60] == []


OF_COMMANDS = ("cli/", "emulation/", "config/flags.py", "__main__.py", "train.py")
FLAGS = """distributed/watchdog.py --debug
inference/predictor.py --resume
nn/optim.py --momentum
recording/recorded_run.py --resume
recording/recorder.py --resume
recording/training.py --resume
report/page.py --data
storage/checkpoint.py --resume
storage/environment.py --debug
storage/find.py --out
storage/find.py --overwrite
storage/run.py --epochs
storage/run.py --extend
trackers.py --track"""
"""Flags in commands to type, and of a page."""


def test_messages_name_settings_by_a_function_that_knows_who_reads_them():
    """A flag in a message that Python's callers may get, too, would be one that they cannot give."""
    found = set()
    for file in FILES:
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
        words = (re.findall(r"--[a-z-]+", node.value) for node in nodes if isinstance(node.value, str))
        if not name(file).startswith(OF_COMMANDS):
            found |= {f"{name(file)} {word}" for word in chain(*words) if word in SETTINGS}
    assert found == {*FLAGS.splitlines()}


def calls_of_a_step(folder, batch_size):
    """Train, and return the calls from the command to the first product of a step, by file and function."""
    stacks, linear = [], layers.linear

    def watched(*arguments, **options):
        frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        stacks.append([(name(file), call) for file, call in frames if file.is_relative_to(PACKAGE)])
        return linear(*arguments, **options)

    words = ["--data", str(folder / "data.npz"), "--name", "run", "--out", str(folder), "--overwrite"]
    words += ["--backend", "numpy", "--workers", "1", "--epochs", "1", "--quiet", "--no-report"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "linear", watched)
        assert train.main([*words, "--batch-size", batch_size]) == 0
    stack = next(stack for stack in stacks if ("training/step.py", "__call__") in stack)
    return [*stack, ("nn/layers.py", "linear")]


def test_a_step_is_few_calls_from_the_command_to_the_product_as_the_page_shows(tmp_path, monkeypatch):
    x, y = pixels(3000, 4, 3)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert len(calls_of_a_step(tmp_path, "full")) <= 16
    monkeypatch.setenv("XPNET_COMPILE", "0")
    stack = calls_of_a_step(tmp_path, "full")
    assert len(stack) <= 14, stack
    page = (ROOT / "docs" / "code.md").read_text()
    shown = re.findall(r"^(xpnet/\S+) +(?:\w+\.)?(\w+)\b.*$", page, re.MULTILINE)
    assert shown == [(f"xpnet/{file}", call) for file, call in stack]
