"""xpnet train, end to end: what it prints, writes and returns.

A training that is stopped and goes on ends as one that was never stopped; --dry-run trains nothing.
"""

import itertools
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
    """Train on the small data into runs/run, by default without a report; return the exit code."""
    settings = ["--data", "small.npz", "--name", "run", "--overwrite", "--no-report"]
    return train.main([*settings, *map(str, words)])


def record():
    return read_run(RUN)


def test_a_run_prints_its_course_and_leaves_a_record_metrics_and_a_model(capsys):
    assert run("--epochs", 12, "--log-every", 10, "--hidden", 6, 5, "--seed", 3) == 0
    content, metrics, model = record(), record()["metrics"], load_model(RUN / "model.safetensors")
    assert (content["status"], content["seed"], content["device_requested"]) == ("completed", 3, "auto")
    assert (content["data"]["name"], len(content["data"]["sha256"])) == ("small", 64)
    lines = read_metrics(RUN / "metrics.jsonl")
    history = [(line["epoch"], line["train_loss"], line["train_accuracy"]) for line in lines]
    assert [epoch for epoch, _, _ in history] == [0, 10, 12]
    assert history[-1] == (12, metrics["train_loss"], metrics["train_accuracy"])
    assert len(metrics["test_accuracy_per_class"]) == 4
    assert model.sizes == (36, 6, 5, 4)
    assert fingerprint(model.layers) == content["fingerprint"]
    out, err = capsys.readouterr()
    assert err == ""
    version, data, network, *lines = (line for line in out.splitlines() if not line.startswith("note: "))
    assert re.fullmatch(r"xpnet \S+: numpy \S+ on cpu.*", version)
    assert data == "small: 180 training and 50 test samples, 36 features, 4 classes"
    assert network.startswith("network 36-6-5-4, reproducible float64, batch size full, learning rate 0.1")
    rows = [(f"epoch {epoch:>5}", *values) for epoch, *values in history]
    rows += [("test       ", metrics["test_loss"], metrics["test_accuracy"])]
    for line, (name, loss, accuracy) in zip(lines, rows, strict=False):
        assert line == f"{name}   loss {loss:.4f}   accuracy {accuracy:.4f}"
    for label, share in enumerate(metrics["test_accuracy_per_class"]):
        assert re.fullmatch(rf"  class   {label} +accuracy {share:.4f}", lines[4 + label])
    assert lines[8:] == [f"fingerprint   {content['fingerprint']}", f"run           {RUN}"]


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


def test_without_a_gpu_cuda_falls_back_with_a_warning_unless_it_is_required(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
    assert run("--device", "cuda", "--require-device") == 2
    assert "no NVIDIA driver" in capsys.readouterr().err
    assert not RUN.exists()
    assert run("--epochs", 1, "--device", "cuda") == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"xpnet: warning: --device cuda .* no NVIDIA driver.*to fix it: .*\n", err)
    assert (record()["device_requested"], record()["device_used"]) == ("cuda", "cpu")
    assert "no NVIDIA driver" in record()["device_reason"]


def test_where_the_environment_requires_a_gpu_auto_needs_one_in_every_command(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.backends.probing.cuda_driver_version", lambda: None)
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
    line = r"xpnet: training diverged: .* in epoch \d: .*scale in place of none\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert (record()["status"], record()["fingerprint"]) == ("failed", None)
    assert "diverged" in record()["error"]
    assert not (RUN / "model.safetensors").exists()


@pytest.mark.parametrize("words", [[], ["--hidden", "5", "3", "--batch-size", "100", "--repeats", "4"]])
def test_settings_parameters_memory_and_time_are_printed_and_nothing_is_written(words, capsys):
    out = printed(capsys, "train", "--data", "small.npz", "--dry-run", *words)
    config = parse(["--data", "small.npz", *words], "train").config
    assert from_json(tomllib.loads(out), "out") == config
    parameters = sum(b * (a + 1) for a, b in itertools.pairwise((36, *config.hidden, 4)))
    assert f"\n# parameters    {parameters}\n" in out
    (mebibytes,) = re.findall(r"^# memory +about ([\d,]+) MiB$", out, re.MULTILINE)
    assert 30 < int(mebibytes.replace(",", "")) < 20_000
    steps = "1 step" if config.batch_size == "full" else "2 steps"
    trainings = "4 trainings, one at a time, of " if words else ""
    trainings += f"{config.epochs} epochs of {steps}"
    form = rf"^# time +about [\d.e-]+ s: {trainings} of [\d.e-]+ ms, and evaluation$"
    assert re.search(form, out, re.MULTILINE)
    assert [path.name for path in Path().iterdir()] == ["small.npz"]


def test_an_extension_counts_the_epochs_that_it_adds(recorded, capsys):
    shutil.copytree(recorded / "runs/plain", "runs/plain")
    out = printed(capsys, "train", "--dry-run", "--extend", "runs/plain", "--epochs", "2")
    assert "\n# epochs 4 to 5, after those of runs/plain\n" in out
    assert "s: 2 epochs of 3 steps of " in out
    Path("again.toml").write_text(out)
    again = printed(capsys, "train", "--dry-run", "--config", "again.toml")
    assert tomllib.loads(again) == tomllib.loads(out)
    assert [path.name for path in Path("runs").iterdir()] == ["plain"]


COMMAND = [*SETTINGS, "--epochs", "6", "--log-every", "2", "--keep-checkpoint-every", "2", "--no-report"]
"""The command of the recorded run runs/mine."""


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
    assert train.main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert outcome("runs/stopped") == outcome(recorded / "runs/mine")


def test_a_repeated_command_starts_goes_on_and_then_says_that_the_run_is_complete(recorded, capsys):
    words = [*COMMAND, "--name", "again", "--resume-or-start"]
    train_and_press(words, 1, 3)
    assert train.main([*words, "--no-quiet"]) == 0
    assert "\ngoes on after epoch 1 and 3 steps\n" in capsys.readouterr().out
    assert outcome("runs/again") == outcome(recorded / "runs/mine")
    assert train.main([*words, "--no-quiet"]) == 0
    assert capsys.readouterr().out == "run           runs/again is complete\n"
    message = "--epochs: runs/again was started with 6, got 7: leave it out, or start a new run"
    assert complaint(capsys, "train", *words, "--epochs", "7") == message


def test_without_its_checkpoint_it_starts_from_the_first_epoch(recorded):
    train_and_press([*COMMAND, "--name", "run"], 1, 3)
    Path("runs/run/checkpoint.safetensors").unlink()
    assert train.main(["--resume", "runs/run", "--quiet"]) == 0
    assert outcome("runs/run") == outcome(recorded / "runs/mine")
