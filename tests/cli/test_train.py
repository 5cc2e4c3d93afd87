"""The command, end to end: what it prints, writes, returns, and refuses."""

import contextlib
import os
import pty
import re
import sys
from pathlib import Path
from threading import Thread, Timer
from unittest.mock import Mock

import numpy as np
import pytest
from backend_enum import BackendCase
from commands import complaint
from networks import pixels

from xpnet import train
from xpnet.__main__ import main
from xpnet.cli import train as runner
from xpnet.nn.init import initialize
from xpnet.storage.model_file import fingerprint, load_model
from xpnet.storage.record import read_metrics, read_run
from xpnet.training import trainer

RUN = Path("runs/run")
STRICT, ON_STRICT = pytest.mark.needs("array-api-strict"), "--backend array-api-strict"


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 300 + 50 samples, 12 features, 4 classes."""
    x, y = pixels(350, 12, 4)
    np.savez(tmp_path / "small.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_REQUIRE_DEVICE", raising=False)


def run(*words):
    """Train on the small data into runs/run, by default without a report; return the exit code."""
    settings = ["--data", "small.npz", "--name", "run", "--overwrite", "--no-report"]
    return train.main([*settings, *map(str, words)])


def record():
    return read_run(RUN)


def history():
    """The losses and accuracies of metrics.jsonl."""
    lines = read_metrics(RUN / "metrics.jsonl")
    return [(line["epoch"], line["train_loss"], line["train_accuracy"]) for line in lines]


def test_a_run_prints_its_course_and_leaves_a_record_metrics_and_a_model(capsys):
    assert run("--epochs", 12, "--log-every", 10, "--hidden", 6, 5, "--seed", 3) == 0
    content, metrics, model = record(), record()["metrics"], load_model(RUN / "model.safetensors")
    assert (content["status"], content["seed"], content["device_requested"]) == ("completed", 3, "auto")
    assert content["config"]["hidden"] == [6, 5]
    assert (content["data"]["name"], len(content["data"]["sha256"])) == ("small", 64)
    assert [epoch for epoch, _, _ in history()] == [0, 10, 12]
    assert history()[-1] == (12, metrics["train_loss"], metrics["train_accuracy"])
    assert len(metrics["test_accuracy_per_class"]) == 4
    assert model.sizes == (12, 6, 5, 4)
    assert fingerprint(model.layers) == content["fingerprint"]
    assert not (RUN / "report.html").exists()
    out, err = capsys.readouterr()
    assert err == ""
    version, data, network, *lines = (line for line in out.splitlines() if not line.startswith("note: "))
    assert re.fullmatch(r"xpnet \S+: numpy \S+ on cpu.*", version)
    assert data == "small: 300 training and 50 test samples, 12 features, 4 classes"
    assert network.startswith("network 12-6-5-4, reproducible float64, batch size full, learning rate 0.1")
    rows = [(f"epoch {epoch:>5}", *values) for epoch, *values in history()]
    rows += [("test       ", metrics["test_loss"], metrics["test_accuracy"])]
    for line, (name, loss, accuracy) in zip(lines, rows, strict=False):
        assert line == f"{name}   loss {loss:.4f}   accuracy {accuracy:.4f}"
    for label, share in enumerate(metrics["test_accuracy_per_class"]):
        assert re.fullmatch(rf"  class   {label} +accuracy {share:.4f}", lines[4 + label])
    assert lines[8:] == [f"fingerprint   {content['fingerprint']}", f"run           {RUN}"]


def test_a_batch_size_above_the_number_of_samples_is_printed_with_the_one_in_its_place(capsys):
    assert run("--epochs", 1, "--batch-size", 301) == 0
    assert ", batch size 300 in place of 301, learning rate" in capsys.readouterr().out
    assert record()["config"]["batch_size"] == 301


def test_the_largest_label_there_can_be_trains_to_the_end(capsys):
    x, y = np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([0, 65535] * 3)
    np.savez("wide.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert run("--data", "wide.npz", "--hidden", 2, "--epochs", 1) == 0
    assert len(record()["metrics"]["test_accuracy_per_class"]) == 65536
    assert "the accuracy of each of the 65536 classes is in run.json\n" in capsys.readouterr().out


def test_the_last_line_names_the_report_and_a_quiet_run_has_one_too(capsys, monkeypatch):
    assert run("--report", "--epochs", 1) == 0
    out, err = capsys.readouterr()
    assert (err, out.splitlines()[-1]) == ("", f"report        {RUN / 'report.html'}")
    assert run("--report", "--epochs", 1, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (RUN / "report.html").read_bytes().lower().startswith(b"<!doctype html>")
    monkeypatch.setattr("xpnet.report.write_report", Mock(side_effect=RuntimeError("out of\nink")))
    assert run("--report", "--epochs", 1, "--quiet") == 0
    err = capsys.readouterr().err
    assert err == "xpnet: warning: no report: RuntimeError: out of ink: xpnet report runs/run tries again\n"


def test_training_goes_on_from_a_saved_model_and_no_epochs_save_the_initial_parameters(capsys):
    assert run("--epochs", 6, "--log-every", 3) == 0
    expected, fingerprint_of_six = history(), record()["fingerprint"]
    assert run("--epochs", 3) == 0
    (RUN / "model.safetensors").rename("half.safetensors")
    assert run("--epochs", 3, "--init-from", "half.safetensors", "--log-every", 3) == 0
    assert record()["fingerprint"] == fingerprint_of_six
    assert [metrics[1:] for metrics in history()] == [metrics[1:] for metrics in expected[1:]]
    assert run("--init-from", "half.safetensors", "--hidden", 7) == 2
    assert "holds a 12-10-4 network, but the settings and the data make it a 12-7" in capsys.readouterr().err
    x, y = pixels(20, 13, 4)
    np.savez("wide.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert run("--init-from", "half.safetensors", "--data", "wide.npz") == 2
    assert "holds a 12-10-4 network, but the settings and the data make it a 13-1" in capsys.readouterr().err
    assert run("--epochs", 0, "--seed", 5) == 0
    layers = load_model(RUN / "model.safetensors").layers
    assert np.array_equal(layers[1]["weight"], initialize((12, 10, 4), 5)[1].weight)


@pytest.mark.parametrize("case", [BackendCase.STRICT, BackendCase.TORCH], ids=lambda case: case.value)
def test_every_backend_trains_to_the_same_metrics(case):
    assert run("--epochs", 3) == 0
    expected = history(), record()["fingerprint"]
    assert run("--epochs", 3, "--backend", case.backend_name, "--device", case.device) == 0
    assert (record()["backend"], record()["device_used"]) == (case.backend_name, case.device)
    assert (history(), record()["fingerprint"]) == expected


def test_without_a_gpu_cuda_falls_back_with_a_warning_unless_it_is_required(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.resolve.cuda_driver_version", lambda: None)
    assert run("--device", "cuda", "--require-device") == 2
    assert "no NVIDIA driver" in capsys.readouterr().err
    assert not RUN.exists()
    assert run("--epochs", 1, "--device", "cuda") == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"xpnet: warning: --device cuda .* no NVIDIA driver.*to fix it: .*\n", err)
    assert (record()["device_requested"], record()["device_used"]) == ("cuda", "cpu")
    assert "no NVIDIA driver" in record()["device_reason"]
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "1")
    assert run("--device", "cuda") == 2


def test_where_the_environment_requires_a_gpu_auto_needs_one_in_every_command(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.resolve.cuda_driver_version", lambda: None)
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "TRUE")
    assert run("--epochs", 1, "--device", "cpu") == 0
    capsys.readouterr()
    for words in ("train",), ("evaluate", str(RUN)), ("verify", str(RUN)):
        assert complaint(capsys, *words).startswith(
            "a GPU is required: no backend can run on cuda:0: there is no NVIDIA driver; to fix it: "
        )


def test_a_value_that_requires_a_gpu_or_not_must_be_understood(capsys, monkeypatch):
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "2")
    line = "XPNET_REQUIRE_DEVICE: expected 1, true, yes, on, 0, false, no, off or nothing, got '2'"
    assert complaint(capsys, "train", "--data", "small.npz", "--device", "cpu") == line


def test_a_gpu_with_slow_float64_is_noted(capsys, monkeypatch):
    monkeypatch.setattr(runner, "cuda_index", lambda _: 0)
    for ratio, noted in ((2, False), (64, True)):
        monkeypatch.setattr(runner, "float64_ratio", Mock(return_value=ratio))
        assert run("--epochs", 0) == 0
        assert ("float64 is 1/64 as fast as float32 on this GPU" in capsys.readouterr().out) is noted


def test_training_that_diverges_ends_with_code_3_and_a_failed_record(capsys):
    assert run("--lr", "1e300", "--epochs", 5) == 3
    assert re.fullmatch(
        r"xpnet: training diverged: .* in epoch \d: .*scale in place of none\n", capsys.readouterr().err
    )
    assert (record()["status"], record()["fingerprint"]) == ("failed", None)
    assert "diverged" in record()["error"]
    assert not (RUN / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--hidden 1000000000000", "--hidden: a 12-1000000000000-4 network has"),
        ("--data absent", "absent: no such file or folder"),
        ("--backend cupy --device cpu", "the cupy backend cannot run on cpu"),
        pytest.param(f"{ON_STRICT} --workers 2", "--workers: the array-api-strict backend", marks=STRICT),
        pytest.param(f"{ON_STRICT} --device no_float64", "array-api-strict has no float64", marks=STRICT),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(capsys, words, message):
    assert run(*words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"xpnet: {message}")
    assert not Path("runs").exists()


def test_a_traceback_is_shown_with_debug_only(capsys, monkeypatch):
    monkeypatch.setattr(trainer, "check_memory", Mock(side_effect=RuntimeError("out of\nluck")))
    assert run() == 1
    expected = "xpnet: unexpected RuntimeError: out of luck (--debug shows where)\n"
    assert capsys.readouterr().err == expected
    assert run("--debug") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith(expected)


def test_ctrl_c_before_training_leaves_nothing(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.data.datasets.digest", Mock(side_effect=KeyboardInterrupt))
    assert run() == 130
    assert capsys.readouterr() == ("", "")
    assert not Path("runs").exists()


def test_a_terminal_shows_a_progress_bar(monkeypatch):
    controller, terminal = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    output = []

    def read():
        with contextlib.suppress(OSError):  # how Linux says that the terminal was closed
            while part := os.read(controller, 65536):
                output.append(part)

    reader = Thread(target=read)
    with os.fdopen(terminal, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        reader.start()
        assert train.main(["--data", "small.npz", "--epochs", "100", "--no-report"]) == 0
    reader.join()
    os.close(controller)
    text = b"".join(output).decode()
    assert "━" in text
    assert "100/100" in text
    assert re.search(r"epoch   100   loss", text)


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_reading_that_takes_a_second_says_on_a_terminal_what_it_reads(
    monkeypatch, capsys, tmp_path, terminal, quiet
):
    class Elapsed(Timer):
        """A timer whose time is over at once."""

        def start(self):
            self.function(*self.args)

    monkeypatch.setattr("xpnet._lib.terminal.Timer", Elapsed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    words = ["--data", "absent.csv", "--test-split", "0.1", "--out", str(tmp_path)]
    assert train.main([*words, *["--quiet"] * quiet]) == 2
    note = "xpnet: note: reading absent.csv\n" * (terminal and not quiet)
    assert capsys.readouterr().err == f"{note}xpnet: absent.csv: no such file\n"
    if not quiet:
        assert main(["parity", *words[:4]]) == 2
        assert capsys.readouterr().err == f"{note}xpnet: absent.csv: no such file\n"


def test_reading_data_to_evaluate_or_predict_is_announced_too(monkeypatch, capsys, tmp_path):
    announced = []
    monkeypatch.setattr(
        "xpnet._lib.terminal.Timer", lambda _, __, words: announced.append(*words) or Timer(9, print)
    )
    monkeypatch.chdir(tmp_path)
    rows = ["a,b,label\n", *(f"{i % 7},{i % 5},{i % 2}\n" for i in range(40))]
    Path("rows.csv").write_text("".join(rows))
    words = [
        "--data",
        "rows.csv",
        "--test-split",
        "0.5",
        "--epochs",
        "1",
        "--name",
        "one",
        "--no-report",
        "--quiet",
    ]
    for command in (
        ["train", *words],
        ["evaluate", "one", "--data", "rows.csv"],
        ["predict", "one", "rows.csv"],
        ["verify", "one"],
    ):
        assert main(command) == 0
    assert announced == ["note: reading rows.csv"] * 4
