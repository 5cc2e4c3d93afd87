"""Several seeds or learning rates: a run each, and a summary."""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import harmed_trial
import pytest
from commands import printed
from ctrl_c import handled_by
from folders import change_record
from harmed_trial import harmed, wait_until
from trial_records import outcome, summary

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.cli import trials
from xpnet.config import TrainConfig
from xpnet.storage.locks import is_locked
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("small_data")


def run(*words):
    """Train, by default without reports; return the exit code."""
    settings = ["--data", "small.npz", "--batch-size", "40", "--epochs", "3", "--no-report"]
    return train.main([*settings, *words])


@pytest.mark.slow
def test_seeds_are_trained_in_this_process_or_side_by_side_with_the_same_output_and_records(
    capsys, monkeypatch
):
    words = ("--repeats", "2", "--seed", "4", "--name", "seeds", "--overwrite")
    with monkeypatch.context() as patch:
        patch.delattr(trials, "Popen")
        assert run(*words) == 0
    streams, records = capsys.readouterr(), outcome("seeds")
    assert run(*words, "--jobs", "2") == 0
    assert (capsys.readouterr(), outcome("seeds")) == (streams, records)
    runs = [read_run(Path("runs/seeds") / f"seed-{seed}") for seed in (4, 5)]
    accuracies = [record["metrics"]["test_accuracy"] for record in runs]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    figures = summary("seeds")["figures"]["test_accuracy"]
    assert figures == {"mean": mean, "standard_deviation": deviation}
    assert f"test accuracy       {mean:.4f} ± {deviation:.4f}\n" in streams.out
    verdicts = re.findall("^verified      runs/seeds(.*?):", printed(capsys, "verify", "seeds"), re.MULTILINE)
    assert verdicts == ["/seed-4", "/seed-5", ""]
    assert run("--seed", "5", "--name", "alone", "--quiet") == 0
    assert read_run(Path("runs/alone"))["fingerprint"] == runs[1]["fingerprint"]


def lie_about_a_mean(content):
    content["figures"]["test_accuracy"]["mean"] = 0.999


def leave_out_the_worst(content):
    content["trials"] = content["trials"][:1] * 2


def replace_a_run(_):
    words = ["--out", "runs/seeds", "--name", "seed-5", "--overwrite", "--quiet"]
    assert run("--seed", "5", "--lr", "0.2", *words) == 0


def change_a_model(_):
    change_record(Path("runs/seeds/seed-5"), fingerprint="0" * 64)


@pytest.fixture(scope="module")
def verified(recorded, tmp_path_factory):
    """A folder with trainings of two seeds."""
    with chdir(shutil.copytree(recorded, tmp_path_factory.mktemp("trials") / "work")):
        assert run("--repeats", "2", "--seed", "4", "--name", "seeds", "--quiet") == 0
        return Path.cwd()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lie_about_a_mean, 'summary.json: test_accuracy: recorded {"mean": 0.999, "standard_deviation": 0.'),
        (leave_out_the_worst, "summary.json: trials: recorded ['seed-4', 'seed-4'], found ['seed-4', 'seed"),
        (replace_a_run, "summary.json: over: recorded 'seeds', but learning_rate differs"),
        (change_a_model, "seed-5: run.json: is not what was recorded"),
    ],
)
def test_a_summary_that_lies_and_a_changed_run_are_found(
    verified, tmp_path, monkeypatch, capsys, lie, message
):
    monkeypatch.chdir(shutil.copytree(verified, tmp_path / "copy"))
    content = summary("seeds")
    lie(content)
    Path("runs/seeds/summary.json").write_text(json.dumps(content))
    assert main(["verify", "seeds", "--quiet"]) == 1
    assert capsys.readouterr().out.startswith(f"differs       {message}")


def test_the_learning_rate_that_validates_best_is_named(capsys):
    assert run("--lr", "0.0001", "0.3", "0.1", "--validation", "100", "--name", "rates") == 0
    content = summary("rates")
    accuracy = {trial["run"]: trial["metrics"]["validation_accuracy"] for trial in content["trials"]}
    assert list(accuracy) == ["lr-0.0001", "lr-0.3", "lr-0.1"]
    assert accuracy[content["best"]["run"]] == max(accuracy.values()) > accuracy["lr-0.0001"]
    assert f"best          {content['best']['run']}: " in capsys.readouterr().out


