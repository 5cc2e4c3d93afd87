"""Several seeds or learning rates: a run each, and a summary."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harmed_trial
import pytest
from commands import complaint, printed
from ctrl_c import handled_by
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
    settings = ["--data", "small.npz", "--batch-size", "40", "--epochs", "3", "--no-report"]
    return train.main([*settings, *words])


@pytest.mark.slow
def test_seeds_are_trained_in_turn_or_side_by_side_with_the_same_results(capsys, monkeypatch):
    words = ("--repeats", "2", "--seed", "4", "--name", "seeds", "--overwrite")
    with monkeypatch.context() as patch:
        patch.delattr(trials, "Popen")
        assert run(*words) == 0
    streams, records = capsys.readouterr(), outcome("seeds")
    assert run(*words, "--jobs", "2") == 0
    assert (capsys.readouterr(), outcome("seeds")) == (streams, records)
    accuracies = [trial["metrics"]["test_accuracy"] for trial in summary("seeds")["trials"]]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    figures = summary("seeds")["figures"]["test_accuracy"]
    assert figures == {"mean": mean, "standard_deviation": deviation}
    assert f"test accuracy       {mean:.4f} ± {deviation:.4f}\n" in streams.out
    verdicts = re.findall("^verified      runs/seeds(.*?):", printed(capsys, "verify", "seeds"), re.MULTILINE)
    assert verdicts == ["/seed-4", "/seed-5", ""]
    assert run("--seed", "5", "--name", "alone", "--quiet") == 0
    alone = read_run(Path("runs/alone"))["fingerprint"]
    assert alone == read_run(Path("runs/seeds/seed-5"))["fingerprint"]


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda content: content["figures"]["test_accuracy"].update(mean=0.9), "test_accuracy: recorded {"),
        (lambda content: content["trials"].pop(), "trials: recorded ['seed-0', 'seed-1'], found ["),
        (lambda _: run("--lr", "2", "--out", "runs/all", "--name", "seed-1", "--overwrite"), "over: reco"),
    ],
)
def test_a_summary_that_lies_is_found(capsys, lie, message):
    assert run("--repeats", "3", "--name", "all", "--quiet") == 0
    content = summary("all")
    lie(content)
    Path("runs/all/summary.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["verify", "all", "--quiet"]) == 1
    assert capsys.readouterr().out.startswith(f"differs       summary.json: {message}")


def statuses(name):
    folder = Path("runs", name)
    assert not (folder / "summary.json").exists()
    return {path.parent.name: read_run(path.parent)["status"] for path in folder.glob("*/run.json")}


@pytest.mark.parametrize(
    ("jobs", "rate", "problem", "code", "status"),
    [
        ("1", "1e+300", "training diverged", 3, "failed"),
        pytest.param("2", "0.3", "its process ended without a", 1, "running", marks=pytest.mark.slow),
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
    words = ("--data", "none.npz", "--repeats", "2", "--jobs", jobs, "--quiet")
    assert complaint(capsys, "train", *words).startswith("none.npz: ")
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


LONG = """--data small.npz --epochs 1000000 --log-every 1
--no-report --name long --repeats 3 --jobs 2""".split()  # noqa: SIM905 - as typed
BOTH = [Path("runs/long", f"seed-{seed}") for seed in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "status"),
    [("Ctrl-C", 130, "interrupted"), ("Ctrl-C twice", 130, "running"), ("SIGTERM", 143, "interrupted")],
)
def test_a_signal_interrupts_all_trainings_which_save_what_they_have_and_again_ends_them(sent, code, status):
    line = [sys.executable, harmed_trial.__file__, sent, "seed-0", "train", *LONG]
    with handled_by(signal.default_int_handler), handled_by(signal.SIG_DFL, signal.SIGTERM):
        process = subprocess.run(line, check=False, capture_output=True, start_new_session=True, timeout=50)
    assert (process.returncode, statuses("long")["seed-0"]) == (code, status)
    if status == "interrupted":
        epochs = re.search(rb"== seed 0.*interrupted after (\d+).*== seed 1", process.stdout, re.DOTALL)
        assert int(epochs[1]) >= 2, "it trains on until the other process hands the signal on"
        assert read_run(BOTH[1])["fingerprint"] == xpnet.load(BOTH[1]).fingerprint


@pytest.mark.slow
def test_trainings_do_not_outlive_the_process_that_started_them():
    with subprocess.Popen([sys.executable, "-m", "xpnet.train", *LONG, "--quiet"]) as process:
        wait_until(lambda: all((folder / "metrics.jsonl").exists() for folder in BOTH))
        assert all(is_locked(folder / ".lock") for folder in BOTH)
        process.kill()
    wait_until(lambda: not any(is_locked(folder / ".lock") for folder in BOTH))
