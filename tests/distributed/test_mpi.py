"""Trainings shared by the ranks of an MPI job give the bits of one process."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_job import mpi
from networks import pixels
from requirements import MPIEXEC

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.record import read_metrics, read_run

pytestmark = [pytest.mark.needs("mpi")]

X, Y = pixels(5000, 12, 4)
QUIET = ["--quiet", "--no-report", "--device", "cpu"]
SETTINGS = {
    "full": ["--epochs", "2"],
    "batches": ["--epochs", "2", "--batch-size", "2100", "--optimizer", "adam", "--lr", "0.01"],
    "small batches": ["--epochs", "1", "--batch-size", "700", "--dropout", "0.2", "--input-dropout", "0.1"],
    "smallest batches": [
        "--epochs",
        "1",
        "--batch-size",
        "57",
        "--hidden",
        "5",
        "4",
        "--class-weight",
        "balanced",
    ],
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
    "input noise": ["--epochs", "1", "--input-noise", "0.3", "--input-dropout", "0.2", "--batch-size", "400"],
    "averaged epochs": ["--epochs", "3", "--average-epochs", "2", "--batch-norm", "--batch-size", "500"],
    "native": ["--epochs", "2", "--arithmetic", "native"],
    "native small batches": ["--epochs", "1", "--arithmetic", "native", "--batch-size", "70"],
    "native in 32 bits": [
        "--epochs=1",
        "--arithmetic=native",
        "--backend=array-api-strict",
        "--device=no_x64",
    ],
    "torch": ["--epochs", "1", "--backend", "torch", "--batch-size", "1700", "--normalize", "standardize"],
    "torch small batches": ["--epochs", "1", "--backend", "torch", "--batch-size", "400"],
    "strict": ["--epochs", "1", "--backend", "array-api-strict", "--batch-size", "1999", "--hidden", "3"],
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
    assert "mpi4py" not in sys.modules
    return folder


def train_words(name, words, out="runs"):
    return ["--data", "data.npz", *QUIET, *words, "--name", name, "--out", out]


def outcome(folder):
    """The results in a record: fingerprint, metrics and history, without times."""
    record, rows = read_run(folder), read_metrics(folder / "metrics.jsonl")
    metrics = {**record["metrics"], "seconds": 0}
    return record["status"], record["fingerprint"], metrics, [{**row, "seconds": 0} for row in rows]


@pytest.mark.parametrize(
    "ranks", [3, *(pytest.param(ranks, marks=pytest.mark.slow) for ranks in (2, 4, 5, 7))]
)
def test_any_number_of_ranks_gives_the_bits_of_one_process(alone, ranks, monkeypatch):
    monkeypatch.chdir(alone)
    out = f"runs-{ranks}"
    chosen = SETTINGS if ranks == 3 else {name: SETTINGS[name] for name in [*SETTINGS][:6]}
    commands = [["train", *train_words(name, words, out)] for name, words in chosen.items()]
    result = mpi(ranks, *commands, harm=("sliced", None, 0) if ranks in (3, 5) else None)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    for name in chosen:
        ours, theirs = outcome(Path(out, name)), outcome(Path("runs", name))
        if name.startswith("native"):
            assert ours[2]["train_loss"] == pytest.approx(theirs[2]["train_loss"], rel=1e-4)
        else:
            assert ours == theirs, name
        (segment,) = read_run(Path(out, name))["segments"]
        assert (segment["ranks"], len(segment["hosts"])) == (ranks, 1)
        assert "MPI" in segment["mpi"].upper()


@pytest.mark.slow
def test_mpi_may_access_the_arrays_of_a_library(alone, monkeypatch):
    monkeypatch.chdir(alone)
    names = ("torch", "torch small batches")
    commands = [["train", *train_words(name, SETTINGS[name], "runs-direct")] for name in names]
    result = mpi(3, *commands, harm=("direct", None, 0))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    for name in names:
        assert outcome(Path("runs-direct", name)) == outcome(Path("runs", name))


@pytest.mark.slow
def test_the_data_are_read_once_on_a_machine(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    rows = [f"{i},{i * i % 7},{'xyz'[i % 3]}\n" for i in range(3000)]
    Path("table.csv").write_text("".join(["a,b,label\n", *rows]))
    table = ["--data", "table.csv", "--test-split", "0.2", "--recipe", "tabular", "--epochs", "2"]
    assert main(["train", *table, *QUIET, "--name", "one", "--out", str(tmp_path)]) == 0
    words = ["train", *table, *QUIET, "--name", "three", "--out", tmp_path]
    assert mpi(3, words, harm=("blind", 1, 0)).returncode == 0
    assert outcome(tmp_path / "three") == outcome(tmp_path / "one")


LONG = ["--data", "data.npz", "--epochs", "9", "--optimizer", "adam", "--batch-size", "1500", "--name", "run"]


@pytest.fixture(scope="module")
def whole(alone):
    """What an uninterrupted training gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(alone)
        assert train.main([*LONG, *QUIET, "--out", "whole"]) == 0
    return outcome(alone / "whole" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "ranks", "then"),
    [
        (("kill", 2, 3), 4, 3),
        (("kill", 0, 5), 3, 1),
        (("kill", 0, 4), 1, 2),
        (("checkpoint", 0, 4), 3, 2),
        (("checkpoint", 0, 1), 2, 4),
    ],
)
def test_a_job_that_loses_a_rank_ends_and_goes_on_with_others(
    alone, whole, harm, ranks, then, monkeypatch, tmp_path
):
    monkeypatch.chdir(alone)
    words = [*LONG, *QUIET, "--out", tmp_path]
    assert mpi(ranks, ["train", *words], harm=harm).returncode != 0
    run = tmp_path / "run"
    assert read_run(run)["status"] == "running"  # as of a killed process
    assert mpi(then, ["train", "--resume", run, "--quiet"]).returncode == 0
    assert outcome(run) == whole
    segments = read_run(run)["segments"]
    assert [segment["ranks"] for segment in segments] == [ranks, then]
    assert harm[2] - 1 <= segments[1]["epoch"] <= harm[2]


