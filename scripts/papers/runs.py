"""Trains the table's networks as a user would, one after the other, and reads what the runs recorded."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shared import processor, python_path

from papers.rows import HELD_OUT, Row
from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet.config import TrainConfig, parse, to_json
from xpnet.errors import DataError, XPNetError
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import Record

NOTES_FILE = "notes.json"
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
    flags: str  # of xpnet train
    before: tuple[str, ...]  # others, which the flags override

    @property
    def words(self) -> list[str]:
        """All flags, a word an item."""
        return [*self.before, *self.flags.split()]

    @property
    def config(self) -> TrainConfig:
        """The settings that the flags make.

        Raises
        ------
        ConfigError
            A flag is wrong.
        """
        return parse(self.words, "xpnet train").config

    @property
    def command(self) -> list[str]:
        """The command line that starts the run."""
        where = ["--out", str(self.folder.parent), "--name", self.folder.name, "--quiet"]
        return [sys.executable, "-m", "xpnet.train", *self.words, *where]


@dataclass(frozen=True)
class Notes:
    """What is noted of a run besides its record: where it was trained, and what it took."""

    flags: str = ""  # of xpnet train
    machine: str = ""
    processors: int = 0
    wall: float = 0.0  # seconds from the start of its process to its end
    cpu: float = 0.0  # seconds of all processors
    verified: bool = False  # xpnet verify computed the same bits


def final_job(out: Path, row: Row, seed: int) -> Job:
    """Return the training of a row on all training images."""
    folder = out / "runs" / f"{row.key}-seed-{seed}"
    return Job(folder, row.flags, ("--seed", str(seed)))


def candidate_job(out: Path, row: Row, flags: str) -> Job:
    """Return the training of a candidate without the images it is judged by."""
    name = f"{row.key}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
    before = "--arithmetic", "native", "--validation", str(HELD_OUT), "--seed", "0"
    return Job(out / "candidates" / name, flags, before)


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
    run = RunFolder(job.folder)
    wanted, recorded = to_json(job.config), to_json(run.config)
    for name in sorted(wanted.keys() - WITHOUT_CONSEQUENCE):
        if wanted[name] != recorded[name]:
            difference = f"{name} was {recorded[name]!r} in this run and is now {wanted[name]!r}"
            remedy = "remove the folder to train it anew, or choose another --out"
            raise DataError.at(job.folder, f"{difference}: {remedy}")
    return run.record if run.record["status"] == "completed" else None


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
    code = _run(resume if job.folder.exists() else begin, job)
    if code != 0 or (record := completed(job)) is None:
        raise TrainingError.at(job.folder, f"the training ended with exit code {code}")
    return record


def verify(job: Job) -> None:
    """Compute a run again with ``xpnet verify``, unless that was done, and note that it has the same bits.

    Raises
    ------
    TrainingError
        It has other bits, or cannot be verified.
    """
    notes = read_notes(job.folder)
    if notes.verified:
        return
    command = [sys.executable, "-m", "xpnet", "verify", str(job.folder), "--quiet"]
    code = _wait(command)
    if code != 0:
        raise TrainingError.at(job.folder, f"xpnet verify ended with exit code {code}")
    _write_notes(job.folder, replace(notes, verified=True))


def read_notes(folder: Path) -> Notes:
    """Return what was noted of the run in ``folder``."""
    path = folder / NOTES_FILE
    try:
        return Notes(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Notes()
    except (OSError, ValueError, TypeError) as error:
        raise DataError.at(path, "damaged: remove it, the page then does without") from error


def _run(command: Sequence[str], job: Job) -> int:
    """Run a training and return its exit code; add what it took to that of its earlier parts."""
    begin, before = time.perf_counter(), _cpu_of_children()
    try:
        return _wait(command)
    finally:
        if job.folder.exists():
            earlier = read_notes(job.folder)
            wall = round(earlier.wall + time.perf_counter() - begin, 3)
            cpu = round(earlier.cpu + _cpu_of_children() - before, 3)
            _write_notes(job.folder, Notes(job.flags, processor(), available_cpus(), wall, cpu))


def _wait(command: Sequence[str]) -> int:
    """Run a command to its end, and return its exit code; stop it if it is interrupted."""
    # Its own session: Ctrl-C at the terminal comes to it once, from here.
    environment = {**os.environ, "PYTHONPATH": python_path()}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait()
    finally:
        _stop(process)


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


def _write_notes(folder: Path, notes: Notes) -> None:
    save(folder / NOTES_FILE, (json.dumps(asdict(notes)) + "\n").encode())
