"""A batch job that is preempted, and queued again, ends as if it had never been stopped.

The script of docs/scaling.md is run by bash, with stand-ins for what Slurm provides: ``srun`` starts ranks
with mpiexec and passes signals on, ``scontrol requeue`` makes a note. ``XPNET_FUZZ=10`` preempts ten times as
often.
"""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from networks import pixels
from requirements import MPIEXEC

from xpnet import train
from xpnet.storage.record import read_metrics, read_run

pytestmark = [pytest.mark.needs("mpi"), pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
PROGRAMS = {
    "srun": f'while [[ $1 == --* ]]; do shift; done\nexec "{MPIEXEC}" -n "$RANKS" "$@"\n',
    "scontrol": 'echo "$@" >> requeued\n',
}
PREEMPTIONS = 2 * int(os.environ.get("XPNET_FUZZ", "1"))
WORDS = "--data data.npz --batch-size 1500 --optimizer adam --log-every 1 --no-report".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """A folder with the data, the script of the page, and the stand-ins."""
    monkeypatch.chdir(tmp_path)
    x, y = pixels(3300, 64, 4)
    np.savez("data.npz", x_train=x[:3000], y_train=y[:3000], x_test=x[3000:], y_test=y[3000:])
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", PAGE.read_text(), re.DOTALL)
    Path("big.sh").write_text(script)
    Path("bin").mkdir()
    for name, text in PROGRAMS.items():
        Path("bin", name).write_text(f"#!/bin/bash\n{text}")
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{MPIEXEC.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def submit(words, ranks):
    """Start the script, as sbatch does."""
    line, environment = ["bash", "big.sh", *words], {**os.environ, "RANKS": str(ranks)}
    with Path("log").open("a") as log:
        return subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)


def trained_epochs():
    path = Path("runs/big/metrics.jsonl")
    return len(read_metrics(path)) if path.exists() else 0


def results(folder):
    record, rows = read_run(folder), read_metrics(folder / "metrics.jsonl")
    return record["status"], record["fingerprint"], [{**row, "seconds": 0} for row in rows]


def test_a_job_that_is_preempted_at_random_moments_ends_as_one_that_never_was():
    words = [*WORDS, "--epochs", str(150 * PREEMPTIONS)]
    moments = random.Random(PREEMPTIONS)  # noqa: S311
    for number in range(PREEMPTIONS):
        job = submit(words, (3, 2, 4)[number % 3])
        least = trained_epochs() + moments.randrange(5)
        while number and trained_epochs() <= least:  # the first may end before the first epoch
            assert job.poll() is None, Path("log").read_text()
            time.sleep(0.01)
        time.sleep(moments.uniform(0.1, 0.3 if number else 3.0))
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 0, Path("log").read_text()
        assert Path("requeued").read_text() == "requeue 17\n" * (number + 1)
    for _ in range(2):  # the second time it is complete
        assert submit(words, 3).wait(600) == 0, Path("log").read_text()
    assert Path("requeued").read_text().count("requeue 17\n") == PREEMPTIONS
    log = Path("log").read_text()
    assert log.endswith("run           runs/big is complete\n")
    assert len(re.findall(r"^goes on after epoch \d+", log, re.MULTILINE)) > 0
    assert train.main([*words, "--name", "whole", "--quiet"]) == 0
    assert results(Path("runs/big")) == results(Path("runs/whole"))
