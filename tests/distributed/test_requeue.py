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
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from networks import pixels
from requirements import MPIEXEC

from xpnet import train
from xpnet.storage.record import read_metrics, read_run

pytestmark = [pytest.mark.needs("mpi"), pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
SRUN = f"""#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "{MPIEXEC}" -n "$RANKS" "$@"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> requeued
"""
PREEMPTIONS = 2 * int(os.environ.get("XPNET_FUZZ", "1"))
WORDS = [
    "--data",
    "data.npz",
    "--hidden",
    "32",
    "--batch-size",
    "1500",
    "--optimizer",
    "adam",
    "--lr",
    "0.01",
]


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """A folder with the data, the script of the page, and the stand-ins."""
    monkeypatch.chdir(tmp_path)
    x, y = pixels(9000, 64, 4)
    np.savez("data.npz", x_train=x[:8000], y_train=y[:8000], x_test=x[8000:], y_test=y[8000:])
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", PAGE.read_text(), re.DOTALL)
    Path("big.sh").write_text(script)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        Path("bin").mkdir(exist_ok=True)
        Path("bin", name).write_text(text)
        Path("bin", name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{MPIEXEC.parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def submit(words, ranks):
    """Start the script, as sbatch does."""
    line, environment = ["bash", "big.sh", *words], {**os.environ, "RANKS": str(ranks)}
    with Path("log").open("a") as log:
        return subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)


def requeued():
    return Path("requeued").read_text().count("requeue 17\n") if Path("requeued").exists() else 0


def results(folder):
    record, rows = read_run(folder), read_metrics(folder / "metrics.jsonl")
    return record["status"], record["fingerprint"], [{**row, "seconds": 0} for row in rows]


def test_a_job_that_is_preempted_at_random_moments_ends_as_one_that_never_was():
    words = [*WORDS, "--epochs", str(300 * PREEMPTIONS), "--no-report"]
    moments, ranks = random.Random(PREEMPTIONS), cycle((4, 3, 2, 4))  # noqa: S311
    while requeued() < PREEMPTIONS:
        job = submit(words, next(ranks))
        time.sleep(moments.uniform(0.1, 6.0))
        assert job.poll() is None, Path("log").read_text()
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 0, Path("log").read_text()
    before = requeued()
    for _ in range(2):  # the second time it is complete
        assert submit(words, 3).wait(600) == 0, Path("log").read_text()
    assert requeued() == before
    log = Path("log").read_text()
    assert log.endswith("run           runs/big is complete\n")
    assert len(log.splitlines()) < 40 * (before + 1)
    assert len(re.findall(r"^goes on after epoch \d+", log, re.MULTILINE)) > 0
    assert train.main([*words, "--name", "whole", "--quiet"]) == 0
    assert results(Path("runs/big")) == results(Path("runs/whole"))
