"""No name in files or folders moves the cursor of a terminal, and none is too strange to be printed."""

import io
import json
import shutil
import sys

import pytest
from folders import change_record

from xpnet.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such names")

UNICODE = "e\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\r\n\u202e±"
EVIL = f"{UNICODE}\udcff"
COMMANDS = [
    ("report", EVIL, "run", "--out", f"{EVIL}.html"),
    ("export", EVIL, "--to", "torch"),
    ("evaluate", EVIL),
    ("predict", EVIL, f"{EVIL}.npz"),
    ("train", "--data", f"{EVIL}.npz", "--epochs", "1", "--out", EVIL, "--repeats", "2", "--name", "two"),
    ("verify", EVIL, "--files"),
    ("runs", "list", ".", "--sort", UNICODE),
    ("runs", "list", ".", "--json"),
    ("runs", "show", "./strange"),
    ("runs", "compare", "./strange", EVIL, "--all"),
    ("runs", "list", f"--{EVIL}"),
]


@pytest.fixture(scope="module")
def trained(recorded, tmp_path_factory):
    """A folder with a run, a copy that has another name, one with another record, and data."""
    folder = tmp_path_factory.mktemp("strange")
    for name in EVIL, UNICODE, "small":
        shutil.copy(recorded / "small.npz", folder / f"{name}.npz")
    for name in "run", "strange", EVIL:
        shutil.copytree(recorded / "runs/plain", folder / name)
    texts = ("id", "started", "backend", "device_used", "device_reason", "error", "python", "fingerprint")
    changes = dict.fromkeys(texts, UNICODE) | {"status": "interrupted", "ended": None, "digests": None}
    place = {"started": UNICODE, "epoch": 1, "backend": UNICODE, "device": UNICODE, "ranks": 2}
    changes |= {"segments": [{**place, "hosts": [UNICODE]}], "versions": {"xpnet": UNICODE}}
    changes |= {"command": [UNICODE] * 2, "working_folder_commit": {"commit": UNICODE, "dirty": True}}
    change_record(folder / "strange", **changes, metrics={UNICODE: 0.5}, specification_version=99)
    (folder / "strange/metrics.jsonl").write_text(json.dumps({"epoch": 1, UNICODE: 2.0}) + "\n")
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:20])
def test_every_command_escapes_what_cannot_be_shown(trained, tmp_path, monkeypatch, words, encoding):
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors) for errors in ("strict", "backslashreplace")]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        code = main(list(words))
    texts = [stream.seek(0) or stream.read() for stream in streams]
    assert code == (2 if f"--{EVIL}" in words else 0)
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    assert "owned" in "".join(texts)
    assert "unexpected" not in texts[1]
