"""Trainings shared by the ranks of an MPI job give the bits of one process."""

import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from ctrl_c import interrupted
from folders import tree
from harmed_trial import wait_until
from mpi_job import mpi
from networks import pixels
from requirements import MPIEXEC

from xpnet.__main__ import main
from xpnet.storage.record import read_metrics, read_run

pytestmark = [pytest.mark.needs("mpi")]

HOST = platform.node()
SETTINGS = {
    "full": "--epochs 2 --hidden 6 5 --optimizer nesterov --validation 1200 --best-by balanced-accuracy",
    "everything": "--epochs 2 --hidden 200 165 --batch-size 1024 --dropout 0.2 --input-dropout 0.1 --lr 0.01 "
    "--input-noise 0.3 --normalize standardize --average-epochs 2 --optimizer adam --class-weight balanced",
    "batch-norm": "--epochs 2 --batch-norm --batch-size 2100",
    "native": "--epochs 2 --arithmetic native --batch-size 1024 --hidden 360 300",
    "long": "--epochs 9 --optimizer adam --batch-size 1500",
}
NIGHTLY = pytest.mark.slow, pytest.mark.nightly


def words(name, out):
    """The command that trains with the settings of a name, in a folder `out`."""
    line = f"train --data data.npz --quiet --no-report --device cpu --name {name} {SETTINGS[name]}"
    return [*line.split(), "--out", str(out)]


