"""``python -m xpnet.trackers.mirror NAME FOLDER SECONDS``: copy one run to one tracker.

The process reads the run's folder until its standard input is closed: training has ended, or was killed.
Standard output is the location of the run in the tracker, or, with exit code 1, the reason of the failure.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from xpnet._lib.files import write_atomic
from xpnet._lib.locks import Lock
from xpnet.storage.record import METRICS_FILE, MODEL_FILE, read_json, read_run

PROJECT = "xpnet"
"""Name of the project or experiment in the trackers."""
POLL_SECONDS = 1.0
"""Interval at which the folder is read."""
LONGEST_REASON = 300
"""The largest number of characters of an error message."""
STATUSES = {"completed": "FINISHED", "failed": "FAILED"}
"""MLflow's names of the final statuses of a run; the others are KILLED."""
ENVIRONMENT = {
    "WANDB_MODE": "offline",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_X_DISABLE_STATS": "true",  # of this process, not of the training
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Defaults of the libraries' environment variables, which the user can override."""


def main() -> int:
    """Copy a run until training has ended, print the result and return the exit code."""
    name, folder, seconds = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries print goes to standard error
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended, float(seconds), output), daemon=True).start()
    try:
        source = TrackedRun(Path(folder), name, ended)
        answer, code = copy_to_mlflow(source) if name == "mlflow" else copy_to_wandb(source, name), 0
    except BaseException as error:  # noqa: BLE001 - any error of a library is reported
        traceback.print_exc()
        answer, code = " ".join(f"{type(error).__name__}: {error}".split()).rstrip("."), 1
    output.write(answer if len(answer) <= LONGEST_REASON else f"{answer[: LONGEST_REASON - 1]}…")
    output.close()
    return code


def _wait_for_end(ended: threading.Event, seconds: float, output: IO[str]) -> None:
    """Set the event once standard input is closed, and end the process `seconds` later."""
    sys.stdin.read()
    ended.set()
    time.sleep(seconds)
    output.write(f"not done {seconds:g} s after the training")
    output.flush()
    os._exit(1)


class TrackedRun:
    """The run in a folder, while training writes it, and the progress of its copy in a tracker.

    The progress is saved in track-NAME.json, so that a resumed run continues the copy.

    Attributes
    ----------
    record
        The content of run.json; complete once all rows have been read.
    name, run
        Name and id of the run in the tracker; the id is None until the tracker assigns one.
    """

    def __init__(self, folder: Path, tracker: str, ended: threading.Event) -> None:
        self.folder, self.record, self._ended = folder, read_run(folder), ended
        suffix = hashlib.sha256(self.record["started"].encode()).hexdigest()[:8]  # unique to the run
        self.run: str | None = None
        self.name, self._epoch = f"{folder.name}-{suffix}", -1
        self._path = folder / f"track-{tracker}.json"
        if self._path.exists():
            state: Any = read_json(
                self._path, "not the state of a tracker", "expected the state of a tracker"
            )
            self.run, self.name, self._epoch = state["run"], state["name"], state["epoch"]

    @property
    def settings(self) -> dict[str, object]:
        """The settings, the data, and the device and backend that were used."""
        record = self.record
        return {
            **record["config"],
            **{f"data_{name}": value for name, value in record["data"].items()},
            "folder": str(self.folder),
            "backend_used": record["backend"],
            "device_used": record["device_used"],
            "xpnet_version": record["versions"].get("xpnet"),
        }

    @property
    def files(self) -> list[Path]:
        """The paths of the model and the report, if they exist."""
        return [path for name in (MODEL_FILE, "report.html") if (path := self.folder / name).exists()]

    def read_rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield epoch and metrics of each logged epoch until training has ended, and then the test metrics.

        Epochs that were copied already are left out.
        """
        path, started = self.folder / METRICS_FILE, self.record["started"]
        size, saved, ended = 0, None, False
        while not ended:
            ended = self._ended.wait(POLL_SECONDS)
            self.record = read_run(self.folder)
            if self.record["started"] != started:
                msg = f"{self.folder} was replaced by another run"
                raise ValueError(msg)
            text = path.read_bytes()[size:] if path.exists() else b""
            for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
                size += len(line)
                row = _select_numbers(json.loads(line))
                if (epoch := int(row.pop("epoch"))) > self._epoch:
                    yield epoch, row
                    self._epoch = epoch
            if self._epoch != saved:
                state = {"run": self.run, "name": self.name, "epoch": self._epoch}
                write_atomic(self._path, json.dumps(state).encode())
                saved = self._epoch
        if metrics := self.record["metrics"]:
            yield int(_select_numbers(metrics)["epochs"]), select_final_metrics(metrics)


def select_final_metrics(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return the metrics of a finished run that no single epoch has."""
    accuracies = metrics.get("test_accuracy_per_class")
    shares = enumerate(accuracies if isinstance(accuracies, list) else [])
    per_class = {f"test_accuracy_class_{label}": share for label, share in shares}
    values = _select_numbers({**metrics, **per_class})
    return {name: value for name, value in values.items() if name.startswith(("test_", "best_"))}


