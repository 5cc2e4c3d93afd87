"""A training that is killed at any moment, or whose disk fails at any write, sync or rename: nothing is lost.

XPNET_FUZZ=10 in the environment kills 80 trainings instead of 8.
"""

import errno
import itertools
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
WORDS = ["--data", "small.npz", "--backend", "numpy", "--workers", "1", "--quiet", "--no-report"]
SETTINGS = {
    "adam": "--optimizer adam --batch-norm --schedule cosine --keep-checkpoint-every 2",
    "dropout": "--dropout 0.3 --optimizer momentum --augment-shift 1",
    "averaged epochs": "--average-epochs 9 --batch-norm",
    "early stopping": "--validation 20 --patience 12",
}
RUN = Path("runs/mine")


@pytest.fixture(autouse=True)
def small_data(tmp_path, monkeypatch):
    """Work in an empty folder that holds small.npz: 120 + 30 samples, 9 features, 3 classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "LOCK_GRACE", 0.0)
    x, y = pixels(150, 9, 3)
    np.savez("small.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])


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
@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_training_goes_on_to_the_same_bits(name):
    words = [*WORDS, *SETTINGS[name].split(), "--hidden", "8", "--epochs", "12", "--batch-size", "16"]
    words += ["--log-every", "1", "--name", "mine"]
    rng, start = random.Random(name), time.perf_counter()  # noqa: S311
    assert train.main([*words, "--out", "whole"]) == 0
    duration = time.perf_counter() - start
    for _ in range(KILLED):
        while not kill_after(rng.uniform(0, duration), words) or not RUN.exists():
            shutil.rmtree("runs", ignore_errors=True)
        if read_run(RUN)["status"] != "completed":
            assert [each.status for each in survey(Path("runs")).runs] == ["killed"]
            assert train.main(["--resume", str(RUN), "--quiet"]) == 0
        assert outcome(RUN) == outcome(Path("whole/mine"))
        shutil.rmtree("runs")


class Disk:
    """Fails at a step counted from 1, in the middle of writing if it is a write; or from that step on."""

    def __init__(self, patch, fails_at, lasting):
        self.steps, self.fails_at, self.lasting = itertools.count(1), fails_at, lasting
        self.failed, opened = False, Path.open
        for name in ("fsync", "replace", "rename"):
            patch.setattr(os, name, self.failing(getattr(os, name)))

        def open_failing(path, mode="r", *arguments, **options):
            file = opened(path, mode, *arguments, **options)
            if mode in ("ab", "xb", "wb"):
                write = file.write
                file.write = self.failing(write, lambda data: write(data[: len(data) // 2]))
            return file

        patch.setattr(Path, "open", open_failing)

    def failing(self, function, begin=lambda *_: None):
        def call(*arguments):
            step = next(self.steps)
            if step == self.fails_at or (self.lasting and step > self.fails_at):
                self.failed = True
                begin(*arguments)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments)

        return call


@pytest.mark.parametrize(("replaced", "lasting"), [(False, False), (True, False), (True, True)])
def test_after_any_failure_of_the_disk_the_record_is_whole_and_the_run_goes_on(capsys, replaced, lasting):
    words = [*WORDS, "--hidden", "4", "--batch-norm", "--optimizer", "adam", "--epochs", "2"]
    words += ["--keep-checkpoint-every", "1", "--name", "mine"]
    assert train.main([*words, "--out", "old", "--seed", "5"]) == 0
    assert train.main([*words, "--out", "whole"]) == 0
    fingerprint, states = read_run(Path("whole/mine"))["fingerprint"], set()
    for step in itertools.count(1):
        shutil.rmtree("runs", ignore_errors=True)
        if replaced:
            shutil.copytree("old", "runs")
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, step, lasting)
            code = train.main([*words, "--overwrite"])
        out, err = capsys.readouterr()
        if not disk.failed:
            break
        if survey(Path("runs")).damaged:  # the old run could not be put back either
            assert (lasting, replaced) == (True, True)
            assert train.main([*WORDS, "--epochs", "2", "--name", "next"]) == 0
            shutil.rmtree("runs/next")
        result = survey(Path("runs"))
        assert result.damaged == ()
        assert {path.name for path in Path("runs").iterdir()} <= {"mine"}
        status = result.runs[0].status if result.runs else "none"
        states.add((code, status))
        if code == 0:  # the sync of a folder after a rename, which some systems do not have
            assert read_run(RUN)["fingerprint"] == fingerprint
        else:
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert "No space left on device" in err
        if status == "none":
            assert not replaced
        elif replaced and read_run(RUN) == read_run(Path("old/mine")):
            continue
        elif status != "completed":
            assert train.main(["--resume", str(RUN), "--quiet"]) == 0
            capsys.readouterr()
            assert read_run(RUN)["fingerprint"] == fingerprint
    assert (0, "completed") in states
    assert (2, "killed" if lasting else "failed") in states
