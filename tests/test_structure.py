"""The shape of the package, as far as the import contract in pyproject.toml does not say it."""

import re
import traceback
from pathlib import Path

import numpy as np
from checkout import ROOT
from networks import pixels

import xpnet
from xpnet import train
from xpnet.nn import layers

PACKAGE = Path(xpnet.__file__).resolve().parent
FILES = sorted(PACKAGE.rglob("*.py"))


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def test_no_file_is_long():
    assert [name(file) for file in FILES if len(file.read_text().splitlines()) > 420] == []


def test_a_step_is_few_calls_from_the_command_to_the_product_as_the_page_shows(tmp_path, monkeypatch):
    x, y = pixels(3000, 4, 3)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    stacks, linear = [], layers.linear

    def watched(*arguments, **options):
        frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        stacks.append([(name(file), call) for file, call in frames if file.is_relative_to(PACKAGE)])
        return linear(*arguments, **options)

    monkeypatch.setattr(layers, "linear", watched)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    words = f"--data {tmp_path}/data.npz --out {tmp_path} --backend numpy --workers 1 --epochs 1"
    assert train.main([*words.split(), "--quiet", "--no-report"]) == 0
    stack = next(stack for stack in stacks if ("training/step.py", "__call__") in stack)
    stack.append(("nn/layers.py", "linear"))
    assert len(stack) <= 15, stack
    page = (ROOT / "docs" / "code.md").read_text()
    shown = re.findall(r"^(xpnet/\S+) +(?:\w+\.)?(\w+)\b.*$", page, re.MULTILINE)
    assert shown == [(f"xpnet/{file}", call) for file, call in stack]