def _select_numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {key: v for key, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def copy_to_wandb(source: TrackedRun, library: str) -> str:
    """Copy a run to wandb or trackio, which have the same functions, and return its location.

    wandb writes into the folder ``wandb`` beside the run's, offline, unless its own environment variables
    say otherwise; trackio into the folder that ``trackio show`` reads.
    """
    out = source.folder.resolve().parent
    folders = {"WANDB_DIR": str(out), "WANDB_DATA_DIR": str(out / "wandb")}  # the latter for a later sync
    os.environ |= {**ENVIRONMENT, **folders, **os.environ}
    project = os.environ.get(f"{library.upper()}_PROJECT", PROJECT)
    module = import_module(library)
    source.run = source.run or source.name.rpartition("-")[2]
    os.environ["WANDB_RUN_ID"] = source.run  # trackio identifies runs by name
    # trackio only warns when it loses data.
    with warnings.catch_warnings(record=library == "trackio") as caught:
        run = module.init(project=project, name=source.name, config=source.settings, resume="allow")
        for epoch, metrics in source.read_rows():
            run.log(metrics, step=epoch)
        metadata = {key: source.record[key] for key in ("status", "fingerprint")}
        for file in source.files:
            artifact = module.Artifact(f"{file.stem}-{source.run}", type=file.stem, metadata=metadata)
            artifact.add_file(str(file))
            run.log_artifact(artifact)
        if library == "wandb":
            location: str = run.url or os.path.relpath(Path(run.dir).parent)
            run.finish(exit_code=int(source.record["status"] != "completed"))
            return location
        run.finish()
    folder = str(Path(module.__file__ or "").parent)
    for warning in caught or []:
        if issubclass(warning.category, UserWarning) and warning.filename.startswith(folder):
            raise RuntimeError(warning.message)
    return f"project {project}, run {source.name}"


def copy_to_mlflow(source: TrackedRun) -> str:
    """Copy a run to MLflow, and return its location.

    MLflow writes into mlflow.db beside the run's folder, or to MLFLOW_TRACKING_URI if that is set.
    """
    out = source.folder.resolve().parent
    default = f"sqlite:///{(out / 'mlflow.db').as_posix().replace('%', '%25').replace('?', '%3F')}"
    os.environ |= {**ENVIRONMENT, "MLFLOW_TRACKING_URI": default, **os.environ}
    local = os.environ["MLFLOW_TRACKING_URI"] == default
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    mlflow = import_module("mlflow")
    # Two clients must not create the tables at the same time.
    lock = Lock.take(out / ".mlflow.lock", wait=60) if local else None
    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(experiment) is None:
        client.create_experiment(experiment, (out / "mlartifacts").as_uri() if local else None)
    if lock is not None:
        lock.release()
    if source.run is None:
        experiment_id = client.get_experiment_by_name(experiment).experiment_id
        started = _to_milliseconds(source.record["started"])
        source.run = client.create_run(experiment_id, started, run_name=source.name).info.run_id
        settings = {key: value for key, value in source.settings.items() if value is not None}
        texts = [value if isinstance(value, str) else json.dumps(value) for value in settings.values()]
        mlflow.log_params(dict(zip(settings, texts, strict=True)), run_id=source.run)
    client.update_run(source.run, "RUNNING")
    for epoch, metrics in source.read_rows():
        mlflow.log_metrics(metrics, epoch, run_id=source.run)
    record = source.record
    if record["fingerprint"]:
        client.set_tag(source.run, "fingerprint", record["fingerprint"])
    for file in source.files:
        client.log_artifact(source.run, str(file))
    status = STATUSES.get(record["status"], "KILLED")
    client.set_terminated(source.run, status, _to_milliseconds(record["ended"]))
    # A URI set by the user may contain a password.
    store = f"{source.folder.parent / 'mlflow.db'}, " if local else ""
    return f"{store}experiment {experiment}, run {source.name}"


def _to_milliseconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main())