def outcome(folder):
    """The results in a record: fingerprint, metrics and history, without times."""
    record, rows = read_run(folder), read_metrics(folder / "metrics.jsonl")
    metrics = {**record["metrics"], "seconds": 0}
    return record["status"], record["fingerprint"], metrics, [{**row, "seconds": 0} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A function that returns the outcome of one process; tests are in the folder with the data."""
    x, y = pixels(5000, 12, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("alone"))
        np.savez("data.npz", x_train=x[:4000], y_train=y[:4000], x_test=x[4000:], y_test=y[4000:])

        @cache
        def train_alone(name):
            assert main(words(name, "alone")) == 0
            assert "mpi4py" not in sys.modules
            return outcome(Path("alone", name))

        yield train_alone


JOBS = [
    (3, None, ["full", "everything", "batch-norm", "native"]),
    pytest.param(3, "direct", ["full"], marks=[*NIGHTLY, pytest.mark.needs("emulated-cuda")]),
    pytest.param(4, "elsewhere", ["everything"], marks=NIGHTLY),
]


@pytest.mark.parametrize(("ranks", "how", "names"), JOBS)
def test_any_number_of_ranks_gives_the_bits_of_one_process(alone, ranks, how, names, tmp_path):
    on_gpu = how == "direct"  # whose memory MPI may access
    place = ["--backend", "cupy", "--device", "cuda"] * on_gpu
    result = mpi(ranks, *([*words(name, tmp_path), *place] for name in names), harm=how and (how, 1, 0))
    warning = f"xpnet: warning: {HOST}: 3 ranks share 1 GPU\n" * on_gpu
    assert (result.returncode, result.stdout, result.stderr) == (0, "", warning)
    for name in names:
        ours, theirs = outcome(tmp_path / name), alone(name)
        if name.startswith("native"):
            assert ours[2]["train_loss"] == pytest.approx(theirs[2]["train_loss"], rel=1e-4)
        else:
            assert ours == theirs, name
        (segment,) = read_run(tmp_path / name)["segments"]
        assert (segment["ranks"], len(segment["hosts"])) == (ranks, 2 if how == "elsewhere" else 1)
        assert len(segment["places"]) == ranks
        assert "MPI" in segment["mpi"].upper()


@pytest.mark.slow
def test_a_job_that_loses_a_rank_ends_and_goes_on_with_others(alone, tmp_path):
    assert mpi(4, words("long", tmp_path), harm=("SIGKILL", 2, 3)).returncode != 0
    assert read_run(tmp_path / "long")["status"] == "running"  # as of a killed process
    assert mpi(3, ["train", "--resume", tmp_path / "long", "--quiet"]).returncode == 0
    assert outcome(tmp_path / "long") == alone("long")


SAID = r"^xpnet: rank (\d) on \S+ has been in step 5 for \d+ s: the others wait, and the job ends(.*)\n"
"""On a busy machine, other ranks may be named beside the one that hangs."""


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["locked", pytest.param("stopped", marks=NIGHTLY)])  # the first answers
def test_a_rank_that_hangs_is_named_and_ends_the_job(alone, harm, tmp_path):
    result = mpi(2, words("long", tmp_path), harm=(harm, 1, 5), XPNET_RANK_TIMEOUT="10")
    warning, *_, end = [end for rank, end in re.findall(SAID, result.stderr, re.MULTILINE) if rank == "1"]
    assert re.fullmatch(r" after \d+ s", warning)
    assert (end, result.returncode != 0) == ("", True)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_slow_rank_is_named_once(alone, tmp_path):
    line = [*words("long", tmp_path), "--epochs", "40"]
    text = mpi(3, line, harm=("slow", 1, 0.1), XPNET_RANK_TIMEOUT="10").stderr
    assert re.findall(r"warning: rank (\d) on \S+ is slow: it takes [\d.]+ ms a block", text) == ["1"]


BOTH = "rank 0; HOST, rank 1: one of them"
WRONG = [
    ("halves", 4, 3, 1, "--class-weight balanced --batch-size full", "rank 3"),  # from the first step on
    ("halves updates", 3, 1, 10, "--batch-size 2600", "rank 1"),
    pytest.param("halves", 2, 0, 10, "--class-weight balanced --batch-size 1500", BOTH, marks=NIGHTLY),
]
"""What is wrong, the number of ranks, the wrong one, from which step on, settings, and who is named."""


@pytest.mark.slow
@pytest.mark.parametrize(("what", "ranks", "wrong", "begin", "settings", "named"), WRONG)
def test_a_rank_with_wrong_gradients_or_updates_is_named(
    alone, what, ranks, wrong, begin, settings, named, tmp_path
):
    line = [*words("full", tmp_path), "--epochs", "99", "--optimizer", "sgd", *settings.split()]
    result = mpi(ranks, line, harm=(what, wrong, begin))
    problem = r"has (computed a wrong gradient or update in step (\d+)|other parameters after epoch 1)"
    found = re.match(f"xpnet: {HOST}, {named.replace('HOST', HOST)}:? {problem}", result.stderr)
    assert (result.returncode, found is not None) == (2, True), result.stderr
    assert int(found[2] or 0) <= 100


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=NIGHTLY)])
def test_a_signal_to_one_rank_saves_what_all_have_trained(alone, name, code, tmp_path):
    assert mpi(3, words("long", tmp_path), harm=(name, 1, 3)).returncode == code
    record = read_run(tmp_path / "long")
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 3)
    assert main(["train", "--resume", str(tmp_path / "long"), "--quiet"]) == 0
    assert outcome(tmp_path / "long") == alone("long")


POINTS = (2, "import mpi4py"), (2, "import xpnet.cli.train"), (0, "open data.npz"), (0, "os.mkdir runs")
"""Before the ranks are connected and once they are, while data are read and the folder of the run is made."""
ALONE_AT = [
    (
        ("MemoryError", 1, "import xpnet.cli.train"),
        2,
        "the memory does not suffice (no details): a smaller network",
    ),
    *(pytest.param(("SIGTERM", *at), 143, None, marks=NIGHTLY) for at in POINTS),
]
"""What ends one rank, the exit code of all, and what is said of the one that has come to harm."""


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "code", "text"), ALONE_AT)
def test_whatever_ends_one_rank_alone_ends_all(alone, harm, code, text, tmp_path):
    result = mpi(3, words("long", tmp_path / "runs"), harm=harm)
    said = [line for line in result.stderr.splitlines() if "xpnet" in line]
    start = f"xpnet: rank {harm[1]}, on {HOST}: {text}"
    assert (result.returncode, [line[: len(start)] for line in said]) == (code, [start] if text else [])


@pytest.mark.slow
def test_what_needs_no_ranks_ends_all_with_one_line(alone, tmp_path):
    result = start_ranks(tmp_path, ["-m", "xpnet", "runs"])
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("xpnet: xpnet runs: mpiexec has started 3 processes, and one does")


@pytest.mark.slow
def test_a_rank_that_sees_other_files_of_a_run_is_named_before_the_first_step(alone, tmp_path, monkeypatch):
    line = [*words("long", "runs"), "--data", str(Path("data.npz").absolute())]
    monkeypatch.chdir(tmp_path)
    interrupted(3, line[1:])
    interrupted(2, [*line[1:], "--out", "elsewhere"])
    before = tree(tmp_path)
    result = mpi(3, ["train", "--resume", "runs/long", "--quiet"], harm=("other files", 2, 0))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert re.match("xpnet: .*differs between the ranks: ", result.stderr)
    assert {**before, **tree(tmp_path)} == before


def start_ranks(folder, line, script=""):
    """Start Python on three ranks, each by a shell script that may change its arguments or end."""
    path = folder / "start.sh"
    path.write_text(f'{script}\nexec {shlex.quote(sys.executable)} "$@"\n')
    command = [str(MPIEXEC), "-n", "3", "bash", str(path), *line]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


DIFFER = [
    ('set -- "$@" --bogus', "HOST, rank 1: unrecognized arguments: --bogus"),
    ("exit 0", "rank 0, on HOST: 1 of the ranks on this machine ended before all were connected"),
]
"""What one rank alone does before it starts, and a line that follows."""


@pytest.mark.slow
@pytest.mark.parametrize(("script", "message"), DIFFER)
def test_ranks_that_differ_or_end_are_said_before_anything_is_read(alone, script, message, tmp_path):
    line = ["-m", "xpnet", *words("long", tmp_path / "runs")]
    result = start_ranks(tmp_path, line, f'[ "$PMI_RANK" = 1 ] && {{ {script}; }}')
    assert (result.returncode != 0, result.stdout) == (True, "")
    assert f"xpnet: {message.replace('HOST', HOST)}" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_first_rank_alone_prints(alone, tmp_path):
    """What it prints of a training, and of its verification."""
    name = str(tmp_path / "one")
    train = f"train --data data.npz --epochs 1 --device cpu --batch-size 64 --out {tmp_path} --name one"
    code = f"from xpnet.__main__ import main; assert main({train.split()}) == main(['verify', {name!r}]) == 0"
    result = start_ranks(tmp_path, ["-c", code])
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(r"3 ranks on 1 host \(MPICH \d[\d.]*\)\n", result.stdout)
    verified = f"verified      {name}: epoch 1, model and metrics are the same bits\n"
    assert [result.stdout.count(text) for text in ("epoch     1   loss", verified)] == [2, 1]
    line = ["-m", "xpnet", *words("full", tmp_path), "--dry-run", "--batch-size", "full"]
    dry = start_ranks(tmp_path, line)
    # Of 137 parameters it sends the sums of others' slices, and its own slice, 4 of the first 6 rows, to two.
    said = f"\n# sent          {8 * (137 - 48 + 2 * 48) / 1e6:.3g} MB of each step by the first rank\n"
    assert (dry.returncode, dry.stdout.count(said)) == (0, 1)


# A batch job that is preempted, and queued again: bash runs the script of docs/scaling.md, with stand-ins for
# what Slurm provides: srun starts ranks with mpiexec and passes signals on, scontrol requeue makes a note


def submit(words, ranks):
    """Start the script, as sbatch does."""
    line, environment = ["bash", "big.sh", *words], {**os.environ, "RANKS": str(ranks)}
    with Path("log").open("a") as log:
        return subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_job_that_is_preempted_ends_as_one_that_never_was(alone, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "scaling.md").read_text()
    Path("big.sh").write_text(*re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", page, re.DOTALL))
    srun = f'while [[ $1 == --* ]]; do shift; done\nexec "{MPIEXEC}" -n "$RANKS" "$@"\n'
    for name, text in {"srun": srun, "scontrol": 'echo "$@" >> requeued\n'}.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{MPIEXEC.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    line = f"--data data.npz {SETTINGS['long']} --epochs 300 --log-every 1 --no-report"
    words = line.split()
    history, log = Path("runs/big/metrics.jsonl"), Path("log")
    job = submit(words, 3)
    wait_until(lambda: history.exists() and len(read_metrics(history)) > 3)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 0, log.read_text()
    assert Path("requeued").read_text() == "requeue 17\n"
    for _ in range(2):  # the second time it is complete
        assert submit(words, 2).wait(600) == 0, log.read_text()
    assert re.search(r"^goes on after epoch \d+", log.read_text(), re.MULTILINE)
    assert log.read_text().endswith("run           runs/big is complete\n")
    assert main(["train", *words, "--name", "whole", "--quiet"]) == 0
    assert outcome(Path("runs/big")) == outcome(Path("runs/whole"))
