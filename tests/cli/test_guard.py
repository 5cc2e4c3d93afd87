"""Whatever ends a command, the user sees one line at most and an exit code that says why."""

import io
import json
import os
import re
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import complaint
from ctrl_c import handled_by
from folders import change_record, fail_with
from hooks import OnEpoch, OnStep, calling

from xpnet.__main__ import main
from xpnet.cli.guard import handle_errors
from xpnet.errors import BackendError
from xpnet.storage.checkpoint import load_checkpoint
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("small_data")

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals and names")
on_linux = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="has no device /dev/full")
TRAIN = ["train", "--data", "small.npz", "--epochs", "3", "--log-every", "1", "--name", "run", "--no-report"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("no 9 TiB"), "the memory does not suffice (no 9 TiB): a smaller network, "),
        (RuntimeError("RESOURCE_EXHAUSTED: Out\n of"), "the memory does not suffice (RESOURCE_EXHAUSTED"),
        (BackendError("GPU: out of memory: use another"), "GPU: out of memory: use another"),
        (PermissionError(13, "Denied", "a.npz"), "a.npz: cannot be used (Denied): check its permissions, "),
    ],
)
def test_errors_of_the_system_are_told_in_one_line(capsys, error, line):
    with calling(OnEpoch(fail_with(error))):
        assert complaint(capsys, *TRAIN, "--quiet").startswith(line)


def test_a_traceback_is_shown_with_debug_only(capsys):
    expected = "xpnet: unexpected RuntimeError: out of luck (--debug shows where)\n"
    with calling(OnEpoch(fail_with(RuntimeError("out of\nluck")))):
        assert main(TRAIN) == 1
        assert capsys.readouterr().err == expected
        assert main([*TRAIN, "--debug", "--overwrite"]) == 1
    assert re.fullmatch(f"Traceback.*{re.escape(expected)}", capsys.readouterr().err, re.DOTALL)


def test_a_training_that_a_full_gpu_has_ended_goes_on_from_the_last_epoch():
    def fill(state):
        if (state.epoch, state.batch) == (2, 1):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 MiB.")

    words = [*TRAIN, "--batch-size", "60"]
    with calling(OnStep(fill)):
        assert main(words) == 2
    assert load_checkpoint(Path("runs/run/checkpoint.safetensors"))[1]["epoch"] == 2
    assert main(["train", "--resume", "runs/run"]) == main([*words, "--name", "whole"]) == 0
    assert read_run(Path("runs/run"))["fingerprint"] == read_run(Path("runs/whole"))["fingerprint"]


@not_on_windows
def test_the_exit_code_of_a_command_that_is_terminated_names_the_signal():
    with handled_by(signal.SIG_DFL, signal.SIGTERM), handle_errors(debug=False) as output:
        signal.raise_signal(signal.SIGTERM)
    assert output.code == 143


@not_on_windows
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_training_that_is_terminated_is_saved_and_goes_on(name, code):
    number = getattr(signal, name)
    terminate = OnEpoch(lambda log: signal.raise_signal(number) if log.epoch == 1 else None)
    with handled_by(signal.SIG_IGN), handled_by(signal.SIG_DFL, number):  # as in the background
        with calling(terminate):
            assert main(TRAIN) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    record = read_run(Path("runs/run"))
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 1)
    assert main(["train", "--resume", "runs/run", "--quiet"]) == 0


FULL = "xpnet: standard output cannot be written (No space left on device): nothing more is printed\n"


def broken():
    """A stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


full = partial(Path("/dev/full").open, "w")


@on_linux
@pytest.mark.parametrize(
    ("stream", "opened", "words", "code", "error"),
    [
        ("stdout", lambda: None, [], 0, ""),
        ("stdout", full, [], 1, FULL),
        ("stdout", broken, [], 0, ""),
        ("stderr", full, ["--device", "cuda"], 0, ""),  # of which a line says that there is none
    ],
)
def test_a_training_goes_on_without_a_stream(capsys, monkeypatch, stream, opened, words, code, error):
    monkeypatch.setattr(sys, stream, opened())
    assert main([*TRAIN, *words]) == code
    getattr(sys, stream).close()  # which writes the rest, as the end of a process does
    assert capsys.readouterr().err == error
    record = read_run(Path("runs/run"))
    assert (record["status"], record["metrics"]["epochs"]) == ("completed", 3)


UNICODE = "e\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\r\n\u202e±"
EVIL = f"{UNICODE}\udcff"
STRANGE = [
    ("report", EVIL, "run", "--out", f"{EVIL}.html"),
    ("export", EVIL, "--to", "torch"),
    ("predict", EVIL, f"{EVIL}.npz"),
    ("train", "--data", f"{EVIL}.npz", "--epochs", "1", "--out", EVIL, "--repeats", "2", "--name", "two"),
    ("verify", EVIL, "--files"),
    ("runs", "list", ".", "--json"),
    ("runs", "show", "./strange"),
    ("runs", "compare", "./strange", EVIL, "--all"),
]


@pytest.fixture(scope="module")
def trained(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    shutil.copy(recorded / "small.npz", folder / f"{EVIL}.npz")
    for name in "run", "strange", EVIL:
        shutil.copytree(recorded / "runs/plain", folder / name)
    changes = dict.fromkeys(("id", "started", "backend", "error", "python", "fingerprint"), UNICODE)
    changes |= {"status": "interrupted", "digests": None, "versions": {"xpnet": UNICODE}}
    change_record(folder / "strange", **changes, command=[UNICODE] * 2, metrics={UNICODE: 0.5})
    (folder / "strange/metrics.jsonl").write_text(json.dumps({"epoch": 1, UNICODE: 2.0}) + "\n")
    return folder


@not_on_windows
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("words", STRANGE, ids=lambda words: " ".join(words)[:20])
def test_every_command_escapes_what_cannot_be_shown(trained, tmp_path, monkeypatch, words, encoding):
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "copy"))
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors) for errors in ("strict", "backslashreplace")]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert main(words) == 0
    text = "".join(stream.seek(0) or stream.read() for stream in streams)
    assert text.replace("\n", "").isprintable()
    assert "owned" in text
