"""Each error of the command line: exit code 2, one line that says what to change, and nothing written."""

import shlex
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from folders import change_record, tree
from PIL import Image
from saved_models import saved_model

from xpnet.__main__ import COMMANDS
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import encode_model

EXPECTED = f"expected {', '.join(COMMANDS)} (xpnet --help)"
NO_RUN = (
    "no such file or folder: expected the folder of a run or its name in runs … : did you mean runs/plain?"
)
SEVERAL = "cannot be read (No such file or directory): expected the folder of one run, and trials holds sev"
TRAIN = "train --data small.npz"
ON_STRICT, STRICT = f"{TRAIN} --backend array-api-strict", pytest.mark.needs("array-api-strict")
X = np.zeros((3, 36), np.uint8)
ARRAYS = {
    "label": {"x": X, "y": [0, 4, 2]},
    "narrow": {"x": X[:, 1:], "y": [0, 1, 2]},
    "unlabelled": {"x": X},
    "wide": {"x_train": np.eye(3), "y_train": [0, 1, 3], "x_test": np.eye(3), "y_test": [0, 1, 3]},
}
"""Arrays that do not fit the network 36-6-4, by the name of their file."""
TEXTS = {"text.csv": "1,2\n1_0,2\n", "large.csv": "1e300,1e300\n"}


def shorten_checkpoint(run):
    """Leave out one of the arrays of a checkpoint."""
    arrays, facts = load_checkpoint(run / "checkpoint.safetensors")
    arrays.popitem()
    (run / "checkpoint.safetensors").write_bytes(encode_checkpoint(arrays, facts))


DAMAGED = {
    "damaged/model": lambda run: (run / "model.safetensors").write_bytes(b"\x80"),
    "damaged/unnamed": lambda run: change_record(run, fingerprint=None),
    "damaged/running": lambda run: change_record(run, status="running"),
    "damaged/failed": lambda run: change_record(run, status="failed"),
    "damaged/data": lambda run: change_record(run, data={"name": "x", "sha256": "0" * 64}),
    "damaged/record": lambda run: (run / "run.json").write_text("{"),
    "broken/array": shorten_checkpoint,
    "broken/data": lambda run: change_record(run, data={"name": "x", "sha256": "0" * 64}),
}
"""What is done to copies of runs/plain, or of runs/stopped."""


@pytest.fixture(scope="module")
def work(recorded, tmp_path_factory):
    """A copy of the recorded runs, with damaged ones and files that do not fit them."""
    folder = tmp_path_factory.mktemp("errors") / "work"
    shutil.copytree(recorded, folder)
    with chdir(folder):
        for name, damage in DAMAGED.items():
            run = "runs/stopped" if name.startswith("broken") else "runs/plain"
            damage(Path(shutil.copytree(run, name)))
        shutil.copytree("runs/plain", "trials/seed-0")
        Path("trials/summary.json").touch()
        for name, arrays in ARRAYS.items():
            np.savez(f"{name}.npz", **arrays)
        for name, text in TEXTS.items():
            Path(name).write_text(text)
        layers = [{"weight": np.full((2, 2), 1e9), "bias": np.zeros(2)}]
        Path("tiny.safetensors").write_bytes(encode_model(saved_model(layers, normalize="none")))
        Path("empty").mkdir()
        Image.new("L", (9, 9)).save("digit.png")
    return folder


