"""Trains the table's networks as a user would, one after the other, and reads what the runs recorded."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import python_path

from papers.rows import HELD_OUT, Row
from xpnet._lib.files import save
from xpnet.config import TrainConfig, from_json, parse, to_json
from xpnet.errors import DataError, XPNetError
from xpnet.storage.record import Record, read_run

ALWAYS = ("--arithmetic", "native")
COST_FILE = "cost.json"
GRACE = 30.0
"""Seconds in which a training that is to stop saves its checkpoint."""
WITHOUT_CONSEQUENCE = {"out", "name", "quiet", "overwrite", "debug", "log_every", "backend", "device"}
"""Settings in which a run may differ from those it is wanted with; of the backend the page says so."""


class TrainingError(XPNetError):
    """A training did not end as it should; its own message came before."""


@dataclass(frozen=True)
class Job:
    """One training, and where its run is kept."""

    folder: Path
    words: tuple[str, ...]  # flags of xpnet train

    @property
    def config(self) -> TrainConfig:
        """The settings that the flags make.

        Raises
        ------
        ConfigError
            A flag is wrong.
        """
        return parse([*self.words], "xpnet train").config

    @property
    def command(self) -> list[str]:
        """The command line that starts the run."""
        where = ["--out", str(self.folder.parent), "--name", self.folder.name, "--quiet"]
        return [sys.executable, "-m", "xpnet.train", *self.words, *where]


@dataclass(frozen=True)
class Cost:
    """What a run took, from the start of its process to its end."""

    wall: float  # seconds
    cpu: float  # seconds of all processors


def final_job(out: Path, row: Row, seed: int) -> Job:
    """Return the training of a row on all training images."""
    folder = out / "runs" / f"{row.key}-seed-{seed}"
    return Job(folder, (*row.words, *ALWAYS, "--seed", str(seed)))


def candidate_job(out: Path, row: Row, flags: str) -> Job:
    """Return the training of a candidate without the images it is judged by."""
    words = (*flags.split(), *ALWAYS, "--validation", str(HELD_OUT), "--seed", "0")
    name = f"{row.key}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
    return Job(out / "candidates" / name, words)


def completed(job: Job) -> Record | None:
    """Return the record of a job's run if it is complete; None if it is not, or there is none.

    Raises
    ------
    DataError
        The folder holds no run, or one with other settings.
    ConfigError
        Its settings, or the job's, are none.
    """
    if not job.folder.exists():
        return None
    record = read_run(job.folder)
    wanted = to_json(job.config)
    recorded = to_json(from_json(record["config"], str(job.folder)))
    for name in sorted(wanted.keys() - WITHOUT_CONSEQUENCE):
        if wanted[name] != recorded[name]:
            msg = (
                f"{job.folder}: {name} was {recorded[name]!r} in this run and is now "
                f"{wanted[name]!r}: remove the folder to train it anew, or choose another --out"
            )
            raise DataError(msg)
    return record if record["status"] == "completed" else None


def train(job: Job, backend: str = "auto") -> Record:
    """Train to the end, from the last checkpoint if there is one, and return the record.

    A run that is begun goes on with the backend it was begun with.

    Raises
    ------
    TrainingError
        The training failed.
    KeyboardInterrupt
        The user stopped it; the run has a checkpoint of its last step.
    """
    if (record := completed(job)) is not None:
        return record
    resume = [sys.executable, "-m", "xpnet.train", "--resume", str(job.folder), "--quiet"]
    begin = [*job.command, "--backend", backend]
    code = _run(resume if job.folder.exists() else begin, job.folder)
    if code != 0 or (record := completed(job)) is None:
        msg = f"{job.folder}: the training ended with exit code {code}"
        raise TrainingError(msg)
    return record


def cost(folder: Path) -> Cost | None:
    """Return what the run in ``folder`` took, all its parts together, if that was recorded."""
    try:
        cost_record = json.loads((folder / COST_FILE).read_text(encoding="utf-8"))
        return Cost(float(cost_record["wall_seconds"]), float(cost_record["cpu_seconds"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder / COST_FILE}: damaged: remove it, the page then does without"
        raise DataError(msg) from error


def _run(command: Sequence[str], folder: Path) -> int:
    """Run a training and return its exit code; add what it took to that of its earlier parts."""
    begin, before = time.perf_counter(), _cpu_of_children()
    # Its own session: Ctrl-C at the terminal comes to it once, from here.
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": python_path()}, start_new_session=True
    )
    try:
        return process.wait()
    finally:
        _stop(process)
        if folder.exists():
            wall, cpu = time.perf_counter() - begin, _cpu_of_children() - before
            _add_cost(folder, Cost(wall, cpu))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a training that is still running, as Ctrl-C does; kill it if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait()


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _add_cost(folder: Path, part: Cost) -> None:
    before = cost(folder) or Cost(0.0, 0.0)
    total: dict[str, Any] = {
        "wall_seconds": round(before.wall + part.wall, 3),
        "cpu_seconds": round(before.cpu + part.cpu, 3),
    }
    save(folder / COST_FILE, (json.dumps(total) + "\n").encode())
