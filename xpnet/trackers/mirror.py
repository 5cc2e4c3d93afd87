"""``python -m xpnet.trackers.mirror NAME FOLDER SECONDS``: copies the record of one run to one tracker.

It reads what the training writes into the run's folder until its standard input is closed: the training
has ended, or was killed. How far it came is in the folder too, in track-NAME.json, so that a resumed run
goes on where the tracker has it. Its answer, a JSON object on standard output, says where that is, or
what went wrong.
"""

import faulthandler
import hashlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xpnet._lib.files import read_regular, write_atomic
from xpnet.storage.record import METRICS_FILE, MODEL_FILE, RECORD_LIMIT, Record, read_run
from xpnet.trackers.mlflow import MLflow
from xpnet.trackers.wandb import Wandb

PAUSE = 1.0
"""Seconds from one look into the folder to the next."""
REPORT_FILE = "report.html"
LONGEST_REASON = 300
"""Characters of an error that are shown."""


TRACKERS: dict[str, Callable[[Path], MLflow | Wandb]] = {
    "wandb": partial(Wandb, "wandb"),
    "trackio": partial(Wandb, "trackio"),
    "mlflow": MLflow,
}
"""What makes the tracker of a run from its folder; loading its library is part of that.

``start`` begins a run, or goes on with the one whose id it gets, and returns the id; ``log`` logs the
figures after an epoch; ``finish`` logs files and how the run ended, and returns where the tracker has it.
"""


def main() -> int:
    """Mirror a run until the training has ended, print the answer and return 0."""
    name, folder, seconds = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)  # standard output is for the answer, not for what the libraries print
        ended = _end_of_training(float(seconds))
        try:
            answer = {"where": mirror(name, Path(folder), ended)}
        except BaseException as error:  # noqa: BLE001 - whatever a library raises is the answer
            traceback.print_exc()
            answer = {"error": _one_line(error)}
        json.dump(answer, output)
    return 0


def mirror(name: str, folder: Path, ended: threading.Event) -> str:
    """Copy the record in ``folder`` to a tracker until ``ended``; return where the tracker has it."""
    record = read_run(folder)
    started = record["started"]
    tracker = TRACKERS[name](folder)
    kept = folder / f"track-{name}.json"
    state = _state(kept, record)
    state["run"] = tracker.start(state["run"], state["name"], _settings(record, folder))
    write_atomic(kept, json.dumps(state).encode())
    rows, over = Rows(folder / METRICS_FILE), False
    while not over:
        over = ended.wait(PAUSE)
        if new := [row for row in rows.new() if row["epoch"] > state["epoch"]]:
            for row in new:
                tracker.log(row["epoch"], _numbers(row, without=("epoch",)))
            state["epoch"] = new[-1]["epoch"]
            write_atomic(kept, json.dumps(state).encode())
    record = read_run(folder)
    if record["started"] != started:
        msg = f"{folder} was replaced by another run"
        raise ValueError(msg)
    if record["metrics"]:
        tracker.log(record["metrics"]["epochs"], final_figures(record["metrics"]))
    files = [folder / MODEL_FILE, folder / REPORT_FILE]
    return tracker.finish(record, [file for file in files if file.exists()])


class Rows:
    """The rows of a metrics.jsonl that is being written."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[dict[str, Any]]:
        """Return the rows that have been completed since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a finished run that are not those of an epoch: the test figures."""
    per_class = metrics.get("test_accuracy_per_class") or []
    named = {f"test_accuracy_class_{label}": share for label, share in enumerate(per_class)}
    of_epochs = [name for name in metrics if name.startswith(("train_", "validation_"))]
    return _numbers({**metrics, **named}, without=(*of_epochs, "epochs", "seconds"))


def _numbers(values: Mapping[str, Any], without: Sequence[str]) -> dict[str, float]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and name not in without
    }


def _settings(record: Record, folder: Path) -> dict[str, Any]:
    """Return the settings, and what they came to on this machine."""
    data = record["data"]
    return {
        **record["config"],
        "folder": str(folder),
        "backend_used": record["backend"],
        "device_used": record["device_used"],
        "data_name": data["name"],
        "data_sha256": data["sha256"],
        "xpnet_version": record["versions"].get("xpnet"),
    }


def _state(path: Path, record: Record) -> dict[str, Any]:
    """Return the id and the name that the tracker has for the run, and the last epoch it has of it."""
    if path.exists():
        content = read_regular(path, RECORD_LIMIT, "expected what an earlier mirror kept")
        state: dict[str, Any] = json.loads(content)
        return state
    suffix = hashlib.sha256(record["started"].encode()).hexdigest()[:8]  # no other run has it
    return {"run": None, "name": f"{path.parent.name}-{suffix}", "epoch": -1}


def _end_of_training(seconds: float) -> threading.Event:
    """Return what is set when standard input is closed; so many seconds later this process ends."""
    ended = threading.Event()

    def wait() -> None:
        while os.read(0, 1024):
            pass
        faulthandler.dump_traceback_later(seconds, exit=True)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def _one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"


if __name__ == "__main__":
    sys.exit(main())
