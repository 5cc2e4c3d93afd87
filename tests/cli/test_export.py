"""xpnet export: the dtype of the rows of ONNX, and the package that it needs."""

import sys
from pathlib import Path

import pytest
from commands import complaint, printed

from xpnet._lib.extras import install_command

pytestmark = pytest.mark.usefixtures("copied")


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("words", "path", "dtype"),
    [
        ([], "runs/plain/model.onnx", "tensor(uint8)"),
        (["--rows", "float", "--out", "a.ONNX"], "a.ONNX", "tensor(double)"),
    ],
)
def test_it_writes_one_file_and_prints_its_path(capsys, words, path, dtype):
    import onnxruntime

    assert printed(capsys, "export", "plain", "--to", "onnx", *words) == f"{path}\n"
    assert onnxruntime.InferenceSession(path).get_inputs()[0].type == dtype


def test_a_missing_onnx_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = complaint(capsys, "export", "plain", "--to", "onnx")
    assert message.startswith("--to onnx: onnx cannot be imported")
    assert message.endswith(install_command("onnx"))
    assert not Path("runs/plain/model.onnx").exists()
