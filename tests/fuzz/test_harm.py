"""A training that is killed at any moment goes on to the same bits; simulated disks are in tests/distributed.

XPNET_FUZZ=10 in the environment kills 80 trainings instead of 8.
"""

import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from networks import pixels

from xpnet import train
from xpnet.storage import find
from xpnet.storage.find import survey
from xpnet.storage.record import read_metrics, read_run

pytestmark = pytest.mark.slow

KILLED = 2 * int(os.environ.get("XPNET_FUZZ", "1"))
WORDS = """--data small.npz --backend numpy --workers 1 --quiet --no-report --hidden 8 --batch-size 16
--epochs 12 --log-every 1 --name mine"""
SETTINGS = {
    "adam": "--optimizer adam --batch-norm --schedule cosine --keep-checkpoint-every 2",
    "dropout": "--dropout 0.3 --optimizer momentum --augment-shift 1",
    "averaged epochs": "--average-epochs 9 --batch-norm",
    "early stopping": "--validation 20 --patience 12",
}
RUN, WHOLE = Path("runs/mine"), Path("whole/mine")


def outcome(folder):
    """What must not depend on the harm."""
    record = read_run(folder)
    rows = [{**row, "seconds": 0} for row in read_metrics(folder / "metrics.jsonl")]
    return record["status"], record["fingerprint"], rows, {**record["metrics"], "seconds": 0}


def kill_after(seconds, words):
    """Train in a process of its own, and kill it after a time; return False if it had ended before."""
    with warnings.catch_warnings(action="ignore"):  # of threads of other tests
        pid = os.fork()
    if pid == 0:
        try:
            train.main(words)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_training_goes_on_to_the_same_bits(name, monkeypatch):
    monkeypatch.setattr(find, "LOCK_GRACE", 0.0)
    x, y = pixels(150, 9, 3)
    np.savez("small.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    words = f"{WORDS} {SETTINGS[name]}".split()
    rng, start = random.Random(name), time.perf_counter()  # noqa: S311
    assert train.main([*words, "--out", "whole"]) == 0
    duration = time.perf_counter() - start
    for _ in range(KILLED):
        while not kill_after(rng.uniform(0, duration), words) or not RUN.exists():
            shutil.rmtree("runs", ignore_errors=True)
        if read_run(RUN)["status"] != "completed":
            assert [each.status for each in survey(Path("runs")).runs] == ["killed"]
            assert train.main(["--resume", str(RUN), "--quiet"]) == 0
        assert outcome(RUN) == outcome(WHOLE)
        shutil.rmtree("runs")
