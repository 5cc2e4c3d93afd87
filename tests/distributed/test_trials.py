"""Several trainings in an MPI job, each by one of its ranks: the results of one after the other."""

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import harmed_trial
import numpy as np
import pytest
from ctrl_c import handled_by
from mpi_job import mpi
from networks import pixels
from requirements import MPIEXEC
from trial_records import outcome

from xpnet.__main__ import main
from xpnet.cli import trials
from xpnet.distributed.ranks import Ranks, count_sharing
from xpnet.storage.record import read_run

on_ranks = pytest.mark.needs("mpi")
SETTINGS = ["train", "--data", "small.npz", "--batch-size", "20", "--epochs", "5", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 400 + 50 samples, 12 features, 4 classes."""
    x, y = pixels(450, 12, 4)
    np.savez(tmp_path / "small.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    monkeypatch.chdir(tmp_path)


@on_ranks
@pytest.mark.parametrize(
    ("ranks", "several"),
    [
        (2, ["--repeats", "3", "--report"]),
        pytest.param(3, ["--lr", "0.3", "0.1", "--validation", "100", "--no-report"], marks=pytest.mark.slow),
        pytest.param(3, ["--repeats", "4", "--no-report"], marks=pytest.mark.slow),
    ],
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
    rates = ("1e+300", "0.1", "1e+301")
    statuses = [read_run(Path("runs/rates", f"lr-{rate}"))["status"] for rate in rates]
    assert statuses == ["failed", "completed", "failed"]
    assert not Path("runs/rates/summary.json").exists()


@on_ranks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "none.npz"], "xpnet: none.npz: .*\n"),
        (["--jobs", "2"], "xpnet: --jobs: the ranks of an MPI job train side by side: leave it out\n"),
    ],
)
def test_bad_input_ends_all_in_one_line(words, message):
    result = mpi(2, [*SETTINGS, "--repeats", "4", "--quiet", *words])
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(message, result.stderr)
    assert not Path("runs").exists()


LONG = [*SETTINGS, "--repeats", "3", "--name", "long", "--log-every", "1", "--no-report"]


def statuses():
    """The status of each training in the folder that has begun."""
    return {
        path.parent.name: read_run(path.parent)["status"] for path in Path("runs/long").glob("*/run.json")
    }


@on_ranks
@pytest.mark.slow
def test_ctrl_c_interrupts_all_trainings_which_save_what_they_have():
    line = [MPIEXEC, "-n", "2", sys.executable, "-m", "xpnet", *LONG, "--epochs", "1000000"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with handled_by(signal.default_int_handler):
        process = subprocess.Popen(line, start_new_session=True, **streams)
    end = time.monotonic() + 60
    while len([*Path("runs").glob("long/*/metrics.jsonl")]) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # mpiexec sends it to its ranks
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert len(re.findall("^interrupted after .*", out, re.MULTILINE)) == 2
    assert statuses() == {"seed-0": "interrupted", "seed-1": "interrupted"}
    assert all(Path("runs/long", name, "checkpoint.safetensors").exists() for name in statuses())


def harmed_run(harm, seed, *words):
    """Return the completed process of trainings on two ranks, of which one comes to harm."""
    line = [MPIEXEC, "-n", "2", sys.executable, harmed_trial.__file__, harm, f"seed-{seed}", *LONG, *words]
    with handled_by(signal.default_int_handler):
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


@on_ranks
@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_after_ctrl_c_on_one_rank_the_other_ends_its_training_and_none_begins(seed):
    result = harmed_run("SIGINT", seed, "--repeats", "30")
    assert (result.returncode, result.stderr) == (130, "")
    assert statuses() == {"seed-0": "completed", "seed-1": "completed", f"seed-{seed}": "interrupted"}
    assert not Path("runs/long/summary.json").exists()


@on_ranks
@pytest.mark.slow
def test_ctrl_c_again_on_one_rank_ends_all_at_once():
    assert harmed_run("Ctrl-C twice", "0", "--epochs", "1000000").returncode == 130
    assert statuses()["seed-0"] == "running"


@on_ranks
@pytest.mark.slow
def test_a_training_whose_process_is_killed_is_named_and_the_others_finish():
    result = harmed_run("dies", "1", "--quiet")
    problem = "its process ended without a result, with exit code 9"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"xpnet: seed-1: {problem}\n")
    assert statuses() == {"seed-0": "completed", "seed-1": "running", "seed-2": "completed"}


@on_ranks
@pytest.mark.slow
def test_a_rank_that_has_ended_a_training_begins_the_next_one():
    """The first one goes on only when the last one has begun."""
    assert harmed_run("waits", "0").returncode == 0
    assert set(statuses().values()) == {"completed"}


@dataclass(frozen=True)
class Bound(Ranks):
    """Ranks of which each may run on these processors, and that agree on everything else."""

    texts: tuple[str, ...] = ()

    def gather(self, value):
        return [text.split() for text in self.texts] if value else [value] * self.size


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("0 1 2 3", "0 1 2 3", "0 1 2 3", "0 1"), [3, 3, 3, 1]),
        (("0 1", "2 3", "4 5", "0 1"), [1, 1, 1, 1]),
        (("0", "1", "0", "7"), [2, 1, 2, 1]),
    ],
)
def test_ranks_share_the_processors_that_they_may_both_run_on(texts, expected):
    hosts = ("node1", "node1", "node1", "node2")
    assert count_sharing(Bound(size=4, hosts=hosts, texts=texts)) == expected


@pytest.mark.parametrize(("processors", "repeats", "jobs"), [("0 1", 5, 3), ("0 1", 2, 2), ("{}", 5, 1)])
def test_trainings_on_ranks_share_the_processors_too(processors, repeats, jobs, monkeypatch):
    seen = []

    def run_side_by_side(each, _):
        seen.extend(trial.jobs for trial in each)
        return [trials.Outcome(130)]

    ranks = Bound(size=3, hosts=("node1",) * 3, texts=tuple(processors.format(rank) for rank in range(3)))
    monkeypatch.setattr(trials, "connect", lambda: ranks)
    monkeypatch.setattr(trials, "_run_side_by_side", run_side_by_side)
    assert main([*SETTINGS, "--repeats", str(repeats)]) == 130
    assert seen == [jobs] * repeats


def test_a_process_alone_shares_its_processors_with_none():
    assert count_sharing(Ranks()) == [1]
