"""Each error of the command line: exit code 2, one line that says what to change, and nothing written."""

import shlex
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from folders import change_record, tree
from saved_models import saved_model

from xpnet.__main__ import COMMANDS
from xpnet.storage.model_file import encode_model

X = np.zeros((3, 36), np.uint8)
ARRAYS = {
    "label": {"x": X, "y": [0, 4, 2]},
    "narrow": {"x": X[:, 1:], "y": [0, 1, 2]},
    "wide": {"x_train": np.eye(3), "y_train": [0, 1, 3], "x_test": np.eye(3), "y_test": [0, 1, 3]},
}


DAMAGED = {
    "unnamed": {"fingerprint": None},
    "running": {"status": "running"},
    "other": {"data": {"name": "x", "sha256": "0" * 64}},
}


@pytest.fixture(scope="module")
def work(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("errors") / "work"
    with chdir(shutil.copytree(recorded, folder)):
        for name, changes in DAMAGED.items():
            change_record(Path(shutil.copytree("runs/plain", f"damaged/{name}")), **changes)
        change_record(Path(shutil.copytree("runs/stopped", "broken")), **DAMAGED["other"])
        for name, arrays in ARRAYS.items():
            np.savez(f"{name}.npz", **arrays)
        Path("large.csv").write_text("1e300,1e300\n")
        layers = [{"weight": np.full((2, 2), 1e9), "bias": np.zeros(2)}]
        Path("tiny.safetensors").write_bytes(encode_model(saved_model(layers)))
    return folder


TRAIN, STRICT = "train --data small.npz", "--backend array-api-strict"
NEEDS = pytest.mark.needs("array-api-strict")
COMMAND_LIST = f"expected {', '.join(COMMANDS)}"
ERRORS = [  # … stands for any text
    ("", f"no command given: {COMMAND_LIST} (xpnet --help)"),
    ("trian", f"unknown command 'trian': {COMMAND_LIST}: did you mean train? (xpnet --help)"),
    ("export mine --to pytorch", "argument --to: … : did you mean torch? (xpnet export --help)"),
    ("report --out ''", 'argument --out: expected a path, got "" (xpnet report --help)'),
    ("runs show ''", 'argument RUN: expected a path, got "" (xpnet runs show --help)'),
    ("evaluate plaim", "plaim: no such file or folder: … : did you mean runs/plain?"),
    ("train --resume plain", "runs/plain: is complete: nothing is left to resume"),
    ("report plain plain", "runs/plain: is named twice: expected different runs"),
    ("evaluate damaged/unnamed", "damaged/unnamed: its model has the fingerprint"),
    ("evaluate damaged/running", "damaged/running: is still running, or was killed: wait"),
    ("evaluate damaged/other", "small: is no longer what damaged/other was trained on"),
    ("evaluate mine --data label.npz", "label.npz, row 2: label 4: the network tells 4 classes, 0 to 3"),
    ("evaluate mine --data narrow.npz", "narrow.npz: the network takes rows of 36 features, got an array of"),
    ("predict tiny.safetensors large.csv --arithmetic native", "large.csv: the network's outputs are not"),
    ("export plain --to torch --out runs/plain/model.safetensors", "runs/plain/model.safetensors: is the"),
    ("runs list --sort test_acuracy", "--sort: no run has 'test_acuracy': expected one of train_loss, "),
    (f"{TRAIN} --hidden 1000000000000", "--hidden: a 36-1000000000000-4 network has"),
    pytest.param(f"{TRAIN} {STRICT} --device no_float64", "array-api-strict has no float64", marks=NEEDS),
    ("train --data wide.npz --init-from start.safetensors --hidden 6", "--init-from: start.safetensors"),
    (f"{TRAIN} --repeats 2 --name plain", "runs/plain: exists already"),
    ("train --resume stopped --lr 0.5", "--learning-rate: runs/stopped was started with 0.1, got 0.5"),
    ("train --resume broken", "--resume: broken was trained on other data: x"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_an_error_is_one_line_and_nothing_is_written(work, capsys, monkeypatch, line, message):
    monkeypatch.chdir(work)
    before = tree(work)
    text = complaint(capsys, *shlex.split(line))
    start, _, end = message.partition(" … ")
    assert text.startswith(start)
    assert text.endswith(end)
    assert tree(work) == before
