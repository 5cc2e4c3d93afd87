"""Several trainings in an MPI job, each by one of its ranks: the results of one after the other."""

import signal
import subprocess
import sys
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
from xpnet.storage.record import read_run

pytestmark = pytest.mark.needs("mpi")
SETTINGS = ["train", "--data", "small.npz", "--batch-size", "20", "--epochs", "5", "--device", "cpu"]
LONG = [*SETTINGS, "--repeats", "3", "--name", "long", "--log-every", "1", "--no-report"]


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 400 + 50 samples, 12 features, 4 classes."""
    x, y = pixels(450, 12, 4)
    np.savez(tmp_path / "small.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    monkeypatch.chdir(tmp_path)


def test_records_and_output_are_those_of_one_after_the_other(capsys):
    words = [*SETTINGS, "--repeats", "3", "--no-report", "--name", "same", "--overwrite"]
    assert main(words) == 0
    printed, expected = capsys.readouterr(), outcome("same")
    result = mpi(2, words)
    assert (result.returncode, result.stdout, result.stderr) == (0, *printed)
    assert outcome("same") == expected
    for folder in Path("runs/same").glob("*/run.json"):
        (segment,) = read_run(folder.parent)["segments"]
        assert (segment["ranks"], len(segment["hosts"]), segment["mpi"]) == (1, 1, None)


HARM = {
    "SIGINT": ("seed-1", ["--repeats", "30"], 130, ["completed", "interrupted"]),  # and none begins
    "Ctrl-C twice": ("seed-0", ["--epochs", "1000000"], 130, ["running"]),
    "dies": ("seed-1", ["--quiet"], 1, ["completed", "running", "completed"]),
    "waits": ("seed-0", [], 0, ["completed"] * 3),  # it goes on only when the last one has begun
}
"""What happens to the training of a seed, further words, the exit code, and what becomes of each seed."""


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARM)
def test_when_a_training_comes_to_harm_the_others_end_as_they_should(harm):
    name, words, code, expected = HARM[harm]
    line = [MPIEXEC, "-n", "2", sys.executable, harmed_trial.__file__, harm, name, *LONG, *words]
    with handled_by(signal.default_int_handler):
        result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == code
    ended = [read_run(path.parent)["status"] for path in sorted(Path("runs/long").glob("*/run.json"))]
    assert ended[: len(expected)] == expected
    if harm == "SIGINT":
        assert len(ended) == 2
    if harm == "dies":
        problem = "its process ended without a result, with exit code 9"
        assert (result.stdout, result.stderr) == ("", f"xpnet: seed-1: {problem}\n")
    assert Path("runs/long/summary.json").exists() == (code == 0)