def statuses(name):
    """The status of each training in a folder, which holds no summary."""
    folder = Path("runs", name)
    assert not (folder / "summary.json").exists()
    return {path.parent.name: read_run(path.parent)["status"] for path in folder.glob("*/run.json")}


@pytest.mark.parametrize(
    ("jobs", "rate", "problem", "code", "status"),
    [
        ("1", "1e+300", "training diverged", 3, "failed"),
        pytest.param(
            *("2", "0.3", "its process ended without a result, with exit code 9", 1, "running"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_training_that_fails_is_named_and_the_others_finish(capsys, jobs, rate, problem, code, status):
    with harmed("dies", f"lr-{rate}"):  # of its own process, if it has one
        words = ("--lr", rate, "0.1", "--validation", "100", "--quiet", "--name", "rates", "--jobs", jobs)
        assert run(*words) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"xpnet: lr-{rate}: {problem}")
    assert statuses("rates") == {f"lr-{rate}": status, "lr-0.1": "completed"}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_bad_input_ends_all_in_one_line(jobs, capsys, monkeypatch):
    refused = 2, "", "xpnet: none.npz: no such file\n"  # by a process of its own
    monkeypatch.setattr(trials.TrialProcesses, "run", lambda *_, **__: refused)
    assert run("--repeats", "2", "--jobs", jobs, "--data", "none.npz", "--quiet") == 2
    assert re.fullmatch("xpnet: none.npz: .*\n", capsys.readouterr().err)
    assert not Path("runs").exists()


def test_after_ctrl_c_no_further_training_begins(monkeypatch):
    begun = []
    monkeypatch.setattr(trials, "run_trial", lambda trial: begun.append(trial.config.seed) or 130)
    assert run("--repeats", "3", "--quiet") == 130
    assert begun == [0]


@pytest.mark.skipif(os.name != "posix", reason="has no masks of signals")
def test_the_signals_of_a_terminal_and_a_batch_system_do_not_reach_the_trainings():
    settings = TrainConfig(data=Path("small.npz"), epochs=5, report=False, quiet=True, name="run")
    trial = trials.Trial(settings, command=[], jobs=1, advise=False)
    with harmed("signals", "run"), ThreadPoolExecutor(1) as thread:  # whose signals are blocked
        assert thread.submit(trials.TrialProcesses(1).run, trial).result()[0] == 0


LONG = ["--data", "small.npz", "--epochs", "1000000", "--log-every", "1", "--no-report", "--name", "long"]
LONG += ["--repeats", "3", "--jobs", "2"]
STREAMS = {"capture_output": True, "text": True, "start_new_session": True}


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "status"), [("Ctrl-C", "interrupted"), ("Ctrl-C twice", "running")])
def test_ctrl_c_interrupts_all_trainings_which_save_what_they_have_and_again_ends_them(keys, status):
    line = [sys.executable, harmed_trial.__file__, keys, "seed-0", "train", *LONG]
    with handled_by(signal.default_int_handler):
        process = subprocess.run(line, check=False, **STREAMS, timeout=50)
    assert (process.returncode, statuses("long")["seed-0"]) == (130, status)
    if status == "interrupted":
        assert process.stderr == ""
        epochs = re.search("^== seed 0.*^interrupted after ([0-9]+).*^== seed 1", process.stdout, re.M | re.S)
        assert int(epochs[1]) >= 2, "it trains on until the other process hands the signal on"
        folder = Path("runs/long/seed-1")
        assert read_run(folder)["fingerprint"] == xpnet.load(folder).fingerprint
        assert (folder / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_sigterm_of_a_job_in_the_background_interrupts_all_trainings(capsys):
    with harmed("SIGTERM", "seed-0"), handled_by(signal.SIG_IGN), handled_by(signal.SIG_DFL, signal.SIGTERM):
        assert train.main(LONG) == 143
    assert capsys.readouterr().err == ""
    assert statuses("long") == {"seed-0": "interrupted", "seed-1": "interrupted"}


@pytest.mark.slow
def test_trainings_do_not_outlive_the_process_that_started_them():
    folders = [Path("runs/long", f"seed-{seed}") for seed in (0, 1)]
    with subprocess.Popen([sys.executable, "-m", "xpnet.train", *LONG, "--quiet"]) as process:
        wait_until(lambda: all((folder / "metrics.jsonl").exists() for folder in folders))
        assert all(is_locked(folder / ".lock") for folder in folders)
        process.kill()
    wait_until(lambda: not any(is_locked(folder / ".lock") for folder in folders))