ERRORS = [
    ("", f"no command given: {EXPECTED}"),
    ("fly", f"unknown command 'fly': {EXPECTED}"),
    ("trian", f"unknown command 'trian': {EXPECTED.replace(' (', ': did you mean train? (')}"),
    ("help fly", f"unknown command 'fly': {EXPECTED}"),
    (
        "runs lst",
        "argument ACTION: invalid choice: 'lst' (choose from … ): did you mean list? (xpnet runs --help)",
    ),
    (
        "export mine --to pytorch",
        "argument --to: invalid choice: 'pytorch' (choose … ): did you mean torch? (xpnet export --help)",
    ),
    ("augment --preview a.png", "unknown command 'augment', now examples/augment_preview.py of the source"),
    ("report --out ''", 'argument --out: expected a path, got "" (xpnet report --help)'),
    # Names of runs (… stands for any text)
    *((f"{words} plaim", f"plaim: {NO_RUN}") for words in ("evaluate", "report", "runs show")),
    ("train --resume runs/plaim", f"runs/plaim: {NO_RUN}"),
    ("train --resume plain", "runs/plain: is complete: nothing is left to resume"),
    ("report plain plain", "runs/plain: is named twice: expected different runs"),
    # Damaged runs
    ("evaluate damaged/model", "damaged/model/model.safetensors: not a complete .safetensors file"),
    ("evaluate damaged/unnamed", "damaged/unnamed: its model has the fingerprint"),
    ("evaluate damaged/running", "damaged/running: is still running, or was killed: wait"),
    ("export damaged/failed --to torch", "damaged/failed: holds no trained network"),
    ("evaluate damaged/data", "small: is no longer what damaged/data was trained on"),
    ("runs show damaged/record", "damaged/record/run.json: not a run record"),
    # Evaluation and prediction
    ("evaluate mine --data label.npz", "label.npz, row 2: label 4: the network tells 4 classes, 0 to 3"),
    ("evaluate mine --data narrow.npz", "narrow.npz: the network takes rows of 36 features, got an array of"),
    ("evaluate mine --data unlabelled.npz", "unlabelled.npz: has no labels to compare with"),
    ("evaluate mine --predictions runs/plain/run.json", "argument --predictions: expected a file name"),
    ("predict", "the following arguments are required: FILE (xpnet predict --help)"),
    ("predict tiny.safetensors digit.png", "digit.png: the network takes 2 features, which make no square"),
    ("predict tiny.safetensors text.csv", "text.csv, line 2, column 1 (1): '1_0' is not a finite number"),
    ("predict tiny.safetensors large.csv --arithmetic native", "large.csv: the network's outputs are not"),
    # Export
    ("export plain --to torch --out a.pt", "--out: expected a file name that ends in .safetensors, got a.pt"),
    ("export plain --to torch --out runs/plain/model.safetensors", "runs/plain/model.safetensors: is the"),
    # Runs
    ("runs show --out empty", "no run in empty: xpnet train makes one; or give RUN"),
    ("runs list small.csv", "small.csv: cannot be read (Not a directory): expected a folder"),
    ("runs best --json", "runs best, --where: are gone: xpnet runs list --sort METRIC has the best run"),
    ("runs compare a b --where=data=mnist", "runs best, --where: are gone: xpnet runs list --sort METRIC "),
    ("runs list --sort test_acuracy", "--sort: no run has 'test_acuracy': expected one of train_loss, "),
    # Training
    (f"{TRAIN} --hidden 1000000000000", "--hidden: a 36-1000000000000-4 network has"),
    ("train --data small.csv --label kind --test-split 0.2", "small.csv: has no column named kind"),
    pytest.param(f"{ON_STRICT} --workers 2", "--workers: the array-api-strict backend", marks=STRICT),
    pytest.param(f"{ON_STRICT} --device no_float64", "array-api-strict has no float64", marks=STRICT),
    (f"{TRAIN} --init-from start.safetensors --hidden 7", "--init-from: start.safetensors holds a 36-6-4"),
    ("train --data wide.npz --init-from start.safetensors --hidden 6", "--init-from: start.safetensors"),
    (f"{TRAIN} --name plain", "runs/plain: exists already"),
    (f"{TRAIN} --repeats 2 --name plain", "runs/plain: exists already"),
    ("train --resume stopped --lr 0.5", "--learning-rate: runs/stopped was started with 0.1, got 0.5"),
    ("train --resume broken/data", "--resume: broken/data was trained on other data: x"),
    ("train --resume broken/array", "broken/array/checkpoint.safetensors: not a checkpoint"),
    ("train --dry-run --resume stopped", "--dry-run: expected a new training, not --resume"),
    # Parity
    ("parity --require numpy,keras", "unknown backend 'keras': expected numpy, cupy, torch, jax"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_an_error_is_one_line_and_nothing_is_written(work, capsys, monkeypatch, line, message):
    monkeypatch.chdir(work)
    before = tree(work)
    text = complaint(capsys, *shlex.split(line))
    start, _, end = message.partition(" … ")
    assert (text[: len(start)], text[len(text) - len(end) :]) == (start, end)
    assert tree(work) == before
