"""The command, end to end: what it prints, writes, returns, and refuses."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backend_enum import BackendCase
from ctrl_c import pressed, sigint

from xpnet import train
from xpnet.cli import train as runner
from xpnet.data import datasets
from xpnet.nn.init import initialize
from xpnet.storage.model_file import fingerprint, load_model
from xpnet.storage.record import read_metrics, read_run
from xpnet.training import trainer

COMMAND = [sys.executable, "-m", "xpnet.train"]


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 300 + 50 samples, 12 features, 4 classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(350, 12), dtype=np.uint8)
    y = np.argmax((x / 255 - 0.5) @ generator.normal(size=(12, 4)), axis=1)
    np.savez(tmp_path / "small.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_REQUIRE_DEVICE", raising=False)


def run(*words):
    """Train on the small data into runs/run, without a report; return the exit code."""
    return run_with_report("--no-report", *words)


def run_with_report(*words):
    return train.main(["--data", "small.npz", "--name", "run", "--overwrite", *map(str, words)])


def record():
    return read_run(train_folder())


def train_folder(name="run"):
    return Path("runs") / name


def history():
    """The losses and accuracies of metrics.jsonl."""
    lines = read_metrics(train_folder() / "metrics.jsonl")
    return [(line["epoch"], line["train_loss"], line["train_accuracy"]) for line in lines]


def test_a_run_prints_its_course_and_figures(capsys):
    assert run("--epochs", 20, "--device", "cpu") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert re.fullmatch(r"xpnet \S+: numpy \S+ on cpu", lines[0])
    assert lines[1] == "small: 300 training and 50 test samples, 12 features, 4 classes"
    assert lines[2].startswith("network 12-10-4, reproducible float64, batch size full, learning rate 0.1")
    figures = r"loss \d+\.\d{4}   accuracy [01]\.\d{4}"
    for line, epoch in zip(lines[3:6], (0, 10, 20), strict=True):
        assert re.fullmatch(rf"epoch {epoch:>5}   {figures}", line)
    assert re.fullmatch(rf"test          {figures}", lines[6])
    for label in range(4):
        assert re.fullmatch(rf"  class   {label} +accuracy [01]\.\d{{4}}", lines[7 + label])
    assert lines[11] == f"fingerprint   {record()['fingerprint']}"
    assert lines[12] == f"run           {train_folder()}"
    assert len(lines) == 13


def test_a_run_leaves_a_record_metrics_and_a_model():
    assert run("--epochs", 12, "--hidden", 6, 5, "--seed", 3) == 0
    run_record = record()
    assert run_record["status"] == "completed"
    assert run_record["config"]["hidden"] == [6, 5]
    assert run_record["seed"] == 3
    assert run_record["device_requested"] == "auto"
    assert run_record["data"]["name"] == "small"
    assert len(run_record["data"]["sha256"]) == 64
    metrics = run_record["metrics"]
    assert [epoch for epoch, _, _ in history()] == [0, 10, 12]
    assert history()[-1] == (12, metrics["train_loss"], metrics["train_accuracy"])
    assert 0 <= metrics["test_accuracy"] <= 1
    assert len(metrics["test_accuracy_per_class"]) == 4
    model = load_model(train_folder() / "model.safetensors")
    assert model.sizes == (12, 6, 5, 4)
    assert fingerprint(model.layers) == run_record["fingerprint"]
    assert model.normalization.kind == "scale"
    assert float(model.normalization.scale) == 1 / 255


def test_the_largest_label_there_can_be_trains_to_the_end(capsys):
    x = np.arange(24, dtype=np.uint8).reshape(6, 4)
    y = np.array([0, 65535] * 3)
    np.savez("wide.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert run("--data", "wide.npz", "--hidden", 2, "--epochs", 1, "--no-report") == 0
    shares = record()["metrics"]["test_accuracy_per_class"]
    assert len(shares) == 65536
    assert [label for label, share in enumerate(shares) if share is not None] == [0, 65535]
    assert "the accuracy of each of the 65536 classes is in run.json\n" in capsys.readouterr().out


def test_quiet_prints_nothing(capsys):
    assert run("--epochs", 1, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_the_last_line_names_the_report(capsys):
    assert run_with_report("--epochs", 1) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == f"report        {train_folder() / 'report.html'}"
    assert (train_folder() / "report.html").read_bytes().lower().startswith(b"<!doctype html>")


def test_a_quiet_run_has_a_report_too(capsys):
    assert run_with_report("--epochs", 1, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (train_folder() / "report.html").exists()


def test_without_report_there_is_none(capsys):
    assert run("--epochs", 1) == 0
    assert "report" not in capsys.readouterr().out
    assert not (train_folder() / "report.html").exists()


def test_a_report_that_fails_is_one_warning(capsys, monkeypatch):
    def fail(*_, **__):
        msg = "out of\nink"
        raise RuntimeError(msg)

    monkeypatch.setattr("xpnet.report.write_report", fail)
    assert run_with_report("--epochs", 1) == 0
    out, err = capsys.readouterr()
    assert err == ("xpnet: warning: no report: RuntimeError: out of ink: xpnet report runs/run tries again\n")
    assert out.splitlines()[-1] == f"run           {train_folder()}"
    assert record()["status"] == "completed"


def test_no_epochs_save_the_initial_parameters():
    assert run("--epochs", 0, "--seed", 5) == 0
    layers = load_model(train_folder() / "model.safetensors").layers
    for layer, expected in zip(layers, initialize((12, 10, 4), 5), strict=True):
        assert np.array_equal(layer["weight"], expected.weight)
        assert np.array_equal(layer["bias"], expected.bias.ravel())


def test_the_same_seed_gives_the_same_run_and_another_one_does_not():
    fingerprints = []
    for seed in (0, 0, 1):
        assert run("--epochs", 2, "--batch-size", 32, "--seed", seed) == 0
        fingerprints.append(record()["fingerprint"])
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_training_goes_on_from_a_saved_model():
    assert run("--epochs", 6, "--log-every", 3) == 0
    expected, fingerprint_of_six = history(), record()["fingerprint"]
    assert run("--epochs", 3) == 0
    (train_folder() / "model.safetensors").rename("half.safetensors")
    assert run("--epochs", 3, "--init-from", "half.safetensors", "--log-every", 3) == 0
    assert record()["fingerprint"] == fingerprint_of_six
    assert [figures[1:] for figures in history()] == [figures[1:] for figures in expected[1:]]


def test_settings_come_from_a_file_and_flags_win_over_it(tmp_path):
    (tmp_path / "settings.toml").write_text("epochs = 2\nhidden = [7]\n")
    assert run("--config", "settings.toml", "--epochs", 1) == 0
    assert record()["config"]["hidden"] == [7]
    assert record()["config"]["epochs"] == 1


def test_print_config_trains_nothing(capsys):
    assert run("--epochs", 7, "--print-config") == 0
    assert "epochs = 7\n" in capsys.readouterr().out
    assert not train_folder().parent.exists()


@pytest.mark.parametrize("normalize", ["scale", "standardize", "none"])
@pytest.mark.parametrize("hidden", [(), (9,), (8, 7)], ids=str)
def test_every_normalisation_and_depth_trains(normalize, hidden):
    assert run("--epochs", 5, "--normalize", normalize, "--hidden", *hidden) == 0
    assert load_model(train_folder() / "model.safetensors").normalization.kind == normalize


@pytest.mark.parametrize(
    "case", [BackendCase.STRICT, BackendCase.TORCH, BackendCase.JAX], ids=lambda case: case.value
)
@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_every_backend_trains_to_the_same_figures(case, arithmetic):
    arguments = ["--epochs", 3, "--arithmetic", arithmetic, "--dtype", "float64"]
    assert run(*arguments) == 0
    expected = history(), record()["fingerprint"]
    assert run(*arguments, "--backend", case.backend_name, "--device", case.device) == 0
    assert record()["backend"] == case.backend_name
    assert record()["device_used"] == case.device
    if arithmetic == "reproducible":
        assert (history(), record()["fingerprint"]) == expected
    else:
        np.testing.assert_allclose(history(), expected[0], rtol=1e-7)


def test_without_a_gpu_cuda_falls_back_with_a_warning(capsys, monkeypatch):
    from xpnet.backends import resolve

    monkeypatch.setattr(resolve, "cuda_driver_version", lambda: None)
    assert run("--epochs", 1, "--device", "cuda") == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"xpnet: warning: --device cuda .* no NVIDIA driver.*to fix it: .*\n", err)
    run_record = record()
    assert (run_record["device_requested"], run_record["device_used"]) == ("cuda", "cpu")
    assert "no NVIDIA driver" in run_record["device_reason"]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_required_device_is_not_replaced(capsys, monkeypatch, how):
    from xpnet.backends import resolve

    monkeypatch.setattr(resolve, "cuda_driver_version", lambda: None)
    if how == "variable":
        monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "1")
    assert run("--device", "cuda", *(["--require-device"] if how == "flag" else [])) == 2
    assert "no NVIDIA driver" in capsys.readouterr().err
    assert not train_folder().exists()


def test_training_that_diverges_ends_with_code_3_and_a_failed_record(capsys):
    assert run("--lr", "1e300", "--epochs", 5) == 3
    err = capsys.readouterr().err
    assert re.fullmatch(r"xpnet: training diverged: the loss is not finite in epoch \d: .*\n", err)
    run_record = record()
    assert run_record["status"] == "failed"
    assert run_record["fingerprint"] is None
    assert "diverged" in run_record["error"]
    assert not (train_folder() / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", 301], "--batch-size: expected at most the 300 training samples, got 301"),
        (["--hidden", 10**12], "--hidden: a 12-1000000000000-4 network has"),
        (["--data", "absent"], "absent: no such file or folder"),
        (["--init-from", "absent"], "absent: no such file"),
        (["--backend", "cupy", "--device", "cpu"], "the cupy backend cannot run on cpu"),
        (["--device", "gpu"], "unknown device 'gpu': expected auto, cpu, cuda or cuda:N"),
        (["--epochs", -1], "--epochs: expected a whole number, 0 or more, got -1"),
        (["--config", "absent.toml"], "absent.toml: cannot be read"),
        pytest.param(
            ["--backend", "torch", "--workers", 2],
            "--workers: the torch backend has threads",
            marks=pytest.mark.needs("torch"),
        ),
        (
            ["--backend", "array-api-strict", "--device", "no_float64"],
            "array-api-strict has no float64 on no_float64: use --arithmetic native",
        ),
        (
            ["--dtype", "float32"],
            "--dtype: reproducible arithmetic takes auto or float64, got float32",
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(capsys, words, message):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"xpnet: {message}")
    assert err.count("\n") == 1
    assert not train_folder().parent.exists()


def test_a_model_of_another_shape_is_no_start(capsys):
    assert run("--epochs", 0, "--hidden", 7) == 0
    (train_folder() / "model.safetensors").rename("other.safetensors")
    assert run("--init-from", "other.safetensors") == 2
    assert "holds a 12-7-4 network, but the settings and the data make it a 12-10-4 network" in (
        capsys.readouterr().err
    )


def test_an_existing_run_is_kept_unless_told_otherwise(capsys):
    arguments = ["--data", "small.npz", "--epochs", "1", "--name", "mine", "--no-report"]
    assert train.main(arguments) == 0
    before = (train_folder("mine") / "run.json").read_bytes()
    assert train.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert (train_folder("mine") / "run.json").read_bytes() == before
    assert train.main([*arguments, "--overwrite"]) == 0


def test_a_traceback_is_shown_with_debug_only(capsys, monkeypatch):
    def fail():
        msg = "out of\nluck"
        raise RuntimeError(msg)

    monkeypatch.setattr(trainer, "available_cpus", fail)
    assert run() == 1
    expected = "xpnet: unexpected RuntimeError: out of luck (--debug shows where)\n"
    assert capsys.readouterr().err == expected
    assert run("--debug") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith(expected)


def test_ctrl_c_saves_what_there_is_and_ends_with_code_130():
    words = [*COMMAND, "--data", "small.npz", "--name", "run", "--epochs", "1000000", "--log-every"]
    with sigint(signal.default_int_handler):
        process = subprocess.Popen([*words, "1"], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch    20 "):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(
        r"^interrupted after \d+ epochs; what was trained is saved, and --resume runs/run goes on$",
        out,
        re.MULTILINE,
    )
    run_record = record()
    assert run_record["status"] == "interrupted"
    assert run_record["metrics"]["epochs"] >= 20
    assert (train_folder() / "report.html").exists()
    model = load_model(train_folder() / "model.safetensors")
    assert fingerprint(model.layers) == run_record["fingerprint"]


def test_where_ctrl_c_is_ignored_as_in_background_jobs_a_training_goes_on():
    words = ["--data", "small.npz", "--name", "run", "--epochs", "6", "--log-every", "1"]
    process = pressed(3, words, ignored=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert record()["status"] == "completed"
    assert record()["metrics"]["epochs"] == 6


def test_ctrl_c_before_training_leaves_nothing(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "digest", interrupted)
    assert run() == 130
    assert capsys.readouterr() == ("", "")
    assert not train_folder().parent.exists()


def test_a_terminal_shows_a_progress_bar():
    controller, terminal = pty.openpty()
    words = [*COMMAND, "--data", "small.npz", "--epochs", "300", "--device", "cpu", "--no-report"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(words, stdout=terminal, env=environment) as process:
        os.close(terminal)
        output = b""
        with contextlib.suppress(OSError):  # how Linux says that the terminal was closed
            while part := os.read(controller, 65536):
                output += part
    os.close(controller)
    assert process.returncode == 0
    assert "━" in output.decode()
    assert "300/300" in output.decode()
    assert re.search(r"epoch   300   loss", output.decode())


def test_the_metrics_of_a_running_training_are_valid_json_lines():
    assert run("--epochs", 3, "--log-every", 1) == 0
    lines = (train_folder() / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.parametrize(("ratio", "noted"), [(None, False), (2, False), (64, True)])
def test_a_gpu_with_slow_float64_is_noted(capsys, monkeypatch, ratio, noted):
    monkeypatch.setattr(runner, "cuda_index", lambda _: 0)
    monkeypatch.setattr(runner, "float64_ratio", lambda _: ratio)
    assert run("--epochs", 0) == 0
    assert ("float64 is 1/64 as fast as float32 on this GPU" in capsys.readouterr().out) is noted