@pytest.mark.slow
def test_ranks_do_not_wait_for_a_lost_machine(alone, whole, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    words = [*LONG, *QUIET, "--out", tmp_path]
    result = mpi(3, ["train", *words], harm=("lose", 1, 3))
    assert result.returncode != 0
    here = f"on {platform.node()}: not all ranks have answered for 3 seconds: is a machine lost?"
    assert {line for line in result.stderr.splitlines() if "xpnet" in line} <= {
        f"xpnet: rank 0, {here}",
        f"xpnet: rank 2, {here}",
    }
    assert here in result.stderr
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert outcome(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_job_on_several_machines_ends_by_itself(alone, whole, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    result = mpi(3, ["train", *LONG, *QUIET, "--out", tmp_path], harm=("lose", 1, 99))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert outcome(tmp_path / "run") == whole
    assert len(read_run(tmp_path / "run")["segments"][0]["hosts"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("Ctrl-C", 130), ("SIGTERM", 143)])
def test_a_signal_to_one_rank_saves_what_all_have_trained(alone, whole, name, code, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    words = [*LONG, *QUIET, "--out", tmp_path]
    assert mpi(3, ["train", *words], harm=(name, 1, 3)).returncode == code
    record = read_run(tmp_path / "run")
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 3)
    assert train.main(["--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert outcome(tmp_path / "run") == whole


def test_a_rank_with_other_parameters_ends_the_training_and_is_named(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    result = mpi(3, ["train", *LONG, *QUIET, "--out", tmp_path], harm=("parameters", 1, 2))
    assert result.returncode == 2
    message = "has other parameters after epoch 2: is its memory or processor faulty?"
    assert result.stderr == f"xpnet: {platform.node()}, rank 1: {message}\n"
    assert read_run(tmp_path / "run")["status"] == "failed"


@pytest.mark.slow
def test_bad_input_is_one_line_and_leaves_nothing(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    for words, message in (
        (["--data", "absent.npz"], "xpnet: absent.npz: no such file or folder; --data takes "),
        (["--epochs", "-1"], "xpnet: --epochs: expected a whole number, 0 or more, got -1"),
        (["--data", "data.npz", "--lr", "1e300"], "xpnet: training diverged: the loss is not finite in "),
    ):
        result = mpi(3, ["train", *words, *QUIET, "--out", tmp_path / "runs", "--name", "x"])
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (
            2 + ("lr" in words[-2]),
            "",
            1,
        )
        assert result.stderr.startswith(message)
    assert read_run(tmp_path / "runs" / "x")["status"] == "failed"


@pytest.mark.slow
def test_the_first_rank_alone_prints_and_verification_is_shared_after_trials_too(
    alone, monkeypatch, tmp_path
):
    monkeypatch.chdir(alone)
    words = ["--data", "data.npz", "--epochs", "1", "--device", "cpu", "--out", tmp_path]
    one, verify = ["train", *words, "--name", "one"], ["verify", tmp_path / "one"]
    trials = ["train", *words, "--name", "seeds", "--repeats", "2", "--quiet", "--no-report"]
    result = mpi(2, one, trials, verify)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("epoch     1   loss") == 2  # of the training and of its verification
    assert result.stdout.endswith(
        f"verified      {tmp_path / 'one'}: epoch 1, model and metrics are the same bits\n"
    )
    assert (tmp_path / "one" / "report.html").exists()
    assert main(["verify", str(tmp_path / "seeds" / "seed-1"), "--quiet"]) == 0
    assert len(json.loads((tmp_path / "seeds" / "summary.json").read_text())["trials"]) == 2


def quick_first(values, count):
    """The values as parameters, of which those after the first few are slow."""
    marks = [() if index < count else pytest.mark.slow for index in range(len(values))]
    return [pytest.param(value, marks=mark) for value, mark in zip(values, marks, strict=True)]


@pytest.mark.slow
def test_machines_with_other_data_train_nothing(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    result = mpi(3, ["train", *LONG, *QUIET, "--out", tmp_path / "runs"], harm=("other data", 2, 0))
    here = platform.node()
    start = "xpnet: the data's SHA-256: differs between the ranks: "
    assert re.fullmatch(
        rf"{start}[0-9a-f]{{64}} on rank 0 \({here}\); [0-9a-f]{{64}} on rank 2 \(elsewhere\): .*\n",
        result.stderr,
    )
    assert (result.returncode, result.stdout, (tmp_path / "runs").exists()) == (2, "", False)


DIFFER = {
    "--dropout 0.2": "--dropout: differs between the ranks: 0.0 on rank 0, 2 (HOST); 0.2 on rank 1 (HOST)",
    "--seed 7": "--seed: differs between the ranks: 0 on rank 0, 2 (HOST); 7 on rank 1 (HOST)",
    "--batch-size 64": "--batch-size: differs between the ranks: 1500 on rank 0, 2 (HOST); 64 on rank 1",
    "--resume other": "--resume: differs between the ranks: none on rank 0, 2 (HOST); other on rank 1",
    "--dry-run": "--dry-run: differs between the ranks: false on rank 0, 2 (HOST); true on rank 1 (HOST)",
    "--help": "--help: differs between the ranks: false on rank 0, 2 (HOST); true on rank 1 (HOST)",
    "--repeats 2": "--repeats: differs between the ranks: 1 on rank 0, 2 (HOST); 2 on rank 1 (HOST)",
    "--config old.toml": "--loss: differs between the ranks: cross-entropy on rank 0, 2 (HOST); squared",
    "--bogus": "HOST, rank 1: unrecognized arguments: --bogus",
    "--data other.npz": "--data: differs between the ranks: data.npz on rank 0, 2 (HOST); other.npz on",
}
"""Words that one rank alone is started with, and the line that follows."""


@pytest.mark.slow
def test_ranks_in_other_folders_end_in_one_line(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    line = ["-m", "xpnet.train", *LONG, *QUIET, "--out", str(tmp_path / "runs")]
    result = start_ranks(tmp_path, line, f'[ "$PMI_RANK" = 2 ] && cd {shlex.quote(str(tmp_path))}')
    here = platform.node()
    start = f"xpnet: working folder: differs between the ranks: {alone} on rank 0, 1 ({here}); {tmp_path} on"
    assert (result.returncode, result.stdout, (tmp_path / "runs").exists()) == (2, "", False)
    assert result.stderr.startswith(start)


@pytest.mark.parametrize("words", quick_first(DIFFER, 1))
def test_ranks_that_differ_end_in_one_line_before_anything_is_read(words, alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    Path("old.toml").write_text('loss = "squared-error"\n')
    line = ["-m", "xpnet.train", *LONG, *QUIET, "--out", str(tmp_path / "runs")]
    result = start_ranks(tmp_path, line, f'[ "$PMI_RANK" = 1 ] && set -- "$@" {words}')
    text = DIFFER[words].replace("HOST", platform.node())
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"xpnet: {text}")
    assert not (tmp_path / "runs").exists()


def start_ranks(folder, words, script, ranks=3):
    """Start Python on ranks, each by a shell script that may change its arguments or end."""
    path = folder / "start.sh"
    path.write_text(f'{script}\nexec {shlex.quote(sys.executable)} "$@"\n')
    line = [str(MPIEXEC), "-n", str(ranks), "bash", str(path), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "end", quick_first(["exit 0", "exit 3", "cd / && exec python3 nothing.py", "kill -KILL $$"], 1)
)
def test_a_rank_that_ends_before_it_is_connected_ends_the_job(end, rank, alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    line = ["-m", "xpnet.train", *LONG, *QUIET, "--out", str(tmp_path / "runs")]
    result = start_ranks(tmp_path, line, f'[ "$PMI_RANK" = {rank} ] && {{ {end}; }}')
    assert result.returncode != 0
    if "KILL" not in end:  # which mpiexec sees itself
        assert "1 of the ranks on this machine ended before all were connected" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_rank_that_is_late_is_waited_for(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    patience = "import sys; from xpnet.distributed import launch; launch.PATIENCE = 2; "
    line = [
        "-c",
        f"{patience}from xpnet.train import main; sys.exit(main())",
        *LONG,
        *QUIET,
        "--out",
        str(tmp_path),
    ]
    result = start_ranks(tmp_path, line, '[ "$PMI_RANK" = 1 ] && sleep 8')
    here = f"on {platform.node()}: has waited 2 seconds for other ranks to start, and goes on waiting"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", f"xpnet: rank 0, {here}\n")


@pytest.mark.slow
def test_the_first_lines_name_the_ranks_and_batches_that_are_too_small_to_share(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    line = ["-m", "xpnet.train", "--data", "data.npz", "--epochs", "1", "--no-report", "--out", str(tmp_path)]
    result = start_ranks(tmp_path, [*line, "--batch-size", "64"], "")
    first, *lines = result.stdout.splitlines()
    assert re.fullmatch(r"3 ranks on 1 host \(MPICH \d[\d.]*\)", first)
    assert (
        "every rank computes all of each batch: larger batches, without batch norm, would be shared" in lines
    )
    assert "every rank computes" not in start_ranks(tmp_path, line, "").stdout


@pytest.mark.slow
def test_a_dry_run_prints_once_and_says_how_trainings_are_spread(alone, monkeypatch, tmp_path):
    monkeypatch.chdir(alone)
    line = [
        "-m",
        "xpnet.train",
        "--data",
        "data.npz",
        "--epochs",
        "3",
        "--out",
        str(tmp_path / "runs"),
        "--dry-run",
    ]
    result = start_ranks(tmp_path, line, "")
    assert (result.returncode, result.stderr, result.stdout.count("# time  ")) == (0, "", 1)
    assert "# 3 ranks on 1 host" in result.stdout
    several = start_ranks(tmp_path, [*line, "--repeats", "5"], "")
    assert (
        several.stdout.count(": 5 trainings, 3 at a time, each on one rank, of 3 epochs of 1 step of ") == 1
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_without_mpi4py_a_job_is_refused_in_one_line(rank, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), str(Path(xpnet.__file__).parents[1])])
    environment = {**os.environ, "PMI_RANK": str(rank), "PMI_SIZE": "2", "PYTHONPATH": path}
    words = [sys.executable, "-m", "xpnet.train", "--epochs", "0", "--out", str(tmp_path / "runs")]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    remedy = 'pip install -e ".[mpi]" in the checkout of xpnet'
    message = f"mpiexec has started 2 processes, which need mpi4py (not here): {remedy}\n"
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"xpnet: rank {rank}, on {platform.node()}: {message}"
    assert not (tmp_path / "runs").exists()
