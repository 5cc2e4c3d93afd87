"""Trainings shared by the ranks of an MPI job give the bits of one process."""

from pathlib import Path

import numpy as np
import pytest
from mpi_job import mpi
from networks import pixels

from xpnet import train
from xpnet.storage.record import read_metrics, read_run

pytestmark = [pytest.mark.needs("mpi")]

X, Y = pixels(5000, 12, 4)
QUIET = ["--quiet", "--no-report", "--device", "cpu"]
SETTINGS = {
    "full": ["--epochs", "2"],
    "batches": ["--epochs", "2", "--batch-size", "2100", "--optimizer", "adam", "--lr", "0.01"],
    "small batches": ["--epochs", "1", "--batch-size", "700", "--dropout", "0.2"],
    "batch norm": ["--epochs", "2", "--batch-norm", "--hidden", "6", "5", "--optimizer", "nesterov"],
    "early stopping": [
        "--epochs",
        "9",
        "--patience",
        "1",
        "--validation",
        "1500",
        "--lr",
        "2",
        "--log-every",
        "2",
    ],
    "native": ["--epochs", "2", "--arithmetic", "native"],
    "torch": ["--epochs", "1", "--backend", "torch"],
    "strict": ["--epochs", "1", "--backend", "array-api-strict"],
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with the data, and a run of one process for each of the settings."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez("data.npz", x_train=X[:4000], y_train=Y[:4000], x_test=X[4000:], y_test=Y[4000:])
        for name, words in SETTINGS.items():
            assert train.main(train_words(name, words)) == 0
    return folder


def train_words(name, words, out="runs"):
    return ["--data", "data.npz", *words, *QUIET, "--name", name, "--out", out]


def outcome(folder):
    """The results in a record: fingerprint, metrics and history, without times."""
    record, rows = read_run(folder), read_metrics(folder / "metrics.jsonl")
    metrics = {**record["metrics"], "seconds": 0}
    return record["status"], record["fingerprint"], metrics, [{**row, "seconds": 0} for row in rows]


@pytest.mark.parametrize("ranks", [2, 3, 4, pytest.param(5, marks=pytest.mark.slow), 7])
def test_any_number_of_ranks_gives_the_bits_of_one_process(alone, ranks, monkeypatch):
    monkeypatch.chdir(alone)
    out = f"runs-{ranks}"
    chosen = SETTINGS if ranks == 3 else {name: SETTINGS[name] for name in [*SETTINGS][:5]}
    commands = [["train", *train_words(name, words, out)] for name, words in chosen.items()]
    result = mpi(ranks, *commands)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    for name in chosen:
        ours, theirs = outcome(Path(out, name)), outcome(Path("runs", name))
        if name == "native":
            assert ours[2]["train_loss"] == pytest.approx(theirs[2]["train_loss"], rel=1e-4)
        else:
            assert ours == theirs, name
        (segment,) = read_run(Path(out, name))["segments"]
        assert (segment["ranks"], len(segment["hosts"])) == (ranks, 1)
        assert "MPI" in segment["mpi"].upper()
