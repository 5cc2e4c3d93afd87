"""xpnet train, end to end: what it prints, writes and returns."""

import re
import shutil
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest
from commands import complaint, printed
from ctrl_c import pressed
from recorded_runs import SETTINGS, train_and_press

import xpnet
from xpnet import train
from xpnet.config import from_json, parse
from xpnet.storage.model_file import fingerprint, load_model
from xpnet.storage.record import read_metrics, read_run

pytestmark = pytest.mark.usefixtures("small_data")

RUN = Path("runs/run")


def run(*words):
    settings = ["--data", "small.npz", "--name", "run", "--overwrite", "--no-report"]
    return train.main([*settings, *map(str, words)])


def test_a_run_prints_its_course_and_leaves_a_record_metrics_and_a_model(capsys):
    assert run("--epochs", 12, "--log-every", 10, "--hidden", 6, 5) == 0
    record, model = read_run(RUN), load_model(RUN / "model.safetensors")
    metrics, history = record["metrics"], read_metrics(RUN / "metrics.jsonl")
    assert [line["epoch"] for line in history] == [0, 10, 12]
    assert (model.sizes, fingerprint(model.layers)) == ((36, 6, 5, 4), record["fingerprint"])
    out, err = capsys.readouterr()
    assert err == ""
    version, data, network, *lines = (line for line in out.splitlines() if not line.startswith("note: "))
    assert re.fullmatch(r"xpnet \S+: numpy \S+ on cpu.*", version)
    assert data == "small: 180 training and 50 test samples, 36 features, 4 classes"
    assert network.startswith("network 36-6-5-4, reproducible float64, batch size full, learning rate 0.1")
    rows = [(f"epoch {row['epoch']:>5}", row["train_loss"], row["train_accuracy"]) for row in history]
    rows += [("test       ", metrics["test_loss"], metrics["test_accuracy"])]
    texts = [f"{name}   loss {loss:.4f}   accuracy {accuracy:.4f}" for name, loss, accuracy in rows]
    shares = enumerate(metrics["test_accuracy_per_class"])
    texts += [f"  class   {label}                accuracy {share:.4f}" for label, share in shares]
    assert lines == [*texts, f"fingerprint   {record['fingerprint']}", f"run           {RUN}"]


def test_the_last_line_names_the_report_and_a_report_that_fails_is_a_warning(capsys, monkeypatch):
    assert run("--report", "--epochs", 1) == 0
    out, err = capsys.readouterr()
    assert (err, out.splitlines()[-1]) == ("", f"report        {RUN / 'report.html'}")
    assert (RUN / "report.html").read_bytes().lower().startswith(b"<!doctype html>")
    monkeypatch.setattr("xpnet.report.write_report", Mock(side_effect=RuntimeError("out of\nink")))
    assert run("--report", "--epochs", 1, "--quiet") == 0
    warning = "xpnet: warning: no report: RuntimeError: out of ink: xpnet report runs/run tries again\n"
    assert capsys.readouterr() == ("", warning)


def test_without_a_gpu_cuda_falls_back_with_a_warning_unless_it_is_required(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    assert run("--device", "cuda", "--require-device") == 2
    assert "no NVIDIA driver" in capsys.readouterr().err
    assert run("--epochs", 1, "--device", "cuda") == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"xpnet: warning: --device cuda .* no NVIDIA driver.*to fix it: .*\n", err)
    assert [read_run(RUN)[f"device_{name}"] for name in ("requested", "used")] == ["cuda", "cpu"]
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "TRUE")
    assert run("--epochs", 1, "--device", "cpu", "--quiet") == 0
    expected = "a GPU is required: no backend can run on cuda:0: there is no NVIDIA driver; to fix it: "
    for words in ("train",), ("evaluate", RUN), ("verify", RUN):
        assert complaint(capsys, *words).startswith(expected)
    monkeypatch.setenv("XPNET_REQUIRE_DEVICE", "2")
    line = "XPNET_REQUIRE_DEVICE: expected 1, true, yes, on, 0, false, no, off or nothing, got '2'"
    assert complaint(capsys, "train", "--data", "small.npz", "--device", "cpu") == line


def test_training_that_diverges_ends_with_code_3_and_a_failed_record(capsys):
    assert run("--lr", "1e300", "--epochs", 5) == 3
    assert re.fullmatch(r"xpnet: training diverged: .* in epoch \d: .*\n", capsys.readouterr().err)
    assert (read_run(RUN)["status"], (RUN / "model.safetensors").exists()) == ("failed", False)


def test_settings_parameters_memory_and_time_are_printed_and_nothing_is_written(capsys):
    words = ["--data", "small.npz", "--hidden", "5", "--batch-size", "100", "--repeats", "4"]
    out = printed(capsys, "train", "--dry-run", *words)
    assert from_json(tomllib.loads(out), "out") == parse(words, "train").config
    assert "\n# parameters    209\n" in out
    (mebibytes,) = re.findall(r"^# memory +about ([\d,]+) MiB$", out, re.MULTILINE)
    assert 30 < int(mebibytes.replace(",", "")) < 20_000
    time = r"^# time +about [\d.e-]+ s: 4 trainings, one at a time, of 100 epochs of 2 steps of "
    assert re.search(time, out, re.MULTILINE)
    assert [path.name for path in Path().iterdir()] == ["small.npz"]


def test_an_extension_counts_the_epochs_that_it_adds(recorded, capsys):
    shutil.copytree(recorded / "runs/plain", "runs/plain")
    out = printed(capsys, "train", "--dry-run", "--extend", "runs/plain", "--epochs", "2")
    assert "\n# epochs 4 to 5, after those of runs/plain\n" in out
    assert tomllib.loads(out)["epochs"] == 2


COMMAND = [*SETTINGS, "--epochs", "6", "--log-every", "2", "--keep-checkpoint-every", "2", "--no-report"]


def outcome(folder):
    """What must not depend on interruptions."""
    content = read_run(Path(folder))
    assert content["status"] == "completed"
    rows = [{**row, "seconds": None} for row in read_metrics(Path(folder, "metrics.jsonl"))]
    return content["fingerprint"], rows, {**content["metrics"], "seconds": None}


def test_after_ctrl_c_it_goes_on(recorded):
    process = pressed(2, [*COMMAND, "--name", "stopped"])
    assert re.search(r"^interrupted after 2 epochs; .* --resume runs/stopped goes on$", process.stdout, re.M)
    assert process.returncode == 130
    stopped = read_run(Path("runs/stopped"))
    assert (stopped["status"], stopped["metrics"]["epochs"]) == ("interrupted", 2)
    assert stopped["fingerprint"] == xpnet.load("runs/stopped").fingerprint
    (Path("runs/stopped") / "checkpoint.safetensors").unlink()  # it starts from the first epoch
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("runs/stopped") == outcome(recorded / "runs/mine")


def test_a_repeated_command_starts_goes_on_and_then_says_that_the_run_is_complete(recorded, capsys):
    words = [*COMMAND, "--name", "again", "--resume-or-start"]
    train_and_press(words, 1, 3)
    assert train.main([*words, "--no-quiet"]) == 0
    assert "\ngoes on after epoch 1 and 3 steps\n" in capsys.readouterr().out
    assert outcome("runs/again") == outcome(recorded / "runs/mine")
    assert printed(capsys, "train", *words) == "run           runs/again is complete\n"
    message = "--epochs: runs/again was started with 6, got 7"
    assert complaint(capsys, "train", *words, "--epochs", "7").startswith(message)
