"""xpnet export: the paths of the files, and every wrong input."""

import shutil
import sys

import numpy as np
import pytest
from commands import complaint, printed
from folders import change_record, tree
from networks import pixels

from xpnet import train
from xpnet.__main__ import main

FIRST = "runs/first"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("trained")
    x, y = pixels(60, 9, 3)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = f"--data {folder}/data.npz --out {folder}/runs --name first --epochs 2 --no-report --quiet"
    assert train.main([*words.split(), "--device", "cpu"]) == 0
    return folder


@pytest.fixture(autouse=True)
def work(trained, tmp_path, monkeypatch):
    """A copy of the folder, which is the current one."""
    folder = shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("words", "path"),
    [
        ((FIRST, "--to", "onnx"), f"{FIRST}/model.onnx"),
        ((FIRST, "--to", "torch"), f"{FIRST}/model-torch.safetensors"),
        ((f"{FIRST}/model.safetensors", "--to", "torch"), f"{FIRST}/model-torch.safetensors"),
        ((FIRST, "--to", "onnx", "--out", "a.ONNX"), "a.ONNX"),
        ((FIRST, "--to", "torch", "--out", "a.safetensors"), "a.safetensors"),
    ],
)
def test_it_writes_one_file_and_prints_its_path(capsys, work, words, path):
    before = tree(work)
    assert printed(capsys, "export", *words) == f"{path}\n"
    assert tree(work).keys() - before.keys() == {path}


def test_the_newest_run_is_exported_unless_one_is_named(capsys):
    assert main(["export", "--to", "torch"]) == 0
    out, err = capsys.readouterr()
    assert out == "runs/first/model-torch.safetensors\n"
    assert err == "xpnet: note: no RUN given: using the newest, runs/first\n"


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("words", "expected"),
    [((), "tensor(uint8)"), (("--rows", "uint8"), "tensor(uint8)"), (("--rows", "float"), "tensor(double)")],
)
def test_rows_have_the_dtype_of_the_training_or_of_the_flag(capsys, words, expected):
    import onnxruntime

    printed(capsys, "export", FIRST, "--to", "onnx", *words)
    session = onnxruntime.InferenceSession(f"{FIRST}/model.onnx")
    assert session.get_inputs()[0].type == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((FIRST,), "the following arguments are required: --to"),
        ((FIRST, "--to", "keras"), "argument --to: invalid choice: 'keras'"),
        (
            ("runs/absent", "--to", "torch"),
            "runs/absent: no such file or folder: expected the folder of a run",
        ),
        (("data.npz", "--to", "torch"), "data.npz: not a complete .safetensors file"),
        (
            (FIRST, "--to", "onnx", "--out", "a.pb"),
            "--out: expected a file name that ends in .onnx, got a.pb",
        ),
        (
            (FIRST, "--to", "torch", "--out", "a.pt"),
            "expected a file name that ends in .safetensors, got a.pt",
        ),
        (
            (FIRST, "--to", "torch", "--out", "absent/a.safetensors"),
            "absent/a.safetensors: cannot be written",
        ),
        ((FIRST, "--to", "torch", "--out", f"{FIRST}/model.safetensors"), "is the network itself"),
        ((FIRST, "--to", "torch", "--rows", "uint8"), "--rows uint8: goes with --to onnx"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_nothing_changes(capsys, work, words, message):
    before = tree(work)
    assert message in complaint(capsys, "export", *words)
    assert tree(work) == before


@pytest.mark.needs("onnx")
def test_a_file_that_cannot_be_written_is_one_line(capsys, work):
    (work / "taken.onnx").mkdir()
    message = complaint(capsys, "export", FIRST, "--to", "onnx", "--out", "taken.onnx")
    assert message.startswith("taken.onnx: cannot be written")


def test_a_missing_onnx_is_one_line(capsys, monkeypatch, work):
    monkeypatch.setitem(sys.modules, "onnx", None)
    before = tree(work)
    message = complaint(capsys, "export", FIRST, "--to", "onnx")
    assert message.startswith("--to onnx: onnx cannot be imported")
    assert message.endswith('pip install -e ".[onnx]" in the checkout of xpnet')
    assert tree(work) == before


def test_a_run_that_has_failed_has_nothing_to_export(capsys, work):
    change_record(work / FIRST, status="failed")
    assert "holds no trained network" in complaint(capsys, "export", FIRST, "--to", "torch")
