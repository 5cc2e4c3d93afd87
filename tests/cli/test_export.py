"""xpnet export: the paths of the files, and the dtype of their rows."""

import shutil
import sys
from pathlib import Path

import pytest
from commands import complaint, printed
from folders import tree

from xpnet._lib.extras import install_command

FIRST = "runs/first"


@pytest.fixture(autouse=True)
def work(recorded, tmp_path, monkeypatch):
    """Work in a folder with a run."""
    shutil.copytree(recorded / "runs/plain", tmp_path / FIRST)
    monkeypatch.chdir(tmp_path)


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("words", "path"),
    [
        ((FIRST, "--to", "onnx"), f"{FIRST}/model.onnx"),
        ((f"{FIRST}/model.safetensors", "--to", "torch"), f"{FIRST}/model-torch.safetensors"),
        ((FIRST, "--to", "onnx", "--rows", "float", "--out", "a.ONNX"), "a.ONNX"),
    ],
)
def test_it_writes_one_file_and_prints_its_path(capsys, words, path):
    import onnxruntime

    before = tree(Path())
    assert printed(capsys, "export", *words) == f"{path}\n"
    assert tree(Path()).keys() - before.keys() == {path}
    if "onnx" in words:
        expected = "tensor(double)" if "--rows" in words else "tensor(uint8)"
        assert onnxruntime.InferenceSession(path).get_inputs()[0].type == expected


def test_a_missing_onnx_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = complaint(capsys, "export", FIRST, "--to", "onnx")
    assert message.startswith("--to onnx: onnx cannot be imported")
    assert message.endswith(install_command("onnx"))
    assert not Path(FIRST, "model.onnx").exists()
