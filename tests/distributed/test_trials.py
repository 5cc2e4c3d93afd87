"""Several trainings in an MPI job, each by one of its ranks: the results of one after the other."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import harmed_trial
import numpy as np
import pytest
from ctrl_c import handled_by
from harmed_trial import wait_until
from mpi_job import mpi
from networks import pixels
from requirements import MPIEXEC
from trial_records import outcome

from xpnet.__main__ import main
from xpnet.cli import trials
from xpnet.distributed.ranks import Ranks
from xpnet.storage.record import read_run

on_ranks = pytest.mark.needs("mpi")
SETTINGS = ["train", "--data", "small.npz", "--batch-size", "20", "--epochs", "5", "--device", "cpu"]
LONG = [*SETTINGS, "--repeats", "3", "--name", "long", "--log-every", "1", "--no-report"]


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 400 + 50 samples, 12 features, 4 classes."""
    x, y = pixels(450, 12, 4)
    np.savez(tmp_path / "small.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    monkeypatch.chdir(tmp_path)


def statuses(name="long"):
    """The status of each training in a folder that has begun."""
    folders = [path.parent for path in Path("runs", name).glob("*/run.json")]
    return {folder.name: read_run(folder)["status"] for folder in folders}


RATES = ["--lr", "0.3", "0.1", "--validation", "100", "--no-report"]


@on_ranks
@pytest.mark.parametrize(
    ("ranks", "several"),
    [(2, ["--repeats", "3", "--no-report"]), pytest.param(3, [*RATES, "--report"], marks=pytest.mark.slow)],
)
def test_records_and_output_are_those_of_one_after_the_other(ranks, several, capsys):
    words = [*SETTINGS, *several, "--name", "same", "--overwrite"]
    assert main(words) == 0
    printed, expected = capsys.readouterr(), outcome("same")
    result = mpi(ranks, words)
    assert (result.returncode, result.stdout, result.stderr) == (0, *printed)
    assert outcome("same") == expected
    for folder in Path("runs/same").glob("*/run.json"):
        (segment,) = read_run(folder.parent)["segments"]
        assert (segment["ranks"], len(segment["hosts"]), segment["mpi"]) == (1, 1, None)


@on_ranks
@pytest.mark.slow
def test_a_training_that_fails_is_named_and_the_others_finish():
    words = ["--lr", "1e300", "0.1", "1e301", "--validation", "100", "--quiet", "--no-report"]
    result = mpi(2, [*SETTINGS, *words, "--name", "rates"])
    assert (result.returncode, result.stdout) == (3, "")
    assert [line.partition(": the ")[0] for line in result.stderr.splitlines()] == [
        "xpnet: lr-1e+300: training diverged",
        "xpnet: lr-1e+301: training diverged",
    ]
    assert statuses("rates") == {"lr-1e+300": "failed", "lr-0.1": "completed", "lr-1e+301": "failed"}
    assert not Path("runs/rates/summary.json").exists()


@on_ranks
@pytest.mark.slow
def test_ctrl_c_interrupts_all_trainings_which_save_what_they_have():
    line = [MPIEXEC, "-n", "2", sys.executable, "-m", "xpnet", *LONG, "--epochs", "1000000"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with handled_by(signal.default_int_handler):
        process = subprocess.Popen(line, start_new_session=True, **streams)
    wait_until(lambda: len([*Path("runs").glob("long/*/metrics.jsonl")]) == 2)
    process.send_signal(signal.SIGINT)  # mpiexec sends it to its ranks
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert len(re.findall("^interrupted after .*", out, re.MULTILINE)) == 2
    assert statuses() == {"seed-0": "interrupted", "seed-1": "interrupted"}
    assert all(Path("runs/long", name, "checkpoint.safetensors").exists() for name in statuses())


HARM = {
    "SIGINT": ("seed-1", ["--repeats", "30"], 130, ["completed", "interrupted"]),  # and none begins
    "Ctrl-C twice": ("seed-0", ["--epochs", "1000000"], 130, ["running"]),
    "dies": ("seed-1", ["--quiet"], 1, ["completed", "running", "completed"]),
    "waits": ("seed-0", [], 0, ["completed"] * 3),  # it goes on only when the last one has begun
}
"""What happens to the training of a seed, further words, the exit code, and what becomes of each seed."""


@on_ranks
@pytest.mark.slow
@pytest.mark.parametrize("harm", HARM)
def test_when_a_training_comes_to_harm_the_others_end_as_they_should(harm):
    name, words, code, expected = HARM[harm]
    line = [MPIEXEC, "-n", "2", sys.executable, harmed_trial.__file__, harm, name, *LONG, *words]
    with handled_by(signal.default_int_handler):
        result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == code
    ended = [status for _, status in sorted(statuses().items())]
    assert ended[: len(expected)] == expected
    if harm == "SIGINT":
        assert len(ended) == 2
    if harm == "dies":
        problem = "its process ended without a result, with exit code 9"
        assert (result.stdout, result.stderr) == ("", f"xpnet: seed-1: {problem}\n")
    assert Path("runs/long/summary.json").exists() == (code == 0)


@pytest.mark.parametrize(("sharing", "repeats", "jobs"), [(3, 5, 3), (3, 2, 2), (1, 5, 1)])
def test_trainings_on_ranks_share_the_processors_too(sharing, repeats, jobs, monkeypatch):
    seen = []

    def run_side_by_side(each, _):
        seen.extend(trial.jobs for trial in each)
        return [trials.Outcome(130)]

    monkeypatch.setattr(trials, "connect", lambda: Ranks(size=3, hosts=("a",) * 3))
    monkeypatch.setattr(trials, "count_sharing", lambda ranks: [sharing] * ranks.size)
    monkeypatch.setattr(trials, "_run_side_by_side", run_side_by_side)
    assert main([*SETTINGS, "--repeats", str(repeats)]) == 130
    assert seen == [jobs] * repeats
